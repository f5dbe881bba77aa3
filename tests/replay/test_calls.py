"""Pairing of calls, and the order of calls that overlap."""

import pytest

from evtrace.replay.calls import Call, CallPairing
from evtrace.timeline import Kind
from evtrace.xen.abi import EvtchnOp
from tests.timeline_builder import IPI, UNBOUND, Script, connected

ALLOC, BIND_IPI, CLOSE = EvtchnOp.ALLOC_UNBOUND, EvtchnOp.BIND_IPI, EvtchnOp.CLOSE


def paired(script, **options):
    rows = sorted(script.rows, key=lambda row: (row.tsc_lo, row.seq))
    return list(CallPairing(rows, **options))


def empty_domain(*channels):
    script = Script()
    script.snapshot(1, 0, *channels)
    return script


def test_calls_nest_and_the_innermost_takes_the_record():
    script = Script()
    outer = script.send(10, 100, 1)
    inner = script.send(20, 40, 2)
    first = script.add(30, Kind.HYPERCALL, op=32)
    second = script.add(50, Kind.HYPERCALL, op=32)

    calls = paired(script)

    assert [(inner.seq, first), (outer.seq, second)] == [
        (call.enter.seq, call.record) for call in calls
    ]
    assert [(30, 40), (50, 100)] == [(call.lo, call.hi) for call in calls]


def test_a_call_takes_its_place_at_its_record():
    script = Script()
    script.send(10, 100, 1)
    between = script.add(20, Kind.UPCALL_ENTER)
    script.add(30, Kind.HYPERCALL, op=32)

    first, second = paired(script)

    assert first == between
    assert isinstance(second, Call)


def test_a_record_of_another_vcpu_belongs_to_no_call():
    script = Script()
    script.send(10, 100, 1)
    stray = script.add(30, Kind.HYPERCALL, vcpu=1, op=32)

    call, left = paired(script)

    assert call.record is None
    assert left == stray


def test_the_record_of_a_task_that_moved_is_found_at_its_exit():
    script = Script()
    script.send(10, 100, 1)
    script.rows[-1] = script.rows[-1]._replace(vcpu=1)
    record = script.add(50, Kind.HYPERCALL, vcpu=1, op=32)

    (call,) = paired(script)

    assert call.record == record


def test_a_record_whose_vcpu_is_not_known_goes_to_the_only_call_it_can_belong_to():
    script = Script()
    script.send(10, 100, 1)
    record = script.add(50, Kind.HYPERCALL, dom=None, vcpu=None, op=32)

    (call,) = paired(script)

    assert call.record == record


def test_a_call_that_never_returns_does_not_hold_the_rest_for_ever():
    script = connected()
    script.send(10, None, 1)
    for tsc in range(20, 60):
        script.add(tsc, Kind.UPCALL_ENTER)
    script.send(70, 72, 1)

    items = paired(script, held_rows=10)
    results = script.replay()

    assert [None, 0] == [item.rc for item in items if isinstance(item, Call)]
    assert (2, 1, 1) == (results.hypercalls, results.compared, results.unknown)


def test_overlapping_calls_are_taken_in_the_order_that_explains_their_answers():
    script = empty_domain()
    script.call(10, 100, BIND_IPI, 0, out=(2,), vcpu=0)
    script.call(20, 90, BIND_IPI, 1, out=(1,), vcpu=1)

    results = script.replay()

    assert results.divergences == []
    assert results.compared == 2


def test_a_close_that_overlaps_an_allocation():
    script = empty_domain((1, IPI, 0, 0, 0))
    script.call(10, 100, CLOSE, 1, vcpu=0)
    script.call(20, 90, BIND_IPI, 1, out=(2,), vcpu=1)  # before the close: 1 is still taken

    assert script.replay().divergences == []


def test_calls_that_do_not_overlap_keep_their_order():
    script = empty_domain()
    late = script.call(10, 15, BIND_IPI, 0, out=(2,), vcpu=0)
    script.call(20, 90, BIND_IPI, 1, out=(1,), vcpu=1)

    results = script.replay()

    assert late.seq == results.divergences[0].seq


def test_no_order_explains_the_same_port_given_twice():
    script = empty_domain()
    script.call(10, 100, BIND_IPI, 0, out=(1,), vcpu=0)
    script.call(20, 90, BIND_IPI, 1, out=(1,), vcpu=1)

    assert script.replay().divergences


@pytest.mark.parametrize("op", [99, 15])
def test_an_unknown_operation_is_enosys(op):
    script = empty_domain()
    script.call(10, 12, op, rc=-38)

    results = script.replay()

    assert (1, []) == (results.compared, results.divergences)


def test_a_divergence_shows_where_what_and_its_surroundings():
    script = empty_domain((5, UNBOUND, 0, 1, 0))
    script.send(8, 9, 5)
    wrong = script.call(10, 12, ALLOC, 0x7FF0, 1, out=(3,))
    script.send(14, 15, 5)

    (found,) = script.replay().divergences

    assert (wrong.seq, 10, "alloc_unbound(dom=32752, remote_dom=1)") == (
        found.seq,
        found.tsc,
        found.what,
    )
    assert ("0 port=1", "0 port=3") == (found.expected, found.found)
    assert ["send(port=5) = 0", "alloc_unbound(dom=32752, remote_dom=1) = 0 port=3"] == [
        line.split(maxsplit=3)[3] for line in found.around[-3:-1]
    ]


def test_after_a_divergence_the_replay_goes_on_from_what_xen_answered():
    script = empty_domain()
    script.call(10, 12, BIND_IPI, 0, out=(3,))
    script.send(20, 22, 3)

    assert len(script.replay().divergences) == 1


def test_a_return_whose_entry_was_not_seen_is_an_unknown_hypercall():
    script = empty_domain()
    script.call(10, 12, BIND_IPI, 0, out=(1,))
    del script.rows[-2]  # its entry
    script.call(20, 22, BIND_IPI, 0, out=(2,))

    results = script.replay()

    assert (2, 1, []) == (results.hypercalls, results.unknown, results.divergences)
    assert results.adopted == 1
