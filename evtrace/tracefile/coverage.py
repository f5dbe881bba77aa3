"""Which record classes were captured, for which domain and vCPU, and when.

What a trace states (COVERAGE records) and what its stock records prove. A verdict asks here
before it takes the absence of a record for the absence of an event.
"""

from collections.abc import Collection
from copy import copy
from dataclasses import replace
from functools import cache

import polars as pl

from evtrace.timeline import RecordClass
from evtrace.tracefile.facts import Coverage, Facts
from evtrace.tracefile.survey import Survey

STOCK = RecordClass.HYPERCALL | RecordClass.SCHED | RecordClass.HVM | RecordClass.IRQ
NOTHING = RecordClass(0)

_C4 = RecordClass.CALL | RecordClass.UPCALL | RecordClass.HANDLER
_C5 = _C4 | RecordClass.MEMORY | RecordClass.RAISE

_WORDS = {
    RecordClass.HYPERCALL: "hypercalls",
    RecordClass.SCHED: "scheduling",
    RecordClass.HVM: "VM exits",
    RecordClass.IRQ: "physical interrupts",
    RecordClass.CALL: "calls",
    RecordClass.UPCALL: "upcalls",
    RecordClass.HANDLER: "handler runs",
    RecordClass.MEMORY: "accesses to the shared memory",
    RecordClass.QUEUE: "accesses to the queues",
    RecordClass.EOI: "the driver's verdicts",
    RecordClass.RAISE: "VIRQs raised",
}


class CoverageMap:
    """Answers whether classes were captured for a domain during a whole interval of host TSC."""

    def __init__(self, facts: Facts, survey: Survey, loss: str = "") -> None:
        """Join what `facts` state with what the stock records of `survey` prove.

        `loss` says what of the file could not be read: what it states to hold may be missing.
        """
        self.loss = loss
        self._facts = facts
        self._call_words = survey.call_words
        self._gaps = survey.lost
        self.intervals: list[Coverage] = list(facts.coverage)
        self._spans: dict[tuple[int, RecordClass], list[list[tuple[int, int]]]] = {}
        own = {stream.dom for stream in facts.streams.values()}
        self._on_pcpus = {
            interval.dom
            for interval in facts.coverage
            if interval.classes & ~STOCK and interval.dom not in own and not loss
        }
        if survey.stock_extent and survey.stock_classes:
            self.intervals.append(Coverage(None, None, survey.stock_classes, *survey.stock_extent))

    def until(self, tsc: int) -> "CoverageMap":
        """Give what was captured up to host TSC `tsc`, as of a capture that ends there."""
        cut = copy(self)
        cut.intervals = [
            replace(interval, tsc_hi=min(interval.tsc_hi, tsc))
            for interval in self.intervals
            if interval.tsc_lo <= tsc
        ]
        cut._spans = {}  # noqa: SLF001  its own kind
        return cut

    def covered(self, dom: int, classes: RecordClass, lo: int, hi: int) -> bool:
        """Whether every one of `classes` was captured for `dom` from `lo` to `hi`."""
        return self.missing(dom, classes, lo, hi) is None

    def missing(self, dom: int, classes: RecordClass, lo: int, hi: int) -> str | None:
        """Say which of `classes` was not captured for `dom` all the way, and why; None if all."""
        for cls in _single_classes(classes):
            reason = self._missing(dom, cls, lo, hi)
            if reason:
                return reason
        return None

    def extent(self, dom: int, cls: RecordClass) -> tuple[int, int] | None:
        """Give the first and last TSC at which a class was captured for a domain itself."""
        able = [c for c in self.intervals if cls in c.classes and c.dom == dom]
        if not able:
            return None
        return min(c.tsc_lo for c in able), max(c.tsc_hi for c in able)

    def gap(self, dom: int, lo: int, hi: int) -> str:
        """Say which records of `dom` itself may have been dropped from `lo` to `hi`; "" if none.

        They are where a domain's records go into the buffers of the pCPUs, as Xen's own do.
        """
        return self._dropped(lo, hi) if dom in self._on_pcpus else ""

    @property
    def gaps_reach_guests(self) -> bool:
        """Whether records of guests may be among those that were dropped."""
        return bool(self._on_pcpus and self._gaps)

    def _dropped(self, lo: int, hi: int) -> str:
        for gap in self._gaps:
            first, last = sorted((gap.first_tsc, gap.tsc))
            if first <= hi and lo <= last:
                return f"{gap.count} records of pcpu {gap.pcpu} were lost"
        return ""

    def level(self, dom: int) -> str:
        """Give the capture level of a domain, C0 (snapshot only) to C5 (every step)."""
        classes = self.classes(dom)
        whole = _C5
        if self._facts.forms.get(dom) != 0:  # a 2-level domain has no queue to observe
            whole |= RecordClass.QUEUE
        if classes & whole == whole:
            return "C5"
        if classes & _C4 == _C4:
            return "C4"
        if RecordClass.CALL in classes:
            return "C2" if 0 < self._call_words.get(dom, 0) <= 2 else "C3"
        return "C1" if classes else "C0"

    def overall_level(self, doms: frozenset[int] | set[int] = frozenset()) -> str:
        """Give the lowest level of `doms`, or of all domains with records of evtrace's own."""
        named = {interval.dom for interval in self._facts.coverage if interval.dom is not None}
        levels = [self.level(dom) for dom in sorted(doms or named)]
        everybody = "C1" if self.classes() & STOCK else "C0"
        return min(levels, default=everybody)

    def classes(self, dom: int | None = None) -> RecordClass:
        """Give the classes captured for `dom` at any time; of every domain if it is None."""
        found = NOTHING
        for interval in self.intervals:
            if dom is None or interval.dom in {None, dom}:
                found |= interval.classes
        return found

    def tells(self, classes: RecordClass, doms: Collection[int] = ()) -> bool:
        """Whether all of `classes` were captured at some time for one of `doms`, or of all."""
        named = {interval.dom for interval in self.intervals}
        return any(classes in self.classes(dom) for dom in doms or named)

    def frame(self) -> pl.DataFrame:
        """Give the intervals: `dom`, `vcpu` (null: all), `classes`, `tsc_lo`, `tsc_hi`."""
        return pl.DataFrame(
            [(c.dom, c.vcpu, int(c.classes), c.tsc_lo, c.tsc_hi) for c in self.intervals],
            {
                "dom": pl.UInt16,
                "vcpu": pl.UInt16,
                "classes": pl.UInt32,
                "tsc_lo": pl.Int64,
                "tsc_hi": pl.Int64,
            },
            orient="row",
        )

    def _missing(self, dom: int, cls: RecordClass, lo: int, hi: int) -> str:
        parts = self._spans.get((dom, cls))
        if parts is None:
            parts = self._spans[dom, cls] = self._find_spans(dom, cls)
        if not parts:
            return _not_captured(dom, cls)
        dropped = self._dropped(lo, hi) if cls in STOCK else self.gap(dom, lo, hi)
        if dropped:
            return dropped
        holes = [hole for spans in parts if (hole := _first_hole(spans, lo, hi)) is not None]
        return f"{_not_captured(dom, cls)} at {min(holes)}" if holes else ""

    def _find_spans(self, dom: int, cls: RecordClass) -> list[list[tuple[int, int]]]:
        """Give the sorted spans in which a class was captured for each vCPU of a domain."""
        able = [c for c in self.intervals if cls in c.classes and c.dom in {None, dom}]
        whole = [(c.tsc_lo, c.tsc_hi) for c in able if c.vcpu is None]
        parts = [[*whole, *spans] for spans in _by_vcpu(able).values()] or [whole]
        return [sorted(spans) for spans in parts if spans]


def _not_captured(dom: int, cls: RecordClass) -> str:
    return f"{_WORDS[cls]} of d{dom} were not captured"


@cache
def _single_classes(classes: RecordClass) -> tuple[RecordClass, ...]:
    """Part a set of classes; parting a flag anew each time is slow."""
    return tuple(classes)


def _by_vcpu(intervals: list[Coverage]) -> dict[int, list[tuple[int, int]]]:
    """Give the spans captured of single vCPUs; a domain is covered where each of them is."""
    spans: dict[int, list[tuple[int, int]]] = {}
    for interval in intervals:
        if interval.vcpu is not None:
            spans.setdefault(interval.vcpu, []).append((interval.tsc_lo, interval.tsc_hi))
    return spans


def _first_hole(spans: list[tuple[int, int]], lo: int, hi: int) -> int | None:
    """Give the first time in [lo, hi] that no span, in their order, covers."""
    reached = lo
    for start, end in spans:
        if start > reached:
            break
        reached = max(reached, end + 1)
        if reached > hi:
            return None
    return reached if reached <= hi else None
