"""A trace held to what is expected of it and to rules: one check after the other.

What is about the capture is judged first. Where that is not as expected, a difference that it can
explain is withheld: records that are missing make verdicts fewer, never more, and times another
choice of times.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum, unique
from typing import Final

import polars as pl

from evtrace.analysis.checks.expectations import (
    Expectations,
    ExpectedLatency,
    Token,
    members,
)
from evtrace.analysis.checks.parts import WHOLE, Measured
from evtrace.analysis.checks.quantities import find_quantity, quantile
from evtrace.analysis.checks.rules import Rule
from evtrace.analysis.report import Report
from evtrace.analysis.sentence import count_of
from evtrace.analysis.tables import duration
from evtrace.tracefile.events import event_name
from evtrace.tracefile.reader import TraceReader
from evtrace.verdicts import Blame, FindingCode


@unique
class Outcome(StrEnum):
    """What a check came to."""

    PASSED = "passed"
    FAILED = "failed"
    WITHHELD = "withheld"
    """It failed, and the capture is not as expected, which can explain it."""
    BROKEN = "broken"
    """The trace, or what is expected of it, could not be read."""
    UNANSWERED = "unanswered"
    """A rule asks about what was not observed in this trace."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a trace was held to."""

    name: str
    outcome: Outcome
    message: str = ""
    """What was expected and what was found, where it did not pass."""
    details: tuple[str, ...] = ()
    """What to know of it, a line each."""
    is_claim: bool = False
    """It failed by verdicts that are there and must not be."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What one trace came to."""

    trace: str
    """Its path as it was given."""
    checks: tuple[Check, ...]
    verdict: str = ""
    """The report's sentence; empty where the trace could not be read."""
    about: str = ""
    recorded: str = ""
    has_expectations: bool = False
    seconds: float = 0.0
    difference: str = ""
    """What an update changed in its expectations."""
    is_rules: bool = False
    """It is no trace but a file of rules: its checks are those that no trace could answer."""

    @property
    def failed(self) -> list[Check]:
        """Give the checks that failed, or could not be made."""
        return self.of(Outcome.FAILED, Outcome.BROKEN)

    @property
    def passed(self) -> bool:
        """Whether none failed."""
        return not self.failed

    def of(self, *outcomes: Outcome) -> list[Check]:
        """Give the checks that came to one of some outcomes."""
        return [check for check in self.checks if check.outcome in outcomes]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a trace is judged by."""

    report: Report
    reader: TraceReader
    measured: Measured = field(init=False)

    def __post_init__(self) -> None:
        """Make the tables that parts are taken from."""
        object.__setattr__(self, "measured", Measured(self.report))


def judge(evidence: Evidence, expected: Expectations, rules: Sequence[Rule]) -> list[Check]:
    """Hold a trace to its expectations and to rules; the capture first."""
    capture = [*_capture(evidence, expected), *_counts(evidence, expected, of_capture=True)]
    rest = [
        *_counts(evidence, expected, of_capture=False),
        *_no_finding(evidence),
        *(check for want in expected.latencies for check in _latency(evidence, want)),
        *(_token(evidence, token) for token in expected.tokens),
        *(_needed(_rule(evidence, rule)) for rule in expected.rules),
        *(_rule(evidence, rule) for rule in rules),
    ]
    if any(check.outcome is Outcome.FAILED for check in capture):
        rest = [_withheld(check) for check in rest]
    return capture + rest


def _withheld(check: Check) -> Check:
    """Take back a failure that a spoilt capture can explain."""
    if check.outcome is not Outcome.FAILED or check.is_claim:
        return check
    return replace(check, outcome=Outcome.WITHHELD)


def _needed(check: Check) -> Check:
    """Let a rule of the trace's own fail where the trace cannot answer it."""
    if check.outcome is not Outcome.UNANSWERED:
        return check
    return replace(check, outcome=Outcome.FAILED)


def _checked(name: str, expected: object, found: object, *details: str) -> Check:
    if expected == found:
        return Check(name, Outcome.PASSED)
    return Check(name, Outcome.FAILED, f"expected {expected}, found {found}", details)


# --- the capture -------------------------------------------------------------------------------

SHOWN: Final = 5
"""Places that a check names; the others are counted."""


def _capture(evidence: Evidence, expected: Expectations) -> Iterator[Check]:
    """Check whether the trace holds what it is to hold."""
    reader, coverage = evidence.reader, evidence.report.source.coverage
    damage = [str(found) for found in reader.damage]
    words = {True: "a damaged file", False: "no damage"}
    yield _checked("damage", words[expected.damaged], words[bool(damage)], *_some(damage))
    lost = sum(gap.count for gap in reader.lost)
    yield _checked("lost records", expected.lost_records, lost)
    for name, level in expected.levels.items():
        found = evidence.report.level if name == "trace" else coverage.level(int(name[1:]))
        yield _checked(f"level of {name}", level, found)


def _some(lines: Sequence[str]) -> list[str]:
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], *([f"... and {more:,} more"] if more > 0 else [])]


# --- counts ------------------------------------------------------------------------------------

_OF_CAPTURE: Final = frozenset(
    f"finding.{code.name}" for code in FindingCode if code.blame is Blame.CAPTURE
)
"""Counts that are about the capture."""


def _counts(evidence: Evidence, expected: Expectations, *, of_capture: bool) -> Iterator[Check]:
    """Compare the counts that are about the capture, or all others."""
    closed = [name for which in sorted(expected.sets) for name in members(which)]
    for name in dict.fromkeys([*expected.counts, *closed]):
        if (name in _OF_CAPTURE) is of_capture:
            found = find_quantity(name).value(evidence.measured, WHOLE)
            if name in expected.counts or found:
                yield _count(evidence, name, expected.counts.get(name, 0), found)


def _no_finding(evidence: Evidence) -> Iterator[Check]:
    """Say that nothing was found, where that is so: a check that passed is seen, too."""
    if not evidence.report.source.results.has_fault:
        yield Check("no finding", Outcome.PASSED)


def _count(evidence: Evidence, name: str, expected: int, found: float | None) -> Check:
    shown = "none observed: not captured" if found is None else int(found)
    check = _checked(name, expected, shown, *_places(evidence, name))
    is_claim = find_quantity(name).is_claim and found is not None and found > expected
    return replace(check, is_claim=is_claim)


def _places(evidence: Evidence, name: str) -> list[str]:
    """Say where what was counted is, for what is listed one by one."""
    results = evidence.report.source.results
    which, _, member = name.partition(".")
    if name == "divergences":
        return _some(
            [
                f"tsc {one.tsc}, d{one.dom}v{one.vcpu}, record #{one.seq}: {one.what}: "
                f"expected {one.expected}, found {one.found}"
                for one in results.divergences
            ]
        )
    if which == "finding":
        found = [one for one in results.findings if one.code.name == member]
        return _some([f"tsc {one.tsc}, record #{one.seq}: {one.sentence}" for one in found])
    tables = {"cause": evidence.report.runs, "fate": evidence.report.sends}
    if which not in tables:
        return []
    listed = tables[which].filter(pl.col(which) == member).select("tsc", "dom", "port", "seq")
    lines = [
        f"tsc {tsc}, d{dom}:{'?' if port is None else port}, record #{seq}"
        for tsc, dom, port, seq in listed.head(SHOWN).iter_rows()
    ]
    more = listed.height - len(lines)
    return lines + ([f"... and {more:,} more"] if more else [])


# --- latencies ---------------------------------------------------------------------------------


def _latency(evidence: Evidence, want: ExpectedLatency) -> Iterator[Check]:
    """Compare each quantile of a stage."""
    for function, expected in want.values.items():
        name = f"{function}({want.stage}) on {want.part.name or 'all'}"
        found = quantile(evidence.measured, want.part, function, want.stage)
        if found is None:
            yield _checked(name, duration(expected), "none measured")
        elif function == "count":
            yield _checked(name, expected, int(found))
        elif want.tolerance.allows(expected, found):
            yield Check(name, Outcome.PASSED)
        else:
            wanted = f"{duration(expected)} within {want.tolerance.text}"
            yield _checked(name, wanted, duration(round(found)))


# --- tokens ------------------------------------------------------------------------------------


def _token(evidence: Evidence, token: Token) -> Check:
    """Check that a run, a send or a record appears."""
    found = count_token(evidence, token)
    name = f"appears: {token}"
    if found >= token.at_least:
        return Check(name, Outcome.PASSED)
    wanted = "at least once" if token.at_least == 1 else f"at least {token.at_least:,} times"
    return Check(name, Outcome.FAILED, f"expected {wanted}, found {count_of(found, 'time')}")


def count_token(evidence: Evidence, token: Token) -> int:
    """Count how often a token appears in a trace."""
    report = evidence.report
    if token.kind == "record":
        counts = evidence.reader.survey.records_by_event
        return sum(count for event, count in counts.items() if event_name(event) == token.name)
    wanted = _port("dom", "port") == token.name
    if token.routes is not None:
        wanted &= pl.col("routes").list.join(" ") == " ".join(token.routes)
    if token.tsc is not None:
        wanted &= pl.col("tsc") == token.tsc
    if token.kind == "run":
        return report.runs.filter((wanted & _of_run(token)).fill_null(value=False)).height
    return report.sends.filter((wanted & _of_send(token)).fill_null(value=False)).height


def _port(dom: str, port: str) -> pl.Expr:
    return pl.format("d{}:{}", dom, port)


def _of_run(token: Token) -> pl.Expr:
    """Give the filter for the cause of a run and what provoked it."""
    wanted = pl.lit(value=True)
    if token.verdict:
        wanted &= pl.col("cause") == token.verdict
    if token.other:
        part = pl.element().struct
        origins = pl.format("d{}:{}", part.field("dom"), part.field("port"))
        wanted &= pl.col("contributors").list.eval(origins).list.contains(token.other)
    return wanted


def _of_send(token: Token) -> pl.Expr:
    """Give the filter for the fate of a send and where it went."""
    wanted = pl.lit(value=True)
    if token.verdict:
        wanted &= pl.col("fate") == token.verdict
    if token.other:
        wanted &= _port("to_dom", "to_port") == token.other
    return wanted


# --- rules -------------------------------------------------------------------------------------


def _rule(evidence: Evidence, rule: Rule) -> Check:
    """Ask a rule in each of its parts."""
    name = f"rule {rule.name}"
    answers = list(rule.answers(evidence.measured))
    broken = [answer for answer in answers if answer.holds is False]
    if broken:
        lines = [
            f"{answer.part.name or 'the trace'}: {answer.found}, not {answer.wanted}"
            for answer in broken
        ]
        message = lines[0] + (f", and in {len(broken) - 1} other parts" if broken[1:] else "")
        details = tuple(_some(lines)) if broken[1:] else ()
        return Check(name, Outcome.FAILED, message, details, rule.breaks_by_claims)
    if not any(answer.holds for answer in answers):
        return Check(name, Outcome.UNANSWERED, "what it asks about was not observed")
    return Check(name, Outcome.PASSED)
