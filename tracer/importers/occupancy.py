"""Occupancy: when each vCPU ran, and where, by the scheduler's records of a stock capture."""

from bisect import bisect_right
from dataclasses import dataclass, field

import polars as pl

from evtrace.timeline import Kind, Runstate
from evtrace.tracefile.reader import TraceReader
from evtrace.tracefile.rows import timeline
from evtrace.xen.abi import HYPERVISOR_event_channel_op

Vcpu = tuple[int, int]
"""(domain, vCPU)."""


@dataclass(slots=True)
class Spans:
    """Times, in order, during which something held; `places` says where."""

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def at(self, tsc: int) -> int | None:
        """Give the place at `tsc`; None if it did not hold then."""
        found = bisect_right(self.starts, tsc) - 1
        return self.places[found] if found >= 0 and tsc <= self.ends[found] else None


@dataclass(slots=True)
class Occupancy:
    """What the stock records tell about the vCPUs."""

    first_tsc: int = 0
    last_tsc: int = 0
    running: dict[Vcpu, Spans] = field(default_factory=dict)
    """When a vCPU ran; the place is the pCPU."""
    in_guest: dict[Vcpu, Spans] = field(default_factory=dict)
    """HVM: when a vCPU ran guest code, between VMENTRY and VMEXIT."""
    calls: dict[Vcpu, Spans] = field(default_factory=dict)
    """HVM: for each event_channel_op, from its VMEXIT to the next VMENTRY."""


def read_occupancy(reader: TraceReader) -> Occupancy:
    """Read where vCPUs ran; only the times are kept, however long the capture."""
    occupancy = Occupancy()
    kinds = [int(k) for k in (Kind.RUNSTATE, Kind.VMENTRY, Kind.VMEXIT, Kind.HYPERCALL, Kind.LOST)]
    parts = []
    for batch in timeline(reader):
        if batch.height:
            first, last = batch.select(pl.col("tsc_lo").first(), pl.col("tsc_hi").max()).row(0)
            occupancy.first_tsc = occupancy.first_tsc or first
            occupancy.last_tsc = max(occupancy.last_tsc, last)
        wanted = pl.col("kind").is_in(kinds) & (
            (pl.col("kind") != Kind.HYPERCALL) | (pl.col("op") == HYPERVISOR_event_channel_op)
        )
        columns = ("seq", "tsc_lo", "tsc_hi", "pcpu", "dom", "vcpu", "kind", "op")
        parts.append(batch.filter(wanted & pl.col("pcpu").is_not_null()).select(columns))
    if parts:
        rows = pl.concat(parts)
        _running(occupancy, rows)
        _in_guest(occupancy, rows)
    return occupancy


def _running(occupancy: Occupancy, rows: pl.DataFrame) -> None:
    """Find when vCPUs ran: until another one starts on the pCPU, or records were lost."""
    new = pl.col("op") % 16
    starts = (pl.col("kind") == Kind.RUNSTATE) & (new == Runstate.RUNNING)
    marks = rows.filter(starts | (pl.col("kind") == Kind.LOST)).sort("pcpu", "seq")
    spans = marks.with_columns(
        end=pl.col("tsc_lo").shift(-1).over("pcpu").fill_null(occupancy.last_tsc),
    ).filter(pl.col("kind") == Kind.RUNSTATE)
    _collect(occupancy.running, spans.select("dom", "vcpu", "tsc_lo", "end", "pcpu"))


def _in_guest(occupancy: Occupancy, rows: pl.DataFrame) -> None:
    """Pair each VMENTRY with the VMEXIT that follows on its pCPU, and each exit with its entry."""
    hvm = rows.filter(
        pl.col("kind").is_in([int(Kind.VMENTRY), int(Kind.VMEXIT), int(Kind.HYPERCALL)])
        & pl.col("dom").is_not_null(),
    ).sort("pcpu", "seq")
    called = (pl.col("kind") == Kind.HYPERCALL).cum_sum().over("pcpu")
    marks = (
        hvm.with_columns(called=called)
        .filter(pl.col("kind") != Kind.HYPERCALL)
        .with_columns(
            end=pl.col("tsc_lo").shift(-1).over("pcpu"),
            then=pl.col("kind").shift(-1).over("pcpu"),
            calls=pl.col("called").shift(-1).over("pcpu").cast(pl.Int64) - pl.col("called"),
            same=(pl.col("dom").shift(-1).over("pcpu") == pl.col("dom"))
            & (pl.col("vcpu").shift(-1).over("pcpu") == pl.col("vcpu")),
        )
        .filter("same")
    )
    entry, leave = pl.col("kind") == Kind.VMENTRY, pl.col("kind") == Kind.VMEXIT
    inside = marks.filter(entry & (pl.col("then") == Kind.VMEXIT))
    _collect(occupancy.in_guest, inside.select("dom", "vcpu", "tsc_lo", "end", "pcpu"))
    calls = marks.filter(leave & (pl.col("then") == Kind.VMENTRY) & (pl.col("calls") > 0))
    _collect(occupancy.calls, calls.select("dom", "vcpu", "tsc_lo", "end", "pcpu"))


def _collect(book: dict[Vcpu, Spans], rows: pl.DataFrame) -> None:
    for dom, vcpu, start, end, pcpu in rows.sort("tsc_lo").iter_rows():
        spans = book.setdefault((dom, vcpu), Spans())
        spans.starts.append(start)
        spans.ends.append(end)
        spans.places.append(pcpu)
