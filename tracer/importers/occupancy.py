"""Occupancy: when each vCPU ran, and where, by the records of a stock capture."""

from bisect import bisect_right
from dataclasses import dataclass, field

import polars as pl

from evtrace.timeline import Kind, Runstate
from evtrace.tracefile.reader import TraceReader
from evtrace.tracefile.rows import timeline
from evtrace.tracer.importers.intervals import FOREVER, Interval, union
from evtrace.xen.abi import DOMID_SELF, HYPERVISOR_event_channel_op

Vcpu = tuple[int, int]
"""(domain, vCPU)."""

_KIND = pl.col("kind")
_STARTS = (_KIND == Kind.RUNSTATE) & (pl.col("op") % 16 == Runstate.RUNNING)
_STOPS = (_KIND == Kind.RUNSTATE) & (pl.col("op") // 16 == Runstate.RUNNING)
_KINDS = (Kind.RUNSTATE, Kind.VMENTRY, Kind.VMEXIT, Kind.HYPERCALL, Kind.LOST)
_COLUMNS = ("seq", "tsc_lo", "tsc_hi", "pcpu", "dom", "vcpu", "kind", "op")


@dataclass(slots=True)
class Spans:
    """Times, in order, during which something held; `places` says on which pCPU."""

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def index(self, tsc: int) -> int | None:
        """Give the number of the span that holds `tsc`; None if none does."""
        found = bisect_right(self.starts, tsc) - 1
        return found if found >= 0 and tsc <= self.ends[found] else None

    def at(self, tsc: int) -> int | None:
        """Give the place at `tsc`; None if it did not hold then."""
        found = self.index(tsc)
        return None if found is None else self.places[found]

    def intervals(self) -> list[Interval]:
        """Give the times without the places."""
        return list(zip(self.starts, self.ends, strict=True))


@dataclass(slots=True)
class Occupancy:
    """What the stock records tell about the vCPUs."""

    first_tsc: int = 0
    last_tsc: int = 0
    running: dict[Vcpu, Spans] = field(default_factory=dict)
    """When a vCPU ran."""
    in_guest: dict[Vcpu, Spans] = field(default_factory=dict)
    """HVM: when a vCPU ran guest code, between VMENTRY and VMEXIT."""
    calls: dict[Vcpu, Spans] = field(default_factory=dict)
    """For each event_channel_op the time it was in Xen: at least its record; HVM: from VMEXIT to
    VMENTRY."""
    gaps: list[Interval] = field(default_factory=list)
    """Times in which records of some pCPU were lost."""
    pv: set[int] = field(default_factory=set)
    """Domains that made hypercalls as PV guests do."""

    @property
    def hvm(self) -> set[int]:
        """Domains that were entered as HVM guests are."""
        return {dom for dom, _ in self.in_guest}

    def vcpus_of(self, dom: int) -> dict[int, Spans]:
        """Give when each vCPU of a domain can have run its own code, as narrowly as is known."""
        book = self.in_guest if dom in self.hvm else self.running
        return {vcpu: spans for (of, vcpu), spans in book.items() if of == dom}

    def possible(self, spans: Spans) -> list[Interval]:
        """Give the times at which a vCPU with these `spans` may have run: then, or unobserved."""
        before, after = (-FOREVER, spans.starts[0] - 1), (spans.ends[-1] + 1, FOREVER)
        return union([before, *spans.intervals(), *self.gaps, after])


def read_occupancy(reader: TraceReader) -> Occupancy:
    """Read where vCPUs ran; only the times are kept, however long the capture."""
    occupancy = Occupancy()
    began: dict[int, int] = {}
    parts = []
    wanted = _KIND.is_in([int(kind) for kind in _KINDS]) & (
        (_KIND != Kind.HYPERCALL) | (pl.col("op") == HYPERVISOR_event_channel_op)
    )
    for batch in timeline(reader):
        on_pcpus = batch.filter(pl.col("pcpu").is_not_null())
        if on_pcpus.height:
            _extend(occupancy, on_pcpus)
            firsts = on_pcpus.group_by("pcpu").agg(pl.col("tsc_lo").first())
            began = dict(firsts.iter_rows()) | began
            parts.append(on_pcpus.filter(wanted).select(_COLUMNS))
    if parts:
        rows = pl.concat(parts).sort("pcpu", "seq")
        _running(occupancy, rows, began)
        _in_guest(occupancy, rows.filter(pl.col("dom").is_not_null()))
        lost = rows.filter(_KIND == Kind.LOST).select("tsc_lo", "tsc_hi")
        occupancy.gaps = union(lost.iter_rows())
    return occupancy


def _extend(occupancy: Occupancy, batch: pl.DataFrame) -> None:
    first, last = batch.select(pl.col("tsc_lo").min(), pl.col("tsc_hi").max()).row(0)
    occupancy.first_tsc = min(occupancy.first_tsc or first, first)
    occupancy.last_tsc = max(occupancy.last_tsc, last)


def _running(occupancy: Occupancy, rows: pl.DataFrame, began: dict[int, int]) -> None:
    """Collect when vCPUs ran: on a pCPU until one stops or starts there, or records are lost.

    Who is said to stop first ran there since the pCPU's records begin; who LOST_RECORDS names
    runs when it is written.
    """
    changes = rows.filter(_STARTS | _STOPS | (_KIND == Kind.LOST))
    is_first = pl.col("pcpu") != pl.col("pcpu").shift(1).fill_null(-1)
    stops_first = is_first & _STOPS
    since = (
        pl.when(stops_first)
        .then(pl.col("pcpu").replace_strict(began, return_dtype=pl.Int64))
        .when(_KIND == Kind.LOST)
        .then("tsc_hi")
        .otherwise("tsc_lo")
    )
    following = pl.col("tsc_lo").shift(-1).over("pcpu").fill_null(occupancy.last_tsc)
    until = pl.when(stops_first).then("tsc_lo").otherwise(following)
    spans = changes.with_columns(since=since, until=until, runs=~_STOPS | is_first)
    _collect(occupancy.running, spans.filter(pl.col("runs") & (pl.col("dom") < DOMID_SELF)))


def _in_guest(occupancy: Occupancy, rows: pl.DataFrame) -> None:
    """Collect from each VMENTRY to the next VMEXIT, and for calls from each exit to its entry."""
    is_call = _KIND == Kind.HYPERCALL
    timed = is_call & (pl.col("tsc_lo") == pl.col("tsc_hi"))  # HVM's VMMCALL carries no TSC
    pv = rows.filter(timed & ~pl.col("dom").is_in(_entered(rows)))
    occupancy.pv = set(pv["dom"])
    _collect(occupancy.calls, pv.with_columns(since="tsc_lo", until="tsc_hi"))
    marks = (
        rows.filter(_KIND.is_in([int(Kind.VMENTRY), int(Kind.VMEXIT), int(Kind.HYPERCALL)]))
        .with_columns(called=is_call.cum_sum().over("pcpu").cast(pl.Int64))
        .filter(~is_call)
        .with_columns(
            since="tsc_lo",
            until=pl.col("tsc_lo").shift(-1).over("pcpu"),
            then=_KIND.shift(-1).over("pcpu"),
            calls=pl.col("called").shift(-1).over("pcpu") - pl.col("called"),
            same=(pl.col("dom").shift(-1).over("pcpu") == pl.col("dom"))
            & (pl.col("vcpu").shift(-1).over("pcpu") == pl.col("vcpu")),
        )
        .filter("same")
    )
    entered, left = _KIND == Kind.VMENTRY, _KIND == Kind.VMEXIT
    _collect(occupancy.in_guest, marks.filter(entered & (pl.col("then") == Kind.VMEXIT)))
    in_xen = left & (pl.col("then") == Kind.VMENTRY) & (pl.col("calls") > 0)
    _collect(occupancy.calls, marks.filter(in_xen))


def _entered(rows: pl.DataFrame) -> list[int]:
    return rows.filter(_KIND == Kind.VMENTRY)["dom"].unique().to_list()


def _collect(book: dict[Vcpu, Spans], rows: pl.DataFrame) -> None:
    ordered = rows.sort("since").select("dom", "vcpu", "since", "until", "pcpu")
    for dom, vcpu, since, until, pcpu in ordered.iter_rows():
        spans = book.setdefault((dom, vcpu), Spans())
        spans.starts.append(since)
        spans.ends.append(until)
        spans.places.append(pcpu)
