"""Timing profiles: what each step of the machine costs. They are models, not measurements.

`pinned-x86` and `shared` are fitted to published figures (docs/emulator.md says how far); `zero`
costs next to nothing and is for tests of logic; `demo-2017` adds the published times of one run.
"""

from dataclasses import dataclass, field, replace
from math import exp
from random import Random
from statistics import NormalDist
from typing import Final

from evtrace.errors import UsageError
from evtrace.tracefile.family import Timing as TimingKind


@dataclass(frozen=True, slots=True)
class TimingProfile:
    """Costs in nanoseconds; each is spread log-normally by `sigma` and is at least 1 cycle."""

    name: str
    kind: TimingKind
    summary: str
    tsc_hz: int = 2_100_000_000
    sigma: float = 0.0
    enter_xen: int = 150
    """From the guest's instruction to Xen's record of the hypercall."""
    leave_xen: int = 450
    """From there back to the guest."""
    event_check_ipi: int = 1_000
    """From marking a running vCPU of another pCPU to Xen having it."""
    wake: int = 2_600
    """From waking a vCPU to its pCPU scheduling it."""
    context_switch: int = 700
    upcall_entry: int = 300
    memory: int = 20
    """One access to shared memory."""
    dispatch: int = 200
    """The guest's way from a found port to its handler."""
    handler: int = 500
    printk: int = 4_000
    wake_tail: tuple[float, int, int] | None = None
    """(share, from, to): so many wake-ups take a time in between, evenly spread."""
    script: dict[str, int] = field(default_factory=dict)
    """Label -> microseconds since the recording began at which `Kernel.until` lets go."""
    kernel_clocks: dict[str, int] = field(default_factory=dict)
    """Name of a domain -> microseconds on its kernel's clock when the recording begins."""

    def cycles(self, ns: float) -> int:
        """Convert nanoseconds, at least one cycle."""
        return max(1, round(ns * self.tsc_hz / 1_000_000_000))

    def seconds(self, cycles: int) -> float:
        """Convert cycles to seconds."""
        return cycles / self.tsc_hz


PINNED: Final = TimingProfile(
    "pinned-x86",
    TimingKind.MODELLED,
    "vCPUs on pCPUs of their own: about 5 µs from a send to its handler",
    sigma=0.25,
)

_DEMO_START_US: Final = 81_330_000
"""When recording begins, by the domU's kernel clock: shortly before its module is loaded."""
_DEMO_DOM0_US: Final = 79_269_144_448
"""dom0's kernel clock less the domU's: in the middle of what causality allows."""

TIMINGS: Final[dict[str, TimingProfile]] = {
    profile.name: profile
    for profile in (
        PINNED,
        replace(
            PINNED,
            name="shared",
            summary="the same, and 15 of 100 wake-ups wait 0.2 to 30 ms for a pCPU",
            wake_tail=(0.15, 200_000, 30_000_000),
        ),
        TimingProfile(
            "zero",
            TimingKind.MODELLED,
            "every step costs one cycle: for tests of logic",
            enter_xen=0,
            leave_xen=0,
            event_check_ipi=0,
            wake=0,
            context_switch=0,
            upcall_entry=0,
            memory=0,
            dispatch=0,
            handler=0,
            printk=0,
        ),
        TimingProfile(
            "demo-2017",
            TimingKind.SCRIPTED,
            "the published times of the demonstration; for that scenario",
            wake=5_215_000,
            printk=1,
            script={
                "domU new evtchn": 81_340_632 - _DEMO_START_US,
                "domU bound": 81_340_670 - _DEMO_START_US,
                "domU handled": 114_224_679 - _DEMO_START_US,
                "dom0 init": 79_383_358_635 - _DEMO_DOM0_US - _DEMO_START_US,
                "dom0 requests": 79_383_363_880 - _DEMO_DOM0_US - _DEMO_START_US,
                "dom0 handled 1": 79_383_363_885 - _DEMO_DOM0_US - _DEMO_START_US,
                "dom0 bound": 79_383_363_902 - _DEMO_DOM0_US - _DEMO_START_US,
                "dom0 handled 2": 79_383_374_352 - _DEMO_DOM0_US - _DEMO_START_US,
            },
            kernel_clocks={"domU": _DEMO_START_US, "dom0": _DEMO_DOM0_US + _DEMO_START_US},
        ),
    )
}
"""Profiles by name."""


def find_timing(name: str) -> TimingProfile:
    """Find a timing profile by name, else `UsageError`."""
    if name not in TIMINGS:
        message = f"no timing {name!r}; known are {', '.join(TIMINGS)}"
        raise UsageError(message)
    return TIMINGS[name]


_SPREADS: Final = 1 << 11
"""Draws from a table take a third of the time of `lognormvariate`."""


def _spreads(sigma: float) -> list[float]:
    """Give evenly spaced quantiles of the log-normal distribution around 1; none without spread."""
    if not sigma:
        return []
    normal = NormalDist(0.0, sigma)
    return [exp(normal.inv_cdf((place + 0.5) / _SPREADS)) for place in range(_SPREADS)]


class Costs:
    """Draws what a step costs this time, in cycles; `chaos` adds delays anywhere."""

    CHAOS_SHARE: Final = 0.08
    """Share of the steps that chaos holds up."""
    CHAOS_MEAN_NS: Final = 20_000
    CHAOS_PREEMPTS: Final = 0.01
    """Share of the steps in which chaos takes the pCPU away."""

    def __init__(self, profile: TimingProfile, random: Random, *, chaos: bool) -> None:
        self.profile = profile
        self.chaos = chaos
        self._random = random
        self._scale = profile.tsc_hz / 1_000_000_000
        self._spreads = _spreads(profile.sigma)

    def draw(self, ns: int) -> int:
        """Draw the cycles of a step that costs `ns` as a rule."""
        cost = ns * self._scale
        if ns and self._spreads:
            cost *= self._spreads[int(self._random.random() * _SPREADS)]
        if self.chaos and self._random.random() < self.CHAOS_SHARE:
            cost += self._random.expovariate(1 / self.CHAOS_MEAN_NS) * self._scale
        return int(cost + 0.5) or 1

    def preempts(self) -> bool:
        """Draw whether chaos takes the pCPU away in the midst of a step."""
        return self.chaos and self._random.random() < self.CHAOS_PREEMPTS

    def draw_wake(self) -> int:
        """Draw the cycles from waking a vCPU to its pCPU scheduling it."""
        cycles = self.draw(self.profile.wake)
        tail = self.profile.wake_tail
        if tail and self._random.random() < tail[0]:
            cycles += self.profile.cycles(self._random.uniform(tail[1], tail[2]))
        return cycles
