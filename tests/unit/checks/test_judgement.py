"""Holding a trace to expectations: every one of them can fail, and a spoilt capture withholds."""

import re
from dataclasses import replace

import pytest

from evtrace.analysis.checks.expectations import Expectations, Tolerance, read_expectations
from evtrace.analysis.checks.judgement import Evidence, Outcome, judge
from evtrace.analysis.checks.rules import read_rule
from evtrace.analysis.checks.stored import Stored
from evtrace.analysis.checks.update import update_expectations
from evtrace.api import Trace
from evtrace.commands.check import judge_all
from evtrace.errors import UsageError
from tests.deadly import Deadly, Unforeseen
from tests.stored_traces import TRACES

NAME = "emu-fifo-pingpong"
EXPECTED = read_expectations(TRACES / f"{NAME}.toml")


@pytest.fixture(scope="module")
def evidence():
    with Trace(TRACES / f"{NAME}.bin.zst") as trace:
        yield Evidence(trace.report(), trace.reader)


@pytest.fixture(scope="module")
def spoilt():
    with Trace(TRACES / f"{NAME}-lost-records.bin.zst") as trace:
        yield Evidence(trace.report(), trace.reader)


def of(outcome, evidence, expected, *rules):
    checks = judge(evidence, expected, [read_rule(rule) for rule in rules])
    return [check.name for check in checks if check.outcome is outcome]


def failed(evidence, expected, *rules):
    return of(Outcome.FAILED, evidence, expected, *rules)


def test_the_trace_is_as_expected(evidence):
    assert [] == failed(evidence, EXPECTED)


@pytest.mark.parametrize("name", EXPECTED.counts)
def test_each_count_can_fail(evidence, name):
    counts = EXPECTED.counts | {name: EXPECTED.counts[name] + 1}

    assert [name] == failed(evidence, replace(EXPECTED, counts=counts))


@pytest.mark.parametrize("place", range(len(EXPECTED.latencies)))
def test_each_time_can_fail(evidence, place):
    want = EXPECTED.latencies[place]
    values = {name: value * 2 for name, value in want.values.items()}
    changed = replace(EXPECTED, latencies=(replace(want, values=values),))

    assert len(values) == len(failed(evidence, changed))
    wide = replace(want, values=values, tolerance=Tolerance("51%", 0.51))
    assert [f"count({want.stage}) on {want.part.name or 'all'}"] == failed(
        evidence, replace(EXPECTED, latencies=(wide,))
    )


@pytest.mark.parametrize("place", range(len(EXPECTED.tokens)))
@pytest.mark.parametrize(
    "change",
    [{"name": "d9:9"}, {"verdict": "UNKNOWN"}, {"other": "d9:9"}, {"tsc": 1}, {"at_least": 999}],
    ids=str,
)
def test_each_token_can_fail(evidence, place, change):
    token = replace(EXPECTED.tokens[place], **change)

    assert [f"appears: {token}"] == failed(evidence, replace(EXPECTED, tokens=(token,)))


def test_what_is_not_named_in_a_set_is_not_expected(evidence):
    counts = {name: count for name, count in EXPECTED.counts.items() if name != "cause.VIRQ"}

    assert ["cause.VIRQ"] == failed(evidence, replace(EXPECTED, counts=counts))
    open_sets = replace(EXPECTED, counts=counts, sets=frozenset())
    assert [] == failed(evidence, open_sets)


def test_the_capture_can_fail(evidence):
    changed = replace(EXPECTED, damaged=True, lost_records=3, levels={"trace": "C4", "d7": "C5"})

    assert ["damage", "lost records", "level of trace", "level of d7"] == failed(evidence, changed)


def test_a_spoilt_capture_withholds_what_it_can_explain(spoilt):
    assert ["lost records", "finding.RECORDS_LOST"] == failed(spoilt, EXPECTED)
    assert "cause.SEND" in of(Outcome.WITHHELD, spoilt, EXPECTED)


def test_a_spoilt_capture_hides_no_verdict_that_must_not_be(spoilt):
    counts = EXPECTED.counts | {"cause.SEND": 1}
    rules = ("cause.SEND <= 1", "cause.SEND >= 500", "cause.UNKNOWN == 0")

    found = failed(spoilt, replace(EXPECTED, counts=counts), *rules)

    assert ["lost records", "finding.RECORDS_LOST", "cause.SEND", "rule cause.SEND <= 1"] == found


def test_a_spoilt_capture_that_is_expected_withholds_nothing(spoilt):
    expected = read_expectations(TRACES / f"{NAME}-lost-records.toml")

    assert [] == failed(spoilt, expected)
    assert ["rule cause.UNKNOWN == 0"] == failed(spoilt, expected, "cause.UNKNOWN == 0")


def test_a_rule_of_the_traces_own_that_it_cannot_answer_fails(evidence):
    rule = read_rule("p99(send→handler) <= 1us / 1")
    idle = read_rule("runs / fate.LOST > 0")

    assert ["rule runs / fate.LOST > 0"] == failed(evidence, replace(EXPECTED, rules=(idle,)))
    assert ["rule runs / fate.LOST > 0"] == of(
        Outcome.UNANSWERED, evidence, EXPECTED, "runs / fate.LOST > 0"
    )
    assert [f"rule {rule.name}"] == failed(evidence, replace(EXPECTED, rules=(rule,)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[expect]\nrun = 3", "there is no quantity run; the nearest is runs"),
        ("[expect.cause]\nSENT = 3", "there is no quantity cause.SENT; the nearest is cause.SEND"),
        ("[expect]\nruns = true", "expected a whole number"),
        ("[expect]\ndamaged = 1", "expected true or false"),
        ("[expect.level]\nd0 = 'C9'", "expected trace or a domain, and C0 to C5"),
        ("[[expect.latency]]\np50 = '1us'", "stage is missing"),
        ("[[expect.latency]]\nstage = 'send→handler'\np50 = 3", "expected a string"),
        ("[[expect.latency]]\nstage = 'send→handler'\np51 = '3us'", "nearest is p5"),
        ("[[expect.token]]\ncause = 'SEND'", "expected one of run, send, record"),
        ("[[expect.token]]\nrun = 'd0:1'\nfate = 'LOST'", "there is no key fate"),
        ("[[expect.token]]\nrun = 'd0:1'\nroutes = ['AIR']", "there is no quantity route.AIR"),
        ("[expekt]\nruns = 3", "there is no key expekt; the nearest is expect"),
    ],
)
def test_expectations_that_mean_nothing_are_refused_by_name(tmp_path, text, says):
    path = tmp_path / "x.toml"
    path.write_text(text)

    with pytest.raises(UsageError, match=says) as caught:
        read_expectations(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("name", ["xen4.17-fifo-pvh-demo", "emu-fifo-timer", f"{NAME}-cut-file"])
def test_what_an_update_writes_is_what_is_found(tmp_path, name):
    path = tmp_path / "new.toml"
    with Trace(TRACES / f"{name}.bin.zst") as trace:
        found = Evidence(trace.report(), trace.reader)

        difference = update_expectations(path, Expectations(), found)
        assert [] == failed(found, read_expectations(path))
        assert "" == update_expectations(path, read_expectations(path), found)
    assert difference.startswith("--- ")


def test_an_update_writes_as_many_digits_as_the_tolerance_needs(tmp_path, evidence):
    path = tmp_path / "x.toml"
    path.write_text(
        '[[expect.latency]]\nstage = "send→handler"\np99 = "-1us"  # a guess\ntolerance = "0ns"\n'
    )

    update_expectations(path, read_expectations(path), evidence)

    assert [] == failed(evidence, read_expectations(path))
    assert re.search(r'p99 = "\d{4}ns"  # a guess', path.read_text())


def test_a_trace_that_ends_its_process_fails_alone():
    good = Stored(str(TRACES / f"{NAME}.bin.zst"))

    found = {one.trace: one for one in judge_all([Deadly("bad.bin"), good], [], 2, update=False)}

    assert found[good.path].passed
    assert [Outcome.BROKEN] == [check.outcome for check in found["bad.bin"].checks]


@pytest.mark.parametrize(
    ("trace", "says"),
    [
        (Unforeseen("bad.bin"), "evtrace failed at it: KeyError: 'bad.bin'"),
        (Deadly("bad.bin"), "its process died while it was judged: out of memory, or killed"),
    ],
)
def test_a_trace_alone_fails_by_itself_with_a_plain_message(trace, says):
    (found,) = judge_all([trace], [], 1, update=False)

    assert [("readable", Outcome.BROKEN, says)] == [
        (check.name, check.outcome, check.message) for check in found.checks
    ]
