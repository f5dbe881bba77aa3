"""The captures of a real Xen 4.17: every count, cause and route that is known of them."""

from collections import Counter
from dataclasses import dataclass

import pytest

from evtrace.api import Trace
from evtrace.timeline import RecordClass
from evtrace.verdicts import Cause, Route


@dataclass(frozen=True)
class Known:
    """What is known of a capture, counted by hand from its texts."""

    compared: int
    with_record: int
    runs: int
    unknown_runs: int
    bind_port: tuple[int, int]
    bind_tsc: int
    routes: tuple[Route, ...]
    sends: dict[tuple[int, int], tuple[tuple[int, int], int]]
    """Port -> (peer, runs of the port that the peer's sends caused)."""


OLD_QUEUE = (Route.UNMASK_RESEND, Route.FIFO_OLD_QUEUE)
KNOWN = {
    "pv_fifo_blog": Known(
        compared=197,
        with_record=79,
        runs=1697,
        unknown_runs=3,
        bind_port=(0, 33),
        bind_tsc=279750097572,
        routes=OLD_QUEUE,
        sends={(0, 33): ((1, 8), 1), (1, 8): ((0, 33), 1)},
    ),
    "pv_fifo_evpp5": Known(
        compared=231,
        with_record=98,
        runs=1757,
        unknown_runs=4,
        bind_port=(0, 33),
        bind_tsc=412032825581,
        routes=OLD_QUEUE,
        sends={(0, 33): ((1, 9), 5), (1, 9): ((0, 33), 5)},
    ),
    "pvh_blog": Known(
        compared=219,
        with_record=88,
        runs=1943,
        unknown_runs=7,
        bind_port=(0, 33),
        bind_tsc=259688722111,
        routes=OLD_QUEUE,
        sends={(0, 33): ((1, 7), 1), (1, 7): ((0, 33), 1)},
    ),
    "dom0_self20": Known(
        compared=158,
        with_record=128,
        runs=781,
        unknown_runs=0,
        bind_port=(0, 32),
        bind_tsc=131351949281,
        routes=(Route.UNMASK_RESEND,),
        sends={(0, 32): ((0, 31), 20), (0, 31): ((0, 32), 20)},
    ),
}


@pytest.fixture(params=KNOWN)
def capture(request, imported):
    with Trace(imported(request.param)) as trace:
        yield trace, trace.replay(), KNOWN[request.param]


def test_every_answer_of_xen_is_predicted(capture):
    _, results, known = capture

    assert known.compared == results.compared
    assert known.with_record == results.with_record
    assert results.adopted == 0
    assert results.unknown == 0
    assert results.divergences == []
    assert results.hypercalls == results.compared + results.uncovered


def test_every_run_has_its_cause(capture):
    _, results, known = capture
    unknown = [run for run in results.runs if run.cause is Cause.UNKNOWN]

    assert known.runs == len(results.runs)
    assert known.unknown_runs == len(unknown)
    assert all(run.reason for run in unknown)
    assert not [run for run in results.runs if run.cause is Cause.UNPROVOKED]


def test_the_run_after_the_bind_is_explained(capture):
    _, results, known = capture
    at_bind = [run for run in results.runs if run.cause is Cause.BIND_CONSERVATIVE]

    assert [(known.bind_port, known.bind_tsc)] == [((r.dom, r.port), r.tsc) for r in at_bind]
    assert known.routes == at_bind[0].routes
    assert at_bind[0].evidence == "observed"


def test_the_other_runs_of_the_experiment_come_from_the_peer(capture):
    _, results, known = capture
    found: Counter[tuple[tuple[int, int], tuple[int, int]]] = Counter()
    for run in results.runs:
        if (run.dom, run.port) in known.sends and run.cause is Cause.SEND:
            assert run.contributors
            found[(run.dom, run.port), (run.contributors[0].dom, run.contributors[0].port)] += 1

    assert {(port, peer): n for port, (peer, n) in known.sends.items()} == dict(found)


def test_pirqs_inside_the_window_stand_on_their_record(capture):
    trace, results, _ = capture
    pirqs = [run for run in results.runs if run.cause is Cause.PIRQ]
    inside = [
        run for run in pirqs if trace.coverage.covered(run.dom, RecordClass.IRQ, run.tsc, run.tsc)
    ]

    assert inside
    assert {run.evidence for run in inside} == {"observed"}


def test_level_is_c4(capture):
    trace, _, _ = capture

    assert trace.coverage.overall_level() == "C4"
