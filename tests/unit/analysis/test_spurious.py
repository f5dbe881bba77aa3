"""Spurious events by kind, by port, and what they cost."""

from collections import Counter

import pytest

from evtrace.analysis.scope import Scope
from evtrace.analysis.spurious import Spurious, by_kind, by_port, count_spurious, empty_upcalls
from evtrace.replay.results import Results
from evtrace.timeline import RecordClass
from evtrace.verdicts import Cause, EoiDelay, UpcallVerdict, WorkCause, WorkVerdict
from tests.verdict_builder import covering, frames, run

ALL = RecordClass.UPCALL | RecordClass.HANDLER | RecordClass.EOI
IDLE = {"work": WorkVerdict.NO_WORK, "work_cause": WorkCause.OVER_NOTIFY}
RUNS = [run(1, cause=Cause.BIND_CONSERVATIVE), run(2, **IDLE), run(3, **IDLE), run(4, port=34)]


def counted(classes=ALL, scope=None, **results):
    runs, _ = frames(RUNS)
    return count_spurious(runs, covering(classes), Results(**results), scope or Scope())


def test_the_three_kinds_are_counted_apart():
    assert Spurious(5, 1, 2) == counted(empty_upcalls={0: 2, 1: 3})


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        (RecordClass.UPCALL, Spurious(None, 1, 2)),
        (RecordClass.EOI, Spurious(0, 1, None)),
        (RecordClass.HANDLER, Spurious(None, None, 2)),
    ],
)
def test_what_was_not_captured_is_not_counted(without, expected):
    assert expected == counted(ALL & ~without)


def test_upcalls_belong_to_no_port():
    assert counted(scope=Scope(ports=frozenset({(0, 33)}))).l1_empty_upcalls is None
    assert counted(scope=Scope(doms=frozenset({1})), empty_upcalls={0: 2, 1: 3}) == Spurious(
        3, 1, 2
    )


def test_only_the_domains_asked_about_need_to_tell():
    coverage = covering(ALL, dom=0)
    runs, _ = frames(RUNS)
    results = Results(empty_upcalls=Counter({0: 2}))

    assert Spurious(2, 1, 2) == count_spurious(runs, coverage, results, Scope())
    one = Scope(doms=frozenset({1}))
    assert Spurious(None, None, None) == count_spurious(runs.clear(), coverage, results, one)


def test_kinds_of_which_none_can_be_told_are_not_listed():
    assert by_kind(Spurious(None, None, None)).is_empty()
    assert [0, None, 3] == by_kind(Spurious(0, None, 3))["count"].to_list()


def test_a_port_says_who_made_its_runs_find_no_work_and_what_that_cost():
    late = {"eoi_tsc": 600, "unmask_tsc": 4_600, "eoi_delay": EoiDelay.LATEEOI_DELAYED}
    runs, _ = frames([*RUNS, run(5, **IDLE, **late), run(6, eoi_tsc=700, unmask_tsc=701)])
    found = by_port(runs, covering(ALL), 1_000_000_000)

    assert [
        {
            "port": "d0:33",
            "device": "eth0",
            "runs": 5,
            "unprovoked": 1,
            "no_work": 3,
            "no_work_share": 0.6,
            "who": "OVER_NOTIFY 3",
            "delayed": 1,
            "delay_ns": 4_000,
            "delays": "LATEEOI_DELAYED 1",
        },
    ] == found.to_dicts()


def test_without_the_drivers_verdicts_only_unprovoked_runs_show():
    runs, _ = frames(RUNS)

    assert [("d0:33", 1, None, None)] == by_port(runs, covering(RecordClass.HANDLER), None).select(
        "port", "unprovoked", "no_work", "delayed"
    ).rows()


def test_empty_upcalls_are_counted_by_why():
    results = Results()
    results.upcall_verdicts[0, UpcallVerdict.EMPTY_UPCALL] = 4

    assert [("d0", "EMPTY_UPCALL", 4)] == empty_upcalls(results).rows()
