"""Facts: what a replay has found that a trace is to go on showing, each with its explanation.

A fact is that of one record. Another one of the same name, which comes about only because
something was left out, is another fact.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from evtrace.replay.results import Results
from evtrace.replay.tokens import Channel
from evtrace.verdicts import (
    UNPROVOKED_CAUSES,
    Divergence,
    EmptyUpcall,
    Finding,
    Run,
    Send,
    WorkVerdict,
)

DIVERGENCE = "divergence"


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that a replay says of one record."""

    kind: str
    """divergence, finding, run, send or upcall."""
    seq: int
    names: frozenset[str]
    """What it is called: `cause.SEND`, `spurious.L2`, `finding.LOST_SEND`."""
    channels: frozenset[Channel]
    """The ports that it is about; empty where it is about a vCPU alone."""
    tsc: int
    explanation: tuple[object, ...]
    """Why the replay says so: numbers in sentences left out, records by their `seq`."""
    sentence: str
    answered_by: int | None = None
    """`seq` of the record at which it ends, where there is one."""
    since: int | None = None
    """`seq` of the first record that it rests on, if that is not its own."""

    def is_like(self, other: "Fact") -> bool:
        """Tell whether it is the same one in another trace, whose records have other numbers."""
        mine, its = (
            (fact.kind, fact.tsc, fact.names, fact.channels, _without_numbers(fact.sentence))
            for fact in (self, other)
        )
        return mine == its


def facts(results: Results) -> Iterator[Fact]:
    """Give everything that can be kept, what is wrong first."""
    yield from map(_of_divergence, results.divergences)
    yield from map(_of_finding, results.findings)
    yield from map(_of_run, results.runs)
    yield from map(_of_send, results.sends)
    yield from map(_of_upcall, results.empty)


def _of_divergence(found: Divergence) -> Fact:
    name = found.what.partition("(")[0].partition(" ")[0]
    names = frozenset({DIVERGENCE, f"{DIVERGENCE}.{name}"})
    explanation = (found.what, found.expected, found.found)
    said = f"{found.what}: expected {found.expected}, found {found.found}"
    about = re.search(r"\bport=(\d+)|d\d+:(\d+) runs", found.what)
    ports = [int(port) for port in about.groups() if port] if about else []
    channels = frozenset((found.dom, port) for port in ports)
    return Fact(DIVERGENCE, found.seq, names, channels, found.tsc, explanation, said, found.seq)


def _of_finding(found: Finding) -> Fact:
    channels = frozenset() if found.port is None else frozenset({(found.dom, found.port)})
    names = frozenset({f"finding.{found.code.name}"})
    explanation = (found.code, found.dom, found.port, _without_numbers(found.sentence))
    said = f"{found.code.value} {found.code.name}: {found.sentence}"
    return Fact("finding", found.seq, names, channels, found.tsc, explanation, said)


def _of_run(run: Run) -> Fact:
    names = {f"cause.{run.cause}", *(f"route.{route}" for route in run.routes)}
    if run.cause in UNPROVOKED_CAUSES:
        names.add("spurious.L2")
    if run.work is WorkVerdict.NO_WORK:
        names.add("spurious.L3")
    names |= {f"work_cause.{run.work_cause}"} if run.work_cause else set()
    names |= {f"eoi_delay.{run.eoi_delay}"} if run.eoi_delay else set()
    channels = frozenset() if run.port is None else frozenset({(run.dom, run.port)})
    provoked_by = tuple(part.seq for part in run.contributors)
    explanation = (run.cause, run.routes, _without_numbers(run.evidence), provoked_by, run.work)
    said = f"d{run.dom}:{run.port} v{run.vcpu} {run.cause}: {run.reason}"
    since = min(provoked_by, default=None)
    return Fact(
        "run",
        run.seq,
        frozenset(names),
        channels,
        run.tsc,
        (*explanation, _without_numbers(run.reason), run.work_cause, run.eoi_delay),
        said,
        run.seq,
        since,
    )


def _of_send(send: Send) -> Fact:
    channels = {(send.dom, send.port)}
    to = ""
    if send.to_dom is not None and send.to_port is not None:
        channels.add((send.to_dom, send.to_port))
        to = f" to d{send.to_dom}:{send.to_port}"
    names = frozenset({f"fate.{send.fate}", *(f"route.{route}" for route in send.routes)})
    explanation = (send.fate, send.taken_seq, send.routes, _without_numbers(send.reason))
    said = f"send on d{send.dom}:{send.port}{to} {send.fate}"
    said += f": {send.reason}" if send.reason else ""
    return Fact(
        "send",
        send.seq,
        names,
        frozenset(channels),
        send.tsc,
        explanation,
        said,
        send.taken_seq,
    )


def _of_upcall(found: EmptyUpcall) -> Fact:
    names = frozenset({"spurious.L1", f"upcall.{found.verdict}"})
    explanation = (found.verdict, _without_numbers(found.reason), found.evidence)
    said = f"upcall of d{found.dom}v{found.vcpu} {found.verdict}: {found.reason}"
    return Fact("upcall", found.seq, names, frozenset(), found.tsc, explanation, said, found.seq)


def verdicts(found: Iterable[Fact]) -> dict[tuple[str, int, frozenset[Channel]], frozenset[str]]:
    """Give what is said of each record, by what it has in common with the same one elsewhere."""
    said: dict[tuple[str, int, frozenset[Channel]], frozenset[str]] = {}
    for fact in found:
        key = (fact.kind, fact.tsc, fact.channels)
        names = {name for name in fact.names if name.partition(".")[0] in _JUDGED}
        said[key] = said.get(key, frozenset()) | names
    return said


_JUDGED = frozenset({DIVERGENCE, "finding", "cause", "fate", "upcall"})


def _without_numbers(text: str) -> str:
    """Leave out numbers: times, counts, names of ports that the record itself names.

    Whether something was not captured at one time or never is the same where that is all there is.
    """
    return re.sub(r"\d+", "#", text).removesuffix(" at #")
