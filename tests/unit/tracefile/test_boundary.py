"""What a cut must not part, and when what it parts has ended."""

import pytest

from evtrace.timeline import Kind
from evtrace.tracefile.boundary import LONGEST, REACH, UPCALL_ROWS, Watch, Wholes
from evtrace.xen.abi import EvtchnOp
from tests.timeline_builder import Script

BIND, CLOSE, SEND = EvtchnOp.BIND_INTERDOMAIN, EvtchnOp.CLOSE, EvtchnOp.SEND


@pytest.fixture
def script():
    return Script()


def rows(script, *steps):
    """Add rows, numbered from 1 on as are their times: (kind, fields)."""
    for tsc, (kind, fields) in enumerate(steps, 1):
        script.add(tsc, kind, **fields)
    return script.rows


def enter(op, a0=None, **fields):
    return Kind.CALL_ENTER, {"op": int(op), "a0": a0, **fields}


def leave(op, a0=None, **fields):
    return Kind.CALL_EXIT, {"op": int(op), "rc": 0, "a0": a0, **fields}


def at(kind, **fields):
    return kind, fields


# --- stretches -----------------------------------------------------------------------------------


def widened(script, first, last, *steps):
    return Wholes(rows(script, *steps), first, last).widened()


CLOSING = (enter(CLOSE, 5), at(Kind.MASK), leave(CLOSE))


@pytest.mark.parametrize(
    ("wanted", "given"),
    [((2, 2), (1, 3)), ((1, 3), (1, 3)), ((3, 9), (1, 9)), ((4, 9), (4, 9)), ((1, 1), (1, 3))],
)
def test_a_call_that_changes_tables_stays_whole(script, wanted, given):
    assert widened(script, *wanted, *CLOSING) == given


def test_a_bind_stays_with_the_first_run_of_its_port(script):
    runs = [at(Kind.HANDLER_ENTER, port=7), at(Kind.HANDLER_ENTER, port=7)]
    steps = [enter(BIND, 1), leave(BIND, 7), at(Kind.MASK), *runs]

    assert widened(script, 4, 9, *steps) == (1, 9)
    assert widened(Script(), 5, 9, *steps) == (5, 9)


def test_a_bound_port_that_is_closed_waits_for_no_run(script):
    steps = [enter(BIND, 1), leave(BIND, 7), enter(CLOSE, 7), leave(CLOSE)]

    assert widened(script, 5, 9, *steps, at(Kind.CLEAR, port=7)) == (5, 9)


def test_one_stretch_leads_to_the_next(script):
    steps = [enter(CLOSE, 1, call_id=1), enter(CLOSE, 2, call_id=2)]
    steps += [leave(CLOSE, call_id=1), at(Kind.MASK), leave(CLOSE, call_id=2)]

    assert widened(script, 5, 5, *steps) == (1, 5)
    assert widened(Script(), 1, 1, *steps) == (1, 5)


def test_a_call_that_takes_for_ever_is_cut(script):
    begun, ended = rows(script, enter(CLOSE, 5), leave(CLOSE))

    wholes = Wholes([begun, ended._replace(seq=LONGEST + 2)], 2, 9)

    assert wholes.widened() == (2, 9)


@pytest.mark.parametrize(
    ("begin", "end"),
    [(enter(SEND, 5), leave(SEND)), (at(Kind.UPCALL_ENTER), at(Kind.UPCALL_EXIT))],
)
def test_what_is_near_stays_whole_at_the_start_alone(script, begin, end):
    assert widened(script, 2, 9, begin, at(Kind.MASK), end) == (1, 9)
    assert widened(Script(), 1, 2, begin, at(Kind.MASK), end) == (1, 2)


def test_what_is_far_is_parted_an_upcall_before_a_call(script):
    begun, call, left, ended = rows(
        script, at(Kind.UPCALL_ENTER), enter(SEND, 5), leave(SEND), at(Kind.UPCALL_EXIT)
    )
    far = REACH + 10
    events = [begun, call._replace(seq=far), left._replace(seq=far + 2)]
    events.append(ended._replace(seq=far + 3))

    assert Wholes(events, far + 1, far + 9).widened() == (far, far + 9)


# --- what is under way ---------------------------------------------------------------------------


def settled(script, first, *steps):
    watch = Watch(rows(script, *steps))
    passed = list(watch.until(first))
    assert [row.seq for row in passed] == list(range(1, first))
    return watch.settle()


@pytest.mark.parametrize(
    ("begun", "ended"),
    [
        (enter(SEND, 5), leave(SEND)),
        (enter(SEND, 5, call_id=4), leave(SEND, call_id=4)),
        (at(Kind.UPCALL_ENTER), at(Kind.UPCALL_EXIT)),
        (at(Kind.UPCALL_ENTER), at(Kind.UPCALL_ENTER)),
        (at(Kind.HANDLER_ENTER, irq=9, port=5), at(Kind.HANDLER_EXIT, irq=9, port=5)),
        (at(Kind.IRQ_UNBOUND, irq=9, port=5), enter(CLOSE, 5)),
        (at(Kind.IRQ_UNBOUND, irq=9, port=5), at(Kind.IRQ_BOUND, irq=9, port=5)),
    ],
)
def test_a_slice_is_complete_once_all_that_was_under_way_has_ended(script, begun, ended):
    assert settled(script, 2, begun, at(Kind.MASK), at(Kind.MASK), ended, at(Kind.MASK)) == 4


def test_nothing_under_way_leaves_nothing_to_wait_for(script):
    assert settled(script, 3, enter(SEND, 5), leave(SEND), enter(SEND, 5), leave(SEND)) is None


def test_a_cleared_event_waits_for_its_handler_or_the_end_of_its_upcall(script):
    cleared = (at(Kind.UPCALL_ENTER), at(Kind.CLEAR, port=5))
    rest = (at(Kind.HANDLER_ENTER, irq=9, port=5), at(Kind.UPCALL_EXIT), at(Kind.MASK))
    assert settled(script, 3, *cleared, *rest) == 4

    outside = Script()
    assert settled(outside, 2, at(Kind.CLEAR, port=5), at(Kind.MASK)) is None


def test_an_upcall_without_an_end_is_not_waited_for_for_ever(script):
    steps = [at(Kind.UPCALL_ENTER), enter(SEND, 5), leave(SEND)]
    steps += [at(Kind.MASK)] * UPCALL_ROWS + [at(Kind.UPCALL_ENTER)]

    assert settled(script, 3, *steps) == 3
