"""Hypercalls per vCPU and number: how many, and how long, exactly or at most.

A PVH or HVM guest leaves by a VM exit and returns by a VM entry: the time between is exact. A PV
guest's call has a record at its start alone; it has ended by the vCPU's next record as a guest,
which is a bound. Calls in which the vCPU lost its pCPU are counted, not measured.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

import polars as pl

from evtrace.analysis.stock.chains import LONGEST
from evtrace.analysis.stock.sketch import Sketch, bucket_expr
from evtrace.analysis.stock.steps import SUBCALL, on_host, proves_guest
from evtrace.timeline import Kind, Runstate

VMMCALL: Final = 0x00082012
_KIND: Final = pl.col("kind")


@unique
class Timing(StrEnum):
    """How the duration of a call is known."""

    EXACT = "exact"
    """From VM exit to VM entry."""
    BOUND = "at most"
    """To the next record that shows the vCPU in its guest."""
    IN_MULTICALL = "in multicall"
    """Not at all: one entry of a multicall."""


@dataclass(frozen=True, slots=True)
class CallKey:
    """Which calls are counted together."""

    vcpu: int | None
    op: int
    timing: Timing


class Hypercalls:
    """The fold over annotated records; what is known of each key grows with their number only."""

    def __init__(self) -> None:
        """Start with no call."""
        self.counts: Counter[CallKey] = Counter()
        self.descheduled: Counter[CallKey] = Counter()
        self.sketches: dict[CallKey, Sketch] = defaultdict(Sketch)
        self._open: pl.DataFrame | None = None
        """The last two marks of each pCPU: a call that has not ended, and its VM exit."""

    def take(self, batch: pl.DataFrame) -> None:
        """Count and measure the calls of a batch; one may have begun in an earlier one."""
        marks = self._marks(batch.filter(on_host()).with_columns(pv=proves_guest()))
        self._open = marks.group_by("pcpu", maintain_order=True).tail(2).with_columns(fresh=False)
        fresh = marks.filter("fresh")
        _count(self.counts, fresh.filter(_KIND == Kind.HYPERCALL))
        after_call = marks.filter(pl.col("fresh") & (pl.col("kind_before") == Kind.HYPERCALL))
        stopped = after_call.filter(_KIND == Kind.RUNSTATE)
        _count(self.descheduled, stopped, "_before")
        by_exit = pl.col("event_before") == VMMCALL
        self._measure(
            after_call.filter(pl.when(by_exit).then(_KIND == Kind.VMENTRY).otherwise("pv"))
        )

    def _marks(self, records: pl.DataFrame) -> pl.DataFrame:
        """Pick what begins or ends calls, each with the mark before it on its pCPU (`*_before`)."""
        stops = (_KIND == Kind.RUNSTATE) & (pl.col("op") // 16 == int(Runstate.RUNNING))
        ends = _KIND.is_in([int(k) for k in (Kind.VMEXIT, Kind.VMENTRY, Kind.LOST)])
        calls = (_KIND == Kind.HYPERCALL) & pl.col("op").is_not_null()
        own = records.filter(calls | (pl.col("pv") & _KIND.is_null()) | ends | stops).select(
            "pcpu",
            pl.col("kind").fill_null(0),
            "event",
            pl.col("vcpu_word").cast(pl.Int64).alias("vcpu"),
            pl.col("op").cast(pl.Int64),
            "tsc_lo",
            "pv",
            fresh=pl.lit(value=True),
        )
        _count(self.counts, own.filter(event=SUBCALL))
        own = own.filter(pl.col("event") != SUBCALL)
        marks = own if self._open is None else pl.concat([self._open.select(own.columns), own])
        after_exit = pl.col("kind").shift(1).over("pcpu") == Kind.VMEXIT
        exit_tsc = pl.when(after_exit).then(pl.col("tsc_lo").shift(1).over("pcpu"))
        started = pl.when(event=VMMCALL).then(exit_tsc).otherwise("tsc_lo")
        return marks.with_columns(start=started).with_columns(
            pl.col(name).shift(1).over("pcpu").alias(f"{name}_before")
            for name in ("kind", "event", "vcpu", "op", "start")
        )

    def _measure(self, ended: pl.DataFrame) -> None:
        """Take the durations of calls that end here; none without the VM exit that began it."""
        cycles = pl.col("tsc_lo") - pl.col("start_before")
        ended = ended.filter(cycles.is_between(0, LONGEST)).select(
            cycles=cycles,
            tsc="tsc_lo",
            event="event_before",
            vcpu="vcpu_before",
            op="op_before",
        )
        keys = ["vcpu", "op", "event"]
        buckets = ended.group_by(*keys, bucket=bucket_expr(pl.col("cycles"))).len()
        for vcpu, op, event, bucket, count in buckets.iter_rows():
            self._sketch(vcpu, op, event).add_bucket(bucket, count)
        longest = ended.group_by(keys).agg(
            pl.col("cycles").max(),
            pl.col("tsc").get(pl.col("cycles").arg_max()),
        )
        for vcpu, op, event, cycles, tsc in longest.iter_rows():
            self._sketch(vcpu, op, event).see(cycles, tsc)

    def _sketch(self, vcpu: int | None, op: int, event: int) -> Sketch:
        return self.sketches[_key(vcpu, op, event)]


def _count(book: Counter[CallKey], calls: pl.DataFrame, of: str = "") -> None:
    """Count calls by key; `of` is the suffix of the columns that describe the call."""
    columns = [f"{name}{of}" for name in ("vcpu", "op", "event")]
    for vcpu, op, event, count in calls.group_by(columns).len().iter_rows():
        book[_key(vcpu, op, event)] += count


def _key(vcpu: int | None, op: int, event: int) -> CallKey:
    timings = {VMMCALL: Timing.EXACT, SUBCALL: Timing.IN_MULTICALL}
    return CallKey(vcpu, op, timings.get(event, Timing.BOUND))
