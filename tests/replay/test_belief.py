"""What is not known is adopted, with its reason, and never compared."""

from evtrace.timeline import RecordClass
from evtrace.xen.abi import EvtchnOp
from tests.timeline_builder import INTERDOMAIN, IPI, UNBOUND, Script

BIND_IPI, SEND = EvtchnOp.BIND_IPI, EvtchnOp.SEND


def test_without_a_snapshot_a_first_send_is_adopted():
    script = Script()
    script.send(10, 12, 7)

    results = script.replay()

    assert (0, 1) == (results.compared, results.adopted)
    assert {"d0:7 was not seen before": 1} == results.adoptions


def test_the_lowest_free_port_tells_that_those_below_are_taken():
    script = Script()
    script.call(10, 12, BIND_IPI, 0, out=(5,))
    script.call(20, 22, BIND_IPI, 0, out=(6,))
    script.call(30, 32, BIND_IPI, 0, out=(4,))

    results = script.replay()

    assert (2, 1) == (results.compared, results.adopted)
    assert [30] == [found.tsc for found in results.divergences]


def test_a_bind_shows_that_the_peer_was_waiting():
    script = Script()
    script.snapshot(1, 0)
    script.call(10, 12, EvtchnOp.BIND_INTERDOMAIN, 1, 4, out=(1,))
    script.send(20, 22, 4, dom=1)

    results = script.replay()

    assert {"d1:4 was not seen before": 1} == results.adoptions
    assert (0, 1) == (results.sends[0].to_dom, results.sends[0].to_port)
    assert results.compared == 1


def test_a_domain_without_captured_calls_may_have_opened_a_port_since_its_snapshot():
    script = Script()
    script.snapshot(1, 0)
    script.snapshot(1, 1, (3, INTERDOMAIN, 0, 0, 9))
    script.call(10, 12, EvtchnOp.BIND_INTERDOMAIN, 1, 4, out=(1,))

    seen, unseen = script.replay(), script.replay((1, RecordClass.CALL))

    assert ["-EINVAL"] == [found.expected for found in seen.divergences]
    assert ([], {"d1:4 was not seen before": 1}) == (unseen.divergences, unseen.adoptions)


def test_the_other_end_of_a_snapshots_channel_is_known():
    script = Script()
    script.snapshot(1, 0, (3, INTERDOMAIN, 0, 1, 9))
    script.send(10, 12, 9, dom=1)

    results = script.replay()

    assert (1, 0) == (results.compared, results.adopted)
    assert (0, 3) == (results.sends[0].to_dom, results.sends[0].to_port)


def test_a_later_snapshot_is_held_against_the_model():
    script = Script()
    script.snapshot(1, 0, (1, IPI, 0, 0, 0))
    script.call(10, 12, BIND_IPI, 0, out=(2,))
    script.snapshot(20, 0, (1, IPI, 0, 0, 0), (2, IPI, 0, 0, 0))
    script.snapshot(30, 0, (1, IPI, 0, 0, 0), (3, UNBOUND, 0, 5, 0))

    agrees, differs = script.replay().snapshot_checks

    assert agrees.differences == []
    assert differs.differences == [
        "d0:2 is ipi by the trace, closed in the snapshot",
        "d0:3 is closed by the trace, unbound for d5 in the snapshot",
    ]


def test_a_call_whose_result_was_not_seen_leaves_the_table_open():
    script = Script()
    script.snapshot(1, 0)
    script.call(10, None, BIND_IPI, 0)
    script.call(20, 22, BIND_IPI, 0, out=(2,))

    results = script.replay()

    assert results.unknown == 1
    assert results.divergences == []
