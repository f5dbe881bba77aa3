"""Periodic threads: the timer VIRQ of each vCPU, and how late a busy host makes it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab
    from evtrace.tracer.emulator.linux import Linux
    from evtrace.tracer.emulator.steps import Task


def timer(
    lab: "Lab",
    *,
    ticks: int = 50,
    period: float = 0.002,
    vcpus: int = 4,
    load: float = 0.1,
    crowded: bool = False,
) -> None:
    """Timer VIRQs wake a periodic thread on each vCPU; where vCPUs share a pCPU they come late.

    ticks: so often each thread wakes.
    period: seconds between two ticks of vCPU 0; each further vCPU's is a quarter longer.
    vcpus: of the domain.
    load: share of its period that a thread computes.
    crowded: all vCPUs run on one pCPU.
    """
    linux = lab.domain("domU", vcpus=vcpus, pinned=(0,) if crowded else ())
    lab.total = vcpus * ticks
    for vcpu in range(vcpus):
        own_period = period * (1 + vcpu / 4)
        lab.start(linux, _tick(linux, ticks, own_period, load), vcpu)


def _tick(linux: "Linux", ticks: int, period: float, load: float) -> "Task":
    """Wake at multiples of a period, compute, and tell at the end how late that was."""
    cpu, timing = linux.current, linux.lab.settings.timing
    due, worst, total = cpu.now, 0, 0
    for _ in range(ticks):
        due += timing.cycles(period * 1_000_000_000)
        if cpu.now < due:
            yield linux.sleep(timing.seconds(due - cpu.now))
        late = max(0, cpu.now - due)
        worst, total = max(worst, late), total + late
        yield round(load * period * 1_000_000_000)
        linux.lab.done += 1
    mean_us = timing.seconds(total) / max(1, ticks) * 1_000_000
    worst_us = timing.seconds(worst) * 1_000_000
    yield linux.log(f"vcpu {cpu.number}: {mean_us:.0f} us late on average, {worst_us:.0f} at worst")
