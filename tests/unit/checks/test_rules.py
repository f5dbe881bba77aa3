"""The language of rules: what it reads, what it comes to, what it refuses."""

import pytest

from evtrace.analysis.checks.parts import WHOLE, Measured, Part, Reach, read_part
from evtrace.analysis.checks.quantities import quantities
from evtrace.analysis.checks.rulefile import read_rules
from evtrace.analysis.checks.rules import read_rule
from evtrace.api import Trace
from evtrace.errors import NoInputError, UsageError
from evtrace.verdicts import Cause, Fate, FindingCode
from tests.stored_traces import TRACES


@pytest.fixture(scope="module")
def measured():
    with Trace(TRACES / "emu-fifo-pingpong.bin.zst") as trace:
        yield Measured(trace.report())


def answers(measured, text, on="", each=None):
    rule = read_rule(text, read_part(on), each)
    return {answer.part.name: answer.holds for answer in rule.answers(measured)}


@pytest.mark.parametrize(
    ("text", "on", "holds"),
    [
        ("divergences == 0", "", True),
        ("runs = 200", "", True),
        ("runs ≥ 201", "", False),
        ("runs != 200", "", False),
        ("cause.SEND == 198", "", True),
        ("CAUSE.send == 198", "", True),
        ("cause.SEND == 99", "d1:8", True),
        ("cause.SEND == 99", "d1", True),
        ("cause.SEND == 99", "d0:8->d1:8", True),
        ("runs == 101", "d0", True),
        ("sends == 199", "d0", True),
        ("sends == 100", "d0:8→d1:8", True),
        ("fate.COALESCED > 1", "", False),
        ("spurious.L2 <= 1", "d0:8", True),
        ("spurious.L2 == 0", "d1", True),
        ("route.UNMASK_RESEND == 1", "", True),
        ("finding.EVT202 == 0", "d0:8", True),
        ("p50(send→handler) <= 5us", "d0:8→d1:8", True),
        ("p50( send -> handler ) <= 0.003ms", "d0:8→d1:8", False),
        ("p99(send→handler) < 2 * p50(send→handler)", "", True),
        ("max(send→handler) / min(send→handler) < 1", "", False),
        ("count(send→handler) == 99", "d1:8→d0:8", True),
        ("cause.BIND_CONSERVATIVE / runs <= 1%", "", True),
        ("cause.BIND_CONSERVATIVE / runs <= 0.1%", "", False),
        ("0 == fate.LOST", "", True),
        ("1_000us > p999(bind→run)", "", True),
    ],
)
def test_what_a_rule_comes_to(measured, text, on, holds):
    part = read_part(on)

    assert {part.name: holds} == answers(measured, text, on)


def test_what_was_not_observed_is_no_answer(measured):
    assert {"": None} == answers(measured, "p99(handler→EOI) <= 1s")
    assert {} == answers(measured, "runs == 0", "d9:9")
    assert {"": None} == answers(measured, "runs / fate.LOST > 1")


def test_a_rule_in_each_channel_is_asked_in_each(measured):
    found = answers(measured, "p99(send→handler) <= 6us", each=Reach.CHANNEL)

    assert (True, False) == (found["d0:8→d1:8"], found["d1:8→d0:8"])
    assert {"d0", "d1"} == set(answers(measured, "runs > 0", each=Reach.DOMAIN))


def test_a_stock_capture_answers_nothing_about_verdicts():
    with Trace(TRACES / "emu-fifo-pingpong-stock.bin.zst") as trace:
        stock = Measured(trace.report())

    for text in ("cause.SEND == 0", "fate.LOST == 0", "spurious.L1 == 0", "runs == 0"):
        assert {"": None} == answers(stock, text), text
    assert {"": True} == answers(stock, "hypercalls == 202")


def test_near_values_are_shown_with_all_their_digits(measured):
    rule = read_rule("p50(send→handler) == 3927ns", read_part("d0:8→d1:8"))
    (answer,) = rule.answers(measured)

    assert not answer.holds
    assert answer.found != answer.wanted.removeprefix("== ")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cause.SENT == 1", "nearest is cause.SEND"),
        ("fates.LOST == 1", "nearest is fate.LOST"),
        ("divergence == 0", "nearest is divergences"),
        ("spurious.L4 == 0", "nearest is spurious.L"),
        ("finding.LOST_SENT == 0", "nearest is finding.LOST_SEND"),
        ("p95(send→handler) < 1us", "no function p95; the nearest is p9"),
        ("p99(send→hander) < 1us", "nearest is send→handler"),
        ("p99(send→handler) < 50", "a time has its unit: 50us"),
        ("runs < 50us", "not of one kind"),
        ("p99(send→handler) * p99(send→handler) < 1s", "not of one kind"),
        ("p99(send→handler) < 50 parsec", "there is no unit parsec"),
        ("runs == 1 == 1", "expected one comparison"),
        ("runs", "expected one comparison"),
        ("runs == ", "expected a number or a name"),
        ("runs 5 == 5", "expected a number or a name"),
        ("* runs == 5", "expected a number or a name"),
        ("runs == 5; import os", "cannot be read from '; import os' on"),
        ("", "expected one comparison"),
    ],
)
def test_what_means_nothing_is_refused(text, says):
    with pytest.raises(UsageError, match=says.replace("*", r"\*")):
        read_rule(text)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("divergences == 0", Part(Reach.PORT, "d0:1")),
        ("spurious.L1 == 0", Part(Reach.PORT, "d0:1")),
        ("finding.LOST_SEND == 0", Part(Reach.CHANNEL, "d0:1→d1:1")),
        ("hypercalls == 0", Part(Reach.DOMAIN, "d0")),
    ],
)
def test_a_part_is_not_asked_what_only_the_whole_can_tell(text, part):
    read_rule(text, WHOLE)
    with pytest.raises(UsageError, match="not of a"):
        read_rule(text, part)


def test_every_verdict_can_be_asked_for():
    names = set(quantities())

    assert {f"cause.{one.value}" for one in Cause} <= names
    assert {f"fate.{one.value}" for one in Fate} <= names
    assert {f"finding.{one.name}" for one in FindingCode} <= names
    for name in names:
        assert read_rule(f"{name} >= 0").left.names == [name]


def test_only_more_verdicts_than_allowed_break_a_rule_by_claims():
    assert read_rule("fate.LOST == 0").breaks_by_claims
    assert read_rule("cause.UNPROVOKED <= 3").breaks_by_claims
    for text in ("cause.UNKNOWN == 0", "cause.SEND >= 3", "p99(bind→run) < 1s", "runs / sends < 2"):
        assert not read_rule(text).breaks_by_claims, text


def test_a_file_of_rules(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(
        '[[rule]]\ncheck = "runs > 0"\ntraces = ["emu-*", "cut-*"]\n'
        '[[rule]]\ncheck = "fate.LOST == 0"\neach = "channel"\n'
    )
    first, second = read_rules(path)

    assert ("runs > 0 (emu-*, cut-*)", "fate.LOST == 0 in each channel") == (
        first.name,
        second.name,
    )
    assert [True, False] == [first.is_about(name) for name in ("emu-x", "xen-x")]
    assert second.is_about("anything")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[rule]]\ncheck = 5", "expected a string"),
        ("[[rule]]\ncheck = 'runs > 0'\non = 'd0'\neach = 'port'", "give on or each, not both"),
        ("[[rules]]\ncheck = 'runs > 0'", "there is no key rules; the nearest is rule"),
        ("", "no \\[\\[rule\\]\\] in it"),
        ("rule = 5", "expected a list"),
        ("rule = [5]", "expected a table"),
        ("[[rule]", "not TOML"),
    ],
)
def test_a_file_that_means_nothing_is_refused_by_name(tmp_path, text, says):
    path = tmp_path / "rules.toml"
    path.write_text(text)

    with pytest.raises(UsageError, match=says) as caught:
        read_rules(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_no_input(tmp_path):
    with pytest.raises(NoInputError, match="cannot be read"):
        read_rules(tmp_path / "no.toml")
