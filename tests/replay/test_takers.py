"""Who takes an event off its port: a handler, a poller, another vCPU; or a close comes first."""

import pytest

from evtrace.timeline import Kind, RecordClass, Runstate
from evtrace.verdicts import Cause, Fate, Route
from evtrace.xen.abi import DOMID_SELF, EvtchnOp, HYPERVISOR_sched_op
from tests.timeline_builder import connected

KICKER = 2  # d0:2, an IPI


def fates(results):
    return [send.fate for send in results.sends]


def polled():
    """Two kicks of a port, which its poller then clears."""
    script = connected()
    script.send(10, 12, KICKER)
    script.send(13, 15, KICKER)
    script.add(20, Kind.CLEAR, 0, 1, port=KICKER)
    return script


def test_a_poller_takes_an_event_without_a_handler():
    results = polled().replay()

    assert fates(results) == [Fate.DELIVERED, Fate.COALESCED]
    assert [send.run_seq for send in results.sends] == [None, None]


def test_a_poller_took_the_event_before_the_port_is_closed():
    script = polled()
    script.call(30, 31, EvtchnOp.CLOSE, KICKER)

    assert fates(script.replay()) == [Fate.DELIVERED, Fate.COALESCED]


def test_a_second_kick_is_an_event_of_its_own():
    script = polled()
    script.send(30, 31, KICKER)
    script.add(40, Kind.CLEAR, 0, 1, port=KICKER)

    assert fates(script.replay()) == [Fate.DELIVERED, Fate.COALESCED, Fate.DELIVERED]


def test_without_upcalls_captured_nobody_is_known_to_poll():
    results = polled().replay((0, RecordClass.UPCALL))

    assert fates(results) == [Fate.PENDING_AT_END] * 2


def test_a_handler_that_comes_after_all_takes_what_seemed_polled():
    script = polled()
    script.add(21, Kind.HANDLER_ENTER, 0, 1, port=KICKER, irq=102)

    results = script.replay()

    assert [run.cause for run in results.runs] == [Cause.IPI]
    assert results.sends[0].run_seq == results.runs[0].seq


@pytest.mark.parametrize(("closes", "fate"), [(False, Fate.PENDING_AT_END), (True, Fate.CLOSED)])
def test_an_event_cleared_for_a_handler_that_never_runs(closes, fate):
    script = connected()
    script.send(10, 12, 1, dom=1)
    script.add(20, Kind.UPCALL_ENTER, 0)
    script.add(21, Kind.CLEAR, 0, port=1)
    if closes:
        script.call(30, 31, EvtchnOp.CLOSE, 1, vcpu=1)

    assert fates(script.replay()) == [fate]


@pytest.mark.parametrize(
    ("scans_since", "cause"), [(15, Cause.DOUBLE_HANDLE), (30, Cause.UNPROVOKED)]
)
def test_an_event_that_another_vcpu_took_during_the_scan(scans_since, cause):
    script = connected()
    script.send(10, 12, 1, dom=1)
    script.run(20, 1)
    script.add(scans_since, Kind.UPCALL_ENTER, 0, 1)
    script.add(40, Kind.CLEAR, 0, 1, port=1)
    script.add(41, Kind.HANDLER_ENTER, 0, 1, port=1, irq=101)

    results = script.replay()

    assert [run.cause for run in results.runs] == [Cause.SEND, cause]
    assert bool(results.divergences) == (cause is Cause.UNPROVOKED)


@pytest.mark.parametrize(("taken", "port"), [(True, 1), (False, 3)])
def test_a_closed_port_is_busy_until_it_is_taken_off_its_queue(taken, port):
    script = connected()
    script.send(10, 12, 1, dom=1)
    script.call(20, 21, EvtchnOp.CLOSE, 1, vcpu=1)
    script.add(22, Kind.UPCALL_ENTER, 0)
    if taken:
        script.add(23, Kind.CONSUME, 0, port=1)
    script.call(30, 31, EvtchnOp.BIND_IPI, 0, out=(port,), vcpu=1)

    assert script.replay().divergences == []


def test_a_port_linked_again_before_its_bit_is_cleared_stays_linked():
    script = connected()
    script.add(5, Kind.UPCALL_ENTER, 0)
    script.send(10, 12, 1, dom=1)
    script.add(20, Kind.CONSUME, 0, port=1)
    script.send(21, 22, 1, dom=1)
    script.add(23, Kind.CLEAR, 0, port=1)
    script.call(30, 31, EvtchnOp.CLOSE, 1, vcpu=1)
    script.call(32, 33, EvtchnOp.BIND_IPI, 0, out=(3,), vcpu=1)

    assert script.replay().divergences == []


@pytest.mark.parametrize("fifo", [False, True])
def test_a_new_domain_has_all_ports_masked(fifo):
    script = connected()
    script.add(5, Kind.DOMAIN_CREATED, 3, 0xFFFF, a0=1)
    if fifo:
        script.call(6, 7, EvtchnOp.INIT_CONTROL, 9, 0, 0, 0, out=(17,), dom=3)
        script.call(8, 9, EvtchnOp.EXPAND_ARRAY, 10, 0, dom=3)
    script.call(10, 11, EvtchnOp.BIND_IPI, 0, out=(1,), dom=3)
    script.send(20, 21, 1, dom=3)

    results = script.replay()

    assert results.divergences == []
    assert fates(results) == [Fate.HELD_MASKED]


def test_after_a_reset_all_ports_are_masked():
    script = connected()
    script.call(10, 11, EvtchnOp.RESET, DOMID_SELF)
    script.call(12, 13, EvtchnOp.BIND_IPI, 0, out=(1,))
    script.send(20, 21, 1)

    assert fates(script.replay()) == [Fate.HELD_MASKED]


def test_an_upcall_of_a_destroyed_domain_is_not_empty():
    script = connected()
    script.add(10, Kind.UPCALL_ENTER, 1)
    script.add(20, Kind.DOMAIN_DESTROYED, 1, 0xFFFF)
    script.add(30, Kind.DOMAIN_CREATED, 1, 0xFFFF, a0=1)
    script.add(40, Kind.UPCALL_ENTER, 1)
    script.add(41, Kind.UPCALL_EXIT, 1)

    assert script.replay().empty_upcalls[1] == 1


def slept(*, kick_at, wakes_at=30, upcall_at=None):
    """d0v1 sleeps in SCHEDOP_poll from 12 until `wakes_at` and takes the kick at 40."""
    script = connected()
    script.add(10, Kind.HYPERCALL, 0, 1, op=HYPERVISOR_sched_op, a0=3)
    script.add(12, Kind.RUNSTATE, 0, 1, op=Runstate.RUNNING << 4 | Runstate.BLOCKED)
    script.send(kick_at, kick_at + 1, KICKER)
    script.add(wakes_at, Kind.RUNSTATE, 0, 1, op=Runstate.BLOCKED << 4 | Runstate.RUNNABLE)
    if upcall_at is not None:
        script.add(upcall_at, Kind.UPCALL_ENTER, 0, 1)
        script.add(upcall_at + 1, Kind.UPCALL_EXIT, 0, 1)
    script.add(40, Kind.CLEAR, 0, 1, port=KICKER)
    return script


def test_a_kick_wakes_who_sleeps_in_a_poll():
    (send,) = slept(kick_at=20).replay().sends

    assert (Fate.DELIVERED, (Route.POLL_WAKE,)) == (send.fate, send.routes)


@pytest.mark.parametrize(
    "script",
    [
        slept(kick_at=5),  # it was there before the vCPU polled
        slept(kick_at=35),  # the poll had timed out
        slept(kick_at=20, upcall_at=32),  # an upcall may have ended it
    ],
)
def test_a_kick_that_woke_nobody(script):
    (send,) = script.replay().sends

    assert (Fate.DELIVERED, ()) == (send.fate, send.routes)


@pytest.mark.parametrize("missing", [RecordClass.SCHED, RecordClass.HYPERCALL])
def test_without_the_schedulers_records_nobody_is_known_to_sleep(missing):
    (send,) = slept(kick_at=20).replay((0, missing)).sends

    assert (Fate.DELIVERED, ()) == (send.fate, send.routes)


def test_only_the_first_kick_wakes():
    script = slept(kick_at=20)
    script.send(25, 26, KICKER)

    assert [(Route.POLL_WAKE,), ()] == [send.routes for send in script.replay().sends]
