"""What the emulated kernels do with their ports."""

from itertools import pairwise
from pathlib import Path

import pytest

from evtrace.api import Trace
from evtrace.timeline import Kind
from evtrace.tracer.emulator.evtchn_dev import EvtchnFile
from evtrace.tracer.emulator.lab import Lab, Settings
from evtrace.tracer.emulator.linux import HZ, Linux, handler_of
from evtrace.tracer.emulator.session import record
from evtrace.tracer.emulator.small import SmallKernel
from evtrace.tracer.emulator.steps import Completion, GuestError, Task
from evtrace.tracer.emulator.timing import TIMINGS
from evtrace.verdicts import Cause, Fate
from evtrace.xen.abi import Errno, FormName

BOTH = pytest.mark.parametrize("form", FormName)


def play(scenario, path: Path, **settings):
    """Record a scenario and replay it."""
    lab = Lab(Settings(**settings))
    record(lab, scenario, path / "t.bin", source="test", force=True)
    with Trace(path / "t.bin") as trace:
        return lab, trace.replay()


def peers(lab: Lab) -> tuple[Linux, Linux]:
    return lab.domain("dom0", 0), lab.domain("domU")


@BOTH
def test_a_port_is_masked_until_its_irq_is_requested(tmp_path, form):
    """The event of the bind comes when the handler is set, however late that is."""

    def dom0(linux: Linux, offer) -> Task:
        irq = yield linux.bind_interdomain_evtchn_to_irq(1, (yield offer.get(linux)))
        yield linux.sleep(0.02)
        yield linux.log("requesting")
        yield linux.request_irq(irq, handler_of(), "late")

    def domu(linux: Linux, offer) -> Task:
        offer.put((yield linux.alloc_unbound(0)))

    def scenario(lab: Lab) -> None:
        back, front = peers(lab)
        offer = lab.mailbox()
        lab.start(front, domu(front, offer))
        lab.start(back, dom0(back, offer))

    lab, results = play(scenario, tmp_path, form=form)
    (run,) = [run for run in results.runs if run.cause is not Cause.VIRQ]

    assert run.cause is Cause.BIND_CONSERVATIVE
    assert run.tsc - lab.recording_since > lab.logs[0].lines[0].tsc
    assert not results.divergences


@pytest.mark.parametrize("spurious", [1, 5])
def test_a_driver_that_finds_no_work_waits_longer_each_time(tmp_path, spurious):
    """xen_irq_lateeoi: one is free, then 1, 2, 4, … jiffies."""
    ended = []

    def handler_for(linux: Linux):
        def handler(irq: int) -> Task:
            ended.append(linux.current.now)
            yield linux.xen_irq_lateeoi(irq, spurious=True)

        return handler

    def back(linux: Linux, offer) -> Task:
        port = yield offer.get(linux)
        yield linux.bind_interdomain_evtchn_to_irqhandler(
            1, port, handler_for(linux), "back", late_eoi=True
        )

    def front(linux: Linux, offer) -> Task:
        port = yield linux.alloc_unbound(0)
        offer.put(port)
        for _ in range(400):
            yield linux.sleep(0.0005)
            yield linux.send(port)
            if len(ended) > spurious:
                return

    def scenario(lab: Lab) -> None:
        dom0, domu = peers(lab)
        offer = lab.mailbox()
        lab.start(domu, front(domu, offer))
        lab.start(dom0, back(dom0, offer))

    lab, results = play(scenario, tmp_path)
    gaps = [lab.settings.timing.seconds(b - a) * HZ for a, b in pairwise(ended)]

    assert gaps[0] < 1
    for number, gap in enumerate(gaps[1:spurious]):
        assert 1 << number <= gap < (1 << number) + 1
    assert sum(run.work is not None for run in results.runs) == len(ended)


def small_scenario(lab: Lab, kernel: str) -> SmallKernel:
    """Send to a port while its guest, a small kernel, has it masked."""
    dom0, small = lab.domain("dom0", 0), lab.small_domain("small", kernel=kernel)
    offer, bound = lab.mailbox(), lab.mailbox()

    def back(linux: Linux) -> Task:
        port = yield linux.alloc_unbound(small.dom)
        offer.put(port)
        yield bound.get(linux)
        yield linux.send(port)

    def guest(kernel: SmallKernel) -> Task:
        port = yield offer.get(kernel)
        local = yield kernel.bind_interdomain_event_channel(0, port, handler_of())
        yield kernel.mask_event_channel(local)
        bound.put(local)
        yield kernel.sleep(0.005)
        yield kernel.unmask_event_channel(local)

    lab.start(small, guest(small))
    lab.start(dom0, back(dom0))
    return small


@pytest.mark.parametrize(
    ("kernel", "missed", "fate"), [("zephyr", 1, None), ("unikraft", 0, Fate.DELIVERED)]
)
def test_kernels_differ_in_what_they_miss(tmp_path, kernel, missed, fate):
    """Zephyr has no handler yet when the bind's event comes, and does not look when it unmasks."""
    kernels: list[SmallKernel] = []
    _, results = play(
        lambda lab: kernels.append(small_scenario(lab, kernel)), tmp_path, form=FormName.TWO_LEVEL
    )
    binds = [run for run in results.runs if run.cause is Cause.BIND_CONSERVATIVE]
    delivered = [send.fate for send in results.sends if send.fate is Fate.DELIVERED]

    assert len(binds) == 1
    assert kernels[0].missed == missed
    assert delivered == ([fate] if fate else [])
    assert not results.divergences


@BOTH
def test_a_process_gets_its_events_from_dev_evtchn(tmp_path, form):
    """It reads ports, and a port that is not given back stays masked."""
    read = []

    def daemon(linux: Linux, offer) -> Task:
        file = EvtchnFile(linux)
        port = yield file.bind_unbound_port(1)
        offer.put(port)
        for _ in range(5):
            read.append((yield file.read()))
            yield 5_000
            yield file.write(port)
        read.append((yield file.read()))

    def peer(linux: Linux, offer) -> Task:
        port = yield offer.get(linux)
        irq = yield linux.bind_interdomain_evtchn_to_irqhandler(0, port, handler_of(), "peer")
        for _ in range(8):
            yield linux.notify_remote_via_irq(irq)
            yield linux.sleep(0.001)

    def scenario(lab: Lab) -> None:
        dom0, domu = peers(lab)
        offer = lab.mailbox()
        lab.start(dom0, daemon(dom0, offer))
        lab.start(domu, peer(domu, offer))

    _, results = play(scenario, tmp_path, form=form)
    fates = [send.fate for send in results.sends]

    assert len(read) == 6
    assert len(set(read)) == 1
    assert fates == [Fate.DELIVERED] * 6 + [Fate.HELD_MASKED] * 2
    assert not results.divergences


@BOTH
def test_events_follow_an_irq_to_another_vcpu(tmp_path, form):
    def dom0(linux: Linux, offer) -> Task:
        port, moved = yield offer.get(linux)
        irq = yield linux.bind_interdomain_evtchn_to_irqhandler(1, port, handler_of(), "moving")
        yield linux.irq_set_affinity(irq, 1)
        moved.put(irq)

    def domu(linux: Linux, offer) -> Task:
        port, moved = (yield linux.alloc_unbound(0)), linux.lab.mailbox()
        offer.put((port, moved))
        yield moved.get(linux)
        yield linux.send(port)

    def scenario(lab: Lab) -> None:
        back, front = lab.domain("dom0", 0, vcpus=2), lab.domain("domU")
        offer = lab.mailbox()
        lab.start(front, domu(front, offer))
        lab.start(back, dom0(back, offer))

    _, results = play(scenario, tmp_path, form=form)
    vcpus = [run.vcpu for run in results.runs if run.cause is Cause.SEND]

    assert vcpus == [1]
    assert not results.divergences


def test_a_refused_call_is_an_error_that_a_program_may_catch(tmp_path):
    caught = []

    def program(linux: Linux) -> Task:
        try:
            yield linux.close(77)
        except GuestError as error:
            caught.append(error.ret)

    def scenario(lab: Lab) -> None:
        linux = lab.domain("domU")
        lab.start(linux, program(linux))

    _, results = play(scenario, tmp_path)

    assert caught == [-Errno.EINVAL]
    assert results.compared == results.hypercalls == 1


@pytest.mark.parametrize("timing", ["zero", "pinned-x86", "shared"])
def test_a_thread_sleeps_no_less_than_it_asked_for(tmp_path, timing):
    woken = []

    def program(linux: Linux) -> Task:
        for _ in range(20):
            before = linux.current.now
            yield linux.sleep(0.001)
            woken.append(linux.lab.settings.timing.seconds(linux.current.now - before))

    def scenario(lab: Lab) -> None:
        linux = lab.domain("domU")
        lab.start(linux, program(linux))

    play(scenario, tmp_path, timing=TIMINGS[timing])

    assert len(woken) == 20
    assert min(woken) >= 0.001


def test_a_completion_told_before_anybody_waits_is_kept(tmp_path):
    got = []

    def program(linux: Linux) -> Task:
        done = Completion()
        yield linux.complete(done, "early")
        got.append((yield linux.wait_for_completion(done)))

    def scenario(lab: Lab) -> None:
        linux = lab.domain("domU")
        lab.start(linux, program(linux))

    play(scenario, tmp_path)

    assert got == ["early"]


@pytest.mark.parametrize("pvh", [False, True])
def test_an_upcall_is_injected_into_a_pvh_guest_and_not_into_a_pv_one(rows_of, pvh):
    def program(linux: Linux) -> Task:
        yield linux.sleep(0.001)

    def scenario(lab: Lab) -> None:
        linux = lab.domain("domU")
        lab.start(linux, program(linux))

    kinds = [Kind(row.kind) for row in rows_of(scenario, Settings(pvh=pvh))]

    assert (Kind.INJECT in kinds) == pvh
    assert (Kind.VMEXIT in kinds) == pvh
    assert Kind.UPCALL_ENTER in kinds
