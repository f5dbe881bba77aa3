"""Two traces compared: differences in order, and what could not be compared."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from evtrace.analysis.diff.aligned import Alignment
from evtrace.analysis.diff.alignment import align
from evtrace.analysis.diff.blocks import Sureness
from evtrace.analysis.diff.compared import IGNORED, Compared
from evtrace.analysis.diff.faults import faults, rare_kinds
from evtrace.analysis.diff.heads import limits, remarks, tell_alike
from evtrace.analysis.diff.latencies import latency_pairs
from evtrace.analysis.diff.load import LoadChange, load_changes, may_be_of_load
from evtrace.analysis.diff.mapping import Mapping
from evtrace.analysis.diff.missing import OneSided, from_channels, one_sided, standstill
from evtrace.analysis.diff.operations import Walked, walk
from evtrace.analysis.diff.shares import share_pairs, verdicts
from evtrace.analysis.diff.side import Side
from evtrace.analysis.diff.verdict import About, Difference, from_comparisons, ordered
from evtrace.analysis.sentence import count_of


@dataclass(frozen=True, slots=True)
class Asked:
    """How two traces are to be compared."""

    mapping: Mapping = field(default_factory=Mapping)
    ignored: float = IGNORED
    """Changes of times and shares below this share of them are not told."""


@dataclass(frozen=True, slots=True)
class Diff:
    """Everything that the comparison of two traces says."""

    a: Side
    b: Side
    ignored: float
    alignment: Alignment
    differences: list[Difference]
    """The most important first."""
    load: list[LoadChange]
    """Between which domains the load is another one."""
    with_load: list[Difference]
    """What changed together with the load, and may be its doing: no differences."""
    remarks: list[str]
    """What is not alike in how the traces were made, and what is not compared therefore."""
    is_limited: bool
    """Something is not compared for how the traces were made."""
    compared: list[Compared]
    """Every time and share that was compared, told or not."""
    channels: list[OneSided]
    """What only one trace has, told or not."""
    rare: list[str]
    """Verdicts that only one trace has, too few to tell."""
    walked: Walked

    @property
    def verdict(self) -> str:
        """The first line."""
        if self.differences:
            return f"{count_of(len(self.differences), 'difference')} beyond noise:"
        if not self.is_told:
            return "nothing could be compared."
        if not self.compared:
            return "no difference; there was too little to compare any time or share."
        limits = " in what could be compared" if self.is_limited else ""
        limits += " but what another load can explain" if self.with_load else ""
        return f"no difference beyond noise{limits}."

    @property
    def is_told(self) -> bool:
        """Whether anything was compared."""
        return bool(self.compared) or self.walked.is_comparable


def compare(a: Side, b: Side, asked: Asked | None = None) -> Diff:
    """Compare B against A."""
    asked = asked or Asked()
    alignment = align(a.structure, b.structure, asked.mapping)
    pairs = latency_pairs(a, b, alignment) + share_pairs(a, b, alignment)
    sure = Sureness(len(pairs))
    compared = [pair.compare(sure, asked.ignored) for pair in pairs]
    channels = one_sided(verdicts(a), verdicts(b, alignment), alignment)
    changes = load_changes(a, b, alignment)
    of_load = [one for one in compared if may_be_of_load(one, changes)]
    walked = walk(a.told.calls, b.told.calls, alignment)
    found = [
        *(standstill(a, b) if tell_alike(a, b) else ()),
        *faults(a, b),
        *_answers(walked),
        *from_comparisons([one for one in compared if not may_be_of_load(one, changes)]),
        *(from_channels(channels) if tell_alike(a, b) else ()),
    ]
    limited = bool(limits(a, b))
    return Diff(
        a=a,
        b=b,
        ignored=asked.ignored,
        alignment=alignment,
        differences=ordered(found),
        load=changes,
        with_load=ordered(from_comparisons(of_load)),
        remarks=remarks(a, b, alignment),
        is_limited=limited,
        compared=compared,
        channels=channels,
        rare=[] if limited else rare_kinds(a, b, {n for one in found for n in one.quantities}),
        walked=walked,
    )


def _answers(walked: Walked) -> Iterator[Difference]:
    for one in walked.answers:
        yield Difference(About.ANSWERS, "trace", one.what, None, ("answers",))
