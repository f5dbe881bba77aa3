"""The verdict in words."""

import pytest

from evtrace.analysis.sentence import verdict_in_words
from evtrace.replay.results import Results
from evtrace.verdicts import Cause, Divergence, WorkVerdict
from tests.verdict_builder import frames, run, send

BIND = {"cause": Cause.BIND_CONSERVATIVE}
IDLE = {"work": WorkVerdict.NO_WORK}


def said(runs, sends=(), **found):
    results = Results(runs=list(runs), sends=list(sends), **found)
    return verdict_in_words(results, *frames(results.runs, results.sends))


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([run(1)], "1 run of d0:33; each provoked by an event."),
        (
            [run(1, **BIND), run(2)],
            "2 runs of d0:33; 1 was provoked by nobody: Xen's conservative event at bind.",
        ),
        (
            [run(1, **BIND), run(2, port=34, **BIND), run(3, port=34, **BIND)],
            (
                "3 runs of 2 ports; 3 were provoked by nobody: "
                "d0:33, d0:34, Xen's conservative event at bind (3 times)."
            ),
        ),
        (
            [run(port, port=port, **BIND) for port in range(1, 6)],
            (
                "5 runs of 5 ports; 5 were provoked by nobody: "
                "Xen's conservative event at bind at 5 ports."
            ),
        ),
        ([run(1, cause=Cause.UNKNOWN), run(2)], "2 runs of d0:33; 1 of unknown cause."),
        (
            [run(1, **IDLE), run(2)],
            (
                "2 runs of d0:33; each provoked by an event. "
                "The driver found no work in 1 of 2 runs of d0:33."
            ),
        ),
        (
            [run(port, port=port, **IDLE) for port in range(1, 6)],
            (
                "5 runs of 5 ports; each provoked by an event. The driver found no work in "
                "1 of 1 run of d0:1, 1 of 1 run of d0:2, 1 of 1 run of d0:3, and at 2 more ports."
            ),
        ),
    ],
)
def test_runs_in_words(runs, expected):
    assert expected == said(runs)


def test_what_became_of_sends_is_said_if_it_is_bad():
    fates = ["DELIVERED", "LOST", "LOST", "HELD_MASKED", "DROP_UNBOUND"]
    sends = [send(n, n, fate) for n, fate in enumerate(fates)]

    assert said([run(1)], sends).endswith(
        "2 sends were lost. 1 send was dropped, for nobody was bound. "
        "1 send was held back to the end by a masked port.",
    )


def test_divergences_are_said():
    found = Divergence(1, 1, 0, 0, 0, "send(port=3)", "0", "-22", [])

    assert said([run(1)], divergences=[found]).endswith(" 1 divergence from the model.")


def test_a_trace_without_anything_says_so():
    assert "No event-channel hypercall and no handler run in this trace." == said([])
