"""What is a fault by itself, whatever the statistics: once in B and never in A is a difference."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Final

from evtrace.analysis.diff.compared import FEWEST
from evtrace.analysis.diff.side import Side
from evtrace.analysis.diff.verdict import About, Difference
from evtrace.analysis.sentence import count_of
from evtrace.verdicts import Blame, Cause, Fate

FAULTY: Final = {
    **{
        f"cause.{cause.value}": text
        for cause, text in (
            (Cause.UNPROVOKED, "a handler ran and nothing had set its port pending"),
            (Cause.DOUBLE_HANDLE, "two handlers ran for one event"),
            (Cause.STALE_PENDING_REUSE, "pending was left by an earlier owner of the port"),
        )
    },
    **{
        f"fate.{fate.value}": text
        for fate, text in (
            (Fate.LOST, "an event was lost"),
            (Fate.NOT_ANNOUNCED, "an event is pending, and nothing announces it"),
            (Fate.DROP_NO_CONTROL_BLOCK, "an event was dropped: no FIFO control block"),
            (Fate.HELD_NO_WORD, "an event was held: the guest has given no event word"),
        )
    },
}
"""Verdicts that must not be."""

LOSSES: Final = frozenset(
    {
        *(f"fate.{fate.value}" for fate in (Fate.LOST, Fate.NOT_ANNOUNCED)),
        f"fate.{Fate.DROP_NO_CONTROL_BLOCK.value}",
        *(f"finding.{name}" for name in ("LOST_SEND", "LOST_EVENT", "LOST_UPCALL")),
        *(f"finding.{name}" for name in ("NOT_DELIVERED", "UNMASK_WITHOUT_RERAISE")),
    }
)
"""Of these, what means that an event did not arrive."""


@dataclass(slots=True)
class Seen:
    """How often something was seen in a trace, and where first."""

    count: int = 0
    first: str = ""

    def take(self, where: str) -> None:
        """Take one more."""
        self.count += 1
        self.first = self.first or where


def faults(a: Side, b: Side) -> Iterator[Difference]:
    """Tell what faults only one trace has, or one has many more of."""
    one, other = _faults_of(a), _faults_of(b)
    sizes = _operations(a), _operations(b)
    for quantity in sorted(one.keys() | other.keys(), key=_rank):
        was, is_ = one.get(quantity, Seen()), other.get(quantity, Seen())
        if not was.count or not is_.count or _far_apart((was.count, is_.count), sizes):
            yield _difference(quantity, was, is_)


def _rank(quantity: str) -> tuple[int, str]:
    """Order findings, which say whose doing it is, before what they rest on."""
    return {"finding": 0, "divergences": 1}.get(quantity.partition(".")[0], 2), quantity


def _operations(side: Side) -> int:
    return side.source.results.hypercalls + len(side.source.results.runs) + 1


def _faults_of(side: Side) -> dict[str, Seen]:
    """Count the faults of a trace by what they are; first those that findings name."""
    results = side.source.results
    found: dict[str, Seen] = {}
    for finding in results.findings:
        if finding.blame is not Blame.CAPTURE:
            seen = found.setdefault(f"finding.{finding.code.name}", Seen())
            seen.take(f"{finding.code}, #{finding.seq}: {finding.sentence}")
    for divergence in results.divergences:
        where = f"#{divergence.seq}: d{divergence.dom} {divergence.what}"
        text = f"{where}: expected {divergence.expected}, found {divergence.found}"
        found.setdefault("divergences", Seen()).take(text)
    named = {finding.seq for finding in results.findings}
    for quantity, seq, where in _verdicts(side):
        if quantity in FAULTY and seq not in named:
            found.setdefault(quantity, Seen()).take(f"{where}: {FAULTY[quantity]}")
    return found


def _verdicts(side: Side) -> Iterator[tuple[str, int, str]]:
    """Give each verdict of the trace with its record and where it is."""
    for run in side.source.results.runs:
        yield f"cause.{run.cause.value}", run.seq, f"#{run.seq}: d{run.dom}:{run.port}"
    for send in side.source.results.sends:
        yield f"fate.{send.fate.value}", send.seq, f"#{send.seq}: d{send.dom}:{send.port}"


_TIMES_MORE: Final = 2.0
_SURE: Final = 4.0
"""Standard errors between the square roots of two counts."""


def _far_apart(counts: tuple[int, int], sizes: tuple[int, int]) -> bool:
    """Whether counts of two traces of these sizes differ by more than chance makes them."""
    a, b = counts[0] / sizes[0], counts[1] / sizes[1]
    error = 0.5 * sqrt(1 / sizes[0] + 1 / sizes[1])
    return max(a, b) >= _TIMES_MORE * min(a, b) and abs(sqrt(a) - sqrt(b)) > _SURE * error


def _difference(quantity: str, was: Seen, is_: Seen) -> Difference:
    name = quantity.partition(".")[2] or quantity
    more = is_.count > was.count
    if not was.count:
        text = f"new: {_times(name, is_.count)}, first {is_.first}"
    elif not is_.count:
        text = f"gone: {_times(name, was.count)} in A, none in B; first {was.first}"
    else:
        text = f"{name}: {was.count:,} in A, {is_.count:,} in B; first there {is_.first}"
    size = float(max(was.count, is_.count))
    return Difference(About.FAULTS, "trace", text, more, (quantity,), size)


def _times(name: str, count: int) -> str:
    return f"{name} {count_of(count, 'time')}"


# --- what is too rare to tell ------------------------------------------------------------------

_LISTED: Final = 4


def rare_kinds(a: Side, b: Side, told: set[str]) -> list[str]:
    """Name the verdicts that only one trace has, too few to be more than chance."""
    one, other = (Counter(name for name, *_ in _verdicts(side)) for side in (a, b))
    unknown = {f"cause.{Cause.UNKNOWN.value}", f"fate.{Fate.UNKNOWN.value}"}
    rare = {name for name in one.keys() ^ other.keys() if one[name] + other[name] < FEWEST}
    names = sorted(rare - told - FAULTY.keys() - unknown)
    texts = [
        f"{name.partition('.')[2]} ({one[name]:,} in A, {other[name]:,} in B)" for name in names
    ]
    more = len(texts) - _LISTED
    return texts[:_LISTED] + ([f"{more} more"] if more > 0 else [])
