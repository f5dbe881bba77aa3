"""One unordered pass over a trace: counts, extent, gaps, and what the TSC frequency is."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from evtrace.timeline import Kind, RecordClass
from evtrace.tracefile.checks import RecordChecks
from evtrace.tracefile.clocks import (
    ENOUGH_INTERVALS,
    LOST_RECORDS,
    RUNSTATE,
    RUNSTATE_MASK,
    calibrate,
    switch_intervals,
)
from evtrace.tracefile.damage import Damage
from evtrace.tracefile.facts import Facts
from evtrace.tracefile.family import (
    ALL_VCPUS,
    FACTS_STREAM,
    FAMILY_EVENT,
    FAMILY_MASK,
    KIND_WORDS,
    family_event,
    unpack_vcpu,
)
from evtrace.xen.abi import DOMID_SELF

_STOCK_CLASSES = {
    RecordClass.HYPERCALL: (0x0020100D, 0x0020200E, 0x00201001, 0x00201101, 0x00082012),
    RecordClass.SCHED: (0x00021101, 0x00021011, 0x00021021, 0x00021211, 0x00028004, 0x00028006),
    RecordClass.HVM: (0x00081001, 0x00081002, 0x00081102, 0x00081003, 0x00081103),
    RecordClass.IRQ: (0x00802008,),
}
"""Events whose presence proves that a class was captured."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A gap: Xen dropped `count` records of `pcpu` from `first_tsc` to `tsc`."""

    pcpu: int
    count: int
    first_tsc: int
    tsc: int
    dom: int | None
    """The vCPU that ran when the record was written, not when records were dropped."""
    vcpu: int | None
    offset: int
    """Byte of the LOST_RECORDS record."""


class Survey:
    """What can be known of a trace without sorting it."""

    def __init__(self, facts: Facts) -> None:
        """Start with nothing counted; `facts` names the streams with clocks of their own."""
        self.records_by_event: Counter[int] = Counter()
        self.records_by_stream: Counter[int] = Counter()
        self.lost: list[Lost] = []
        self.vcpus: set[tuple[int, int]] = set()
        """(domain, vCPU) that a runstate or a record of the family names; idle ones excepted."""
        self.call_words: dict[int, int] = {}
        """Domain -> most words of any of its CALL_ENTER records."""
        self._facts = facts
        self._all: dict[int, tuple[int, int]] = {}
        self._stock: dict[int, tuple[int, int]] = {}
        self._checks = RecordChecks()
        self._switched: dict[int, int] = {}
        self._intervals: list[pl.DataFrame] = []

    @property
    def records(self) -> int:
        """Count all records, window headers excepted."""
        return self.records_by_event.total()

    @property
    def pcpus(self) -> list[int]:
        """Name the physical CPUs that have a stream."""
        return sorted(stream for stream in self.records_by_stream if stream < FACTS_STREAM)

    @property
    def extent(self) -> tuple[int, int] | None:
        """Give the first and last host TSC of all records but those of the facts stream."""
        spans = [self._in_host_time(s, *span) for s, span in self._all.items() if s != FACTS_STREAM]
        return (min(lo for lo, _ in spans), max(hi for _, hi in spans)) if spans else None

    @property
    def stock_extent(self) -> tuple[int, int] | None:
        """Give the first and last TSC of what Xen itself recorded."""
        spans = self._stock.values()
        return (min(lo for lo, _ in spans), max(hi for _, hi in spans)) if spans else None

    @property
    def last_tscs(self) -> dict[int, int]:
        """Give for each stream the last TSC of what Xen itself recorded in it."""
        return {stream: hi for stream, (_, hi) in self._stock.items()}

    @property
    def stock_classes(self) -> RecordClass:
        """Give the classes of stock records that the trace holds."""
        found = RecordClass(0)
        for cls, events in _STOCK_CLASSES.items():
            if any(self.records_by_event[event] for event in events):
                found |= cls
        return found

    @property
    def unknown_kinds(self) -> int:
        """Count records of the family whose kind this version does not know."""
        known = {family_event(kind) for kind in KIND_WORDS}
        return sum(
            count
            for event, count in self.records_by_event.items()
            if event & FAMILY_MASK == FAMILY_EVENT and event not in known
        )

    @cached_property
    def tsc_hz(self) -> int | None:
        """Give the TSC frequency by the scheduler's own measure, None if there is none."""
        return calibrate(pl.concat(self._intervals)) if self._intervals else None

    def take(self, records: pl.DataFrame) -> list[Damage]:
        """Count `records` (columns of `Load.frame`); give what is wrong with them."""
        self.records_by_event.update(dict(records["event"].value_counts().iter_rows()))
        self.records_by_stream.update(dict(records["pcpu"].value_counts().iter_rows()))
        self._take_times(records)
        self._take_calls(records)
        self._take_vcpus(records)
        if sum(map(len, self._intervals)) < ENOUGH_INTERVALS:
            self._intervals.append(switch_intervals(records, self._switched))
        self._take_lost(records.filter(event=LOST_RECORDS))
        return self._checks.take(records)

    def _take_times(self, records: pl.DataFrame) -> None:
        stock = (pl.col("event") & FAMILY_MASK) != FAMILY_EVENT
        for book, some in ((self._all, records), (self._stock, records.filter(stock))):
            spans = some.group_by("pcpu").agg(pl.col("tsc").min(), pl.col("tsc").max().alias("hi"))
            for stream, lo, hi in spans.drop_nulls().iter_rows():
                before = book.get(stream, (lo, hi))
                book[stream] = min(lo, before[0]), max(hi, before[1])

    def _take_calls(self, records: pl.DataFrame) -> None:
        calls = records.filter(event=family_event(Kind.CALL_ENTER))
        most = calls.group_by(pl.col("w0") // (1 << 16)).agg(pl.col("n_words").max())
        for dom, words in most.iter_rows():
            self.call_words[dom] = max(words, self.call_words.get(dom, 0))

    def _take_vcpus(self, records: pl.DataFrame) -> None:
        event = pl.col("event")
        names_one = ((event & RUNSTATE_MASK) == RUNSTATE) | ((event & FAMILY_MASK) == FAMILY_EVENT)
        words = records.filter(names_one)["w0"].drop_nulls().unique()
        vcpus = (unpack_vcpu(word) for word in words)
        self.vcpus |= {(dom, vcpu) for dom, vcpu in vcpus if dom < DOMID_SELF and vcpu != ALL_VCPUS}

    def _take_lost(self, lost: pl.DataFrame) -> None:
        columns = ("pcpu", "tsc", "n_words", "w0", "w1", "w2", "w3", "file_offset")
        for pcpu, tsc, n_words, count, vcpu, low, high, offset in lost.select(columns).iter_rows():
            first = low | high << 32 if n_words >= 4 else tsc
            self.lost.append(
                Lost(
                    pcpu,
                    count or 0,
                    first if first is not None else 0,
                    tsc if tsc is not None else first or 0,
                    None if vcpu is None else vcpu & 0xFFFF,
                    None if vcpu is None else vcpu >> 16,
                    offset,
                ),
            )

    def _in_host_time(self, stream: int, lo: int, hi: int) -> tuple[int, int]:
        own = self._facts.streams.get(stream)
        if own is None or own.clock is None:
            return lo, hi
        lowest, highest = self._facts.clock_offsets.get(own.clock, (0, 0))
        return lo + lowest, hi + highest
