"""The examination: snapshots in, findings out, and the sentence that sums them up."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from evtrace.replay.doctor.bindings import find_odd_bindings
from evtrace.replay.doctor.case import Case
from evtrace.replay.doctor.findings import Finding, Trouble, trouble_of
from evtrace.replay.doctor.peers import find_half_open
from evtrace.replay.doctor.pending import find_stuck
from evtrace.replay.doctor.sources import find_disagreements, gather, join
from evtrace.snapshot import Snapshot, SourceKind
from evtrace.verdicts import Severity

_NAMED = 4
"""Ports that the sum names; more are counted."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, the worst first, and what they rest on."""

    findings: tuple[Finding, ...]
    cases: tuple[Case, ...]

    @property
    def has_trouble(self) -> bool:
        """Something was found that asks for somebody."""
        return any(finding.is_trouble for finding in self.findings)

    @property
    def verdict(self) -> str:
        """Say in one sentence what was found, or that nothing was."""
        ports = sum(case.now.channel_count for case in self.cases)
        doms = sorted({dom for case in self.cases for dom in case.now.domains})
        scope = f"{ports} channels of {', '.join(f'd{dom}' for dom in doms)}"
        parts = [part for kind in Trouble if (part := self._count(kind))]
        if not parts:
            return f"Nothing found: none of the {scope} is {self._judged()}."
        return f"Found: {'; '.join(parts)}. ({scope} looked at.)"

    def _judged(self) -> str:
        if all(case.now.kind is SourceKind.LSEVTCHN for case in self.cases):
            return "half-open; whether one is stuck, lsevtchn does not show"
        return "stuck or half-open"

    def _count(self, kind: Trouble) -> str:
        found = (one for one in self.findings if one.is_trouble and trouble_of(one.code) is kind)
        names = list(dict.fromkeys(one.where for one in found))
        if not names:
            return ""
        word = {Trouble.ODD: "worth a look"}.get(kind, kind.value)
        verb = "is" if len(names) == 1 else "are"
        if len(names) > _NAMED:
            return f"{len(names)} {verb} {word}"
        return f"{', '.join(names)} {verb} {word}"


def examine(snapshots: Iterable[Snapshot]) -> Diagnosis:
    """Judge snapshots of one host, those of a kind given in order of time."""
    series = gather(snapshots)
    cases = list(_cases(series))
    findings = [finding for case in cases for finding in _judge(case)]
    if SourceKind.DEBUG_KEY in series and SourceKind.LSEVTCHN in series:
        last = (series[kind][-1] for kind in (SourceKind.DEBUG_KEY, SourceKind.LSEVTCHN))
        findings += find_disagreements(*last)
    worst_first = list(Severity)
    findings.sort(key=lambda one: worst_first.index(one.severity))
    return Diagnosis(tuple(findings), tuple(cases))


def _cases(series: dict[SourceKind, list[Snapshot]]) -> Iterator[Case]:
    dumps = series.get(SourceKind.DEBUG_KEY, [])
    lists = series.get(SourceKind.LSEVTCHN, [])
    if dumps:
        now = join(dumps[-1], lists[-1]) if lists else dumps[-1]
        yield Case(now, dumps[:-1])
    elif lists:
        yield Case(lists[-1], lists[:-1])
    if emulated := series.get(SourceKind.QEMU):
        yield Case(emulated[-1], emulated[:-1])


def _judge(case: Case) -> Iterator[Finding]:
    yield from find_stuck(case)
    yield from find_half_open(case)
    yield from find_odd_bindings(case)
