"""What drivers found, who made them look for nothing, and whether they had to wait."""

import pytest

from evtrace.replay.work import LOOP_EVENTS
from evtrace.timeline import Kind, RecordClass
from evtrace.verdicts import Cause, EoiDelay, WorkCause, WorkVerdict
from tests.timeline_builder import INTERDOMAIN, UNBOUND, Script, connected

WORK, NONE = 0, 1
"""Flags of an end."""


def handled(script, tsc, *flags, sent=None, late=False):
    """Add a run of d0:1 from `tsc` to `tsc` + 8, sent for at `sent`, ended once for each flag."""
    if sent is not None:
        script.send(sent, sent + 1, 1, dom=1)
    script.add(tsc, Kind.UPCALL_ENTER)
    script.add(tsc, Kind.MASK, port=1)
    script.add(tsc + 1, Kind.CLEAR, port=1)
    script.add(tsc + 2, Kind.HANDLER_ENTER, port=1, irq=101)
    for flag in flags:
        script.add(tsc + 5, Kind.EOI, port=1, a0=flag)
    script.add(tsc + 20 if late else tsc + 6, Kind.UNMASK, port=1)
    script.add(tsc + 8, Kind.HANDLER_EXIT, port=1, irq=101)
    script.add(tsc + 9, Kind.UPCALL_EXIT)
    return script


def last_run(script, *missing):
    return script.replay(*missing).runs[-1]


def stolen():
    script = handled(connected(), 20, WORK, sent=10)
    script.send(40, 41, 1)
    return handled(script, 60, NONE, sent=50)


def taken():
    script = handled(connected(), 20, WORK, sent=10)
    return handled(script, 60, NONE, sent=23)


def over():
    script = handled(connected(), 20, WORK, sent=10)
    return handled(script, 60, NONE, sent=50)


def split():
    return handled(connected(), 20, WORK, NONE, sent=10)


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        (stolen, WorkCause.WORK_STOLEN),
        (taken, WorkCause.TAKEN_BY_LAST_RUN),
        (over, WorkCause.OVER_NOTIFY),
    ],
)
def test_who_made_a_run_find_no_work_is_inferred(script, cause):
    run = last_run(script())

    assert (WorkVerdict.NO_WORK, cause) == (run.work, run.work_cause)
    assert run.work_evidence.startswith("inferred(")


@pytest.mark.parametrize("script", [stolen, taken, over])
def test_without_the_guests_own_calls_it_is_not_known(script):
    run = last_run(script(), (0, RecordClass.CALL))

    assert (WorkVerdict.NO_WORK, WorkCause.UNKNOWN) == (run.work, run.work_cause)
    assert run.work_evidence == "no CALL of d0"


@pytest.mark.parametrize("flags", [(WORK, NONE), (NONE, WORK)])
def test_two_halves_of_a_driver_disagree(flags):
    run = last_run(handled(connected(), 20, *flags, sent=10))

    assert (WorkVerdict.NO_WORK, WorkCause.SHARED_PORT_SPLIT) == (run.work, run.work_cause)
    assert run.work_evidence == "observed"


@pytest.mark.parametrize(("flags", "work"), [((WORK, WORK), None), ((NONE, NONE), "NO_WORK")])
def test_halves_that_agree_are_one_verdict(flags, work):
    run = last_run(handled(connected(), 20, *flags, sent=10))

    assert work == run.work
    assert run.work_cause is not WorkCause.SHARED_PORT_SPLIT


def test_where_nobody_sent_the_cause_says_it_all():
    script = Script()
    script.snapshot(1, 0, (1, INTERDOMAIN, 0, 1, 1))
    script.snapshot(1, 1, (1, UNBOUND, 0, 0, 0))
    script.add(10, Kind.SET, port=1)
    run = last_run(handled(script, 20, NONE))

    assert (Cause.RETRIGGER_LOCAL, WorkVerdict.NO_WORK) == (run.cause, run.work)
    assert (None, "") == (run.work_cause, run.work_evidence)


def punished(rounds, *, late=True):
    script = connected()
    for number in range(rounds):
        start = 100 * (number + 1)
        handled(script, start, NONE, sent=start - 10, late=late and number > 0)
    return script


def test_the_second_end_without_work_in_a_row_is_delayed():
    runs = punished(4).replay().runs

    assert [None, *[EoiDelay.LATEEOI_DELAYED] * 3] == [run.eoi_delay for run in runs]
    assert "4 in a row without work: Linux waits 4 jiffies" in runs[3].eoi_delay_evidence


def test_an_unmask_before_the_handler_returns_is_no_delay():
    assert {None} == {run.eoi_delay for run in punished(4, late=False).replay().runs}


def test_an_end_with_work_starts_the_count_anew():
    script = punished(3)
    handled(script, 400, WORK, sent=390)
    handled(script, 500, NONE, sent=490, late=True)

    assert script.replay().runs[-1].eoi_delay is None


@pytest.mark.parametrize("missing", [RecordClass.EOI, RecordClass.MEMORY])
def test_what_was_not_captured_delays_nothing(missing):
    gone = {RecordClass.EOI: {Kind.EOI}, RecordClass.MEMORY: {Kind.MASK, Kind.UNMASK, Kind.CLEAR}}
    script = punished(4)
    script.rows = [row for row in script.rows if row.kind not in gone[missing]]

    runs = script.replay((0, missing)).runs

    assert {None} == {run.eoi_delay for run in runs}
    assert (missing is RecordClass.EOI) == (runs[-1].work is None)


@pytest.mark.parametrize(
    ("events", "delay"), [(LOOP_EVENTS, EoiDelay.LOOP_DEFERRED), (LOOP_EVENTS - 1, None)]
)
def test_an_end_in_a_long_upcall_is_deferred(events, delay):
    script = connected()
    script.add(10, Kind.UPCALL_ENTER)
    for number in range(events):
        start = 20 + 10 * number
        script.send(start, start + 1, 1, dom=1)
        script.add(start + 2, Kind.MASK, port=1)
        script.add(start + 3, Kind.CLEAR, port=1)
        script.add(start + 4, Kind.HANDLER_ENTER, port=1, irq=101)
        script.add(start + 5, Kind.EOI, port=1, a0=WORK)
        last = number == events - 1
        script.add(start + (9 if last else 6), Kind.UNMASK, port=1)
        script.add(start + 7, Kind.HANDLER_EXIT, port=1, irq=101)

    runs = script.replay().runs

    assert delay is runs[-1].eoi_delay
    assert {None} == {run.eoi_delay for run in runs[:-1]}


def test_who_is_to_blame_rests_on_the_order_of_records():
    script = punished(3)
    results = script.replay()
    results.withhold("the clocks disagree")

    assert {WorkVerdict.NO_WORK} == {run.work for run in results.runs}
    assert {WorkCause.UNKNOWN} == {run.work_cause for run in results.runs}
