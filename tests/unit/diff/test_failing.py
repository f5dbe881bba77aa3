"""`--fail-on`: what can be written, what it means, what is refused."""

from types import SimpleNamespace

import pytest

from evtrace.analysis.diff.compared import Compared, Scale
from evtrace.analysis.diff.failing import WORDS, failures, read_condition
from evtrace.analysis.diff.intervals import Interval
from evtrace.analysis.diff.verdict import About, Difference
from evtrace.errors import UsageError

SLOWER = Difference(
    About.LATENCY,
    "d0:8→d1:8",
    "p50 rose",
    True,
    ("p50(send→handler)", "mean(pending→upcall)"),
    ratios={"p50(send→handler)": 1.4, "mean(pending→upcall)": 1.6},
)
FASTER = Difference(
    About.LATENCY,
    "d0:8→d1:8",
    "p99 fell",
    False,
    ("p99(send→handler)",),
    0.0,
    {"p99(send→handler)": 0.5},
)
LOST = Difference(About.FAULTS, "trace", "new", True, ("finding.LOST_SEND",))
FOUND = Difference(About.FAULTS, "trace", "gone", False, ("finding.LOST_SEND",))
IDLE = Difference(About.SPURIOUS, "d0:8→d1:8", "more", True, ("spurious.L3",))
BUSY = Difference(About.SPURIOUS, "d0:8→d1:8", "fewer", False, ("spurious.L3",))
ANSWER = Difference(About.ANSWERS, "trace", "-EINVAL", None, ("answers",))


def meets(text, *differences):
    condition = read_condition(text)
    return [condition.holds(one) for one in differences]


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("any", [SLOWER, FASTER, LOST, FOUND, IDLE, BUSY, ANSWER]),
        ("worse", [SLOWER, LOST, IDLE]),
        ("faults", [LOST]),
        ("lost", [LOST]),
        ("answers", [ANSWER]),
        ("spurious", [IDLE]),
        ("slower", [SLOWER]),
        ("faster", [FASTER]),
        ("slower > 1.5x", [SLOWER]),
        ("slower > 1.7", []),
        ("faster > 1.9x", [FASTER]),
        ("faster > 2.1x", []),
        ("spurious.L3", [IDLE, BUSY]),
        ("Spurious.l3", [IDLE, BUSY]),
        ("finding.LOST_SEND", [LOST, FOUND]),
        ("p50", [SLOWER]),
        ("send→handler", [SLOWER, FASTER]),
        ("send->handler > 1.3x", [SLOWER]),
        ("p50(send→handler) > 1.5x", []),
        ("mean(pending→upcall) > 1.5x", [SLOWER]),
    ],
)
def test_what_a_condition_means(text, met):
    everything = [SLOWER, FASTER, LOST, FOUND, IDLE, BUSY, ANSWER]

    assert meets(text, *everything) == [one in met for one in everything]


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("spurous", "spurious"),
        ("cause.SENT", "cause.SEND"),
        ("p50(send→handle)", "p50(send→handler)"),
        ("slow", "slower"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(text, nearest):
    with pytest.raises(UsageError) as error:
        read_condition(text)

    assert str(error.value).endswith(f"the nearest is {nearest}")


@pytest.mark.parametrize("text", ["slower >", "> 2x", "", "spurious > 2x", "slower < 2x"])
def test_what_cannot_be_read_is_refused(text):
    with pytest.raises(UsageError):
        read_condition(text)


def compared(*quantities):
    return [
        Compared("d0:8→d1:8", name, Scale.TIME, 50, 50, 1.0, 1.0, Interval(1, 0.9, 1.1), False, 1.2)
        for name in quantities
    ]


def diff(differences=(), times=(), shared=1.0):
    walked = SimpleNamespace(shared=shared)
    return SimpleNamespace(
        differences=list(differences),
        compared=compared(*times),
        walked=walked,
        load=[],
        is_told=bool(times) or shared is not None,
    )


def test_a_condition_that_nothing_answers_fails():
    found = failures(diff(shared=None), [read_condition(word) for word in WORDS if word != "load"])

    assert [one.by for one in found] == [()] * (len(WORDS) - 1)
    assert {one.why for one in found} == {"nothing that it asks about was compared"}


def test_a_condition_on_times_wants_those_times():
    conditions = [read_condition(text) for text in ("p99(send→handler)", "slower", "p50")]
    found = failures(diff(times=["p50(send→handler)"]), conditions)

    assert [one.condition.name for one in found] == ["p99(send→handler)"]


def test_a_failure_names_the_differences():
    (found,) = failures(diff([LOST, SLOWER, IDLE]), [read_condition("worse")])

    assert found.sentence == "--fail-on worse: difference 1, 2, 3"
