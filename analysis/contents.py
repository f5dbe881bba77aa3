"""The tables of a report, in their order, and when each is listed."""

from dataclasses import asdict, dataclass

import polars as pl

from evtrace.analysis.channels import channels
from evtrace.analysis.columns import NO_WORK, captured, counted, port_name
from evtrace.analysis.latency import GroupBy, latencies
from evtrace.analysis.notifications import held, rates, storms
from evtrace.analysis.outliers.explained import Outliers
from evtrace.analysis.outliers.waits import Frames
from evtrace.analysis.placement import moved, placement
from evtrace.analysis.spurious import Spurious, by_kind, by_port, empty_upcalls
from evtrace.analysis.stock.analyse import StockReport
from evtrace.analysis.tables import Table
from evtrace.replay.results import Results
from evtrace.timeline import RecordClass, class_names
from evtrace.tracefile.coverage import CoverageMap
from evtrace.tracefile.facts import Facts
from evtrace.tracefile.family import Timing
from evtrace.verdicts import Cause

SELF_EXPLAINING = (Cause.VIRQ, Cause.PIRQ, Cause.IPI)
"""Runs of any other cause are listed one by one."""

TIMING_WORDS = {
    Timing.UNKNOWN: "The recording does not state where its times come from.",
    Timing.SCRIPTED: "Times are scripted, no measurement.",
    Timing.MODELLED: "Times are modelled, no measurement.",
    Timing.EMULATED_CPU: "Times are of an emulated CPU: they say nothing about hardware.",
    Timing.HARDWARE: "Times are of hardware.",
}


@dataclass(frozen=True, slots=True)
class Source:
    """What a report is made of."""

    title: str
    profile: str
    """Name of the profile of Xen that the replay ran against."""
    facts: Facts
    coverage: CoverageMap
    results: Results
    frames: Frames
    """Gives the timeline anew, in batches."""
    end_tsc: int
    """Host TSC of the trace's last record."""
    stock: StockReport | None = None
    """What Xen's own records tell; None where that was not asked for."""


@dataclass(frozen=True, slots=True)
class Material:
    """What the tables are made of, filtered to what is asked about."""

    source: Source
    runs: pl.DataFrame
    """`verdicts.runs_schema`, with the `device` that each irq is named for."""
    sends: pl.DataFrame
    moves: pl.DataFrame
    stages: pl.DataFrame
    """`latency.stage_times` of the runs."""
    spurious: Spurious
    outliers: Outliers | None
    group_by: GroupBy


def contents(of: Material) -> list[Table]:
    """Give the tables of a report in the order in which they are shown."""
    source, runs, sends, moves = of.source, of.runs, of.sends, of.moves
    hz = source.facts.tsc_hz
    coverage = source.coverage
    told = [dom for dom in runs["dom"].unique() if RecordClass.CALL in coverage.classes(dom)]
    note = TIMING_WORDS[source.facts.timing]
    channel_frame = channels(runs, sends, of.stages, coverage, hz, of.group_by)
    if hz is None:
        note = "The TSC's frequency is not known; no time can be given."
    return [
        Table("coverage", "Captured", _coverage(coverage)),
        _findings(source.results),
        _divergences(source.results),
        _timed("channels", _CHANNELS, channel_frame, f"{_WAY} {note}"),
        _timed("latencies", "Latencies by stage", latencies(of.stages, hz, of.group_by), note),
        Table("ports", "Handler runs by port", _ports(runs, coverage)),
        Table("notable_runs", _NOTABLE, _notable(runs)),
        Table("spurious", "Spurious, three kinds that are never added", by_kind(of.spurious)),
        Table("empty_upcalls", "Empty upcalls (L1)", empty_upcalls(source.results)),
        _spurious_ports(by_port(runs, coverage, hz)),
        *([] if hz is None else _notifications(of, hz)),
        Table("held", _HELD, held(runs, sends, source.end_tsc, hz)),
        _placement(placement(runs, moves, told)),
        Table("moves", "Ports that bind_vcpu moved", moved(moves)),
        *(source.stock.tables if source.stock else []),
        *([of.outliers.table, of.outliers.chains] if of.outliers else []),
        Table("runs", "All handler runs", runs, listed=0),
        Table("sends", "All sends", sends, listed=0),
    ]


def _timed(name: str, title: str, frame: pl.DataFrame, note: str) -> Table:
    """Make a table with quantiles; those that mean nothing in it are not shown."""
    count = "count" if "count" in frame.columns else "runs"
    hidden = ["p999_ns"] if (frame[count].max() or 0) < ENOUGH_FOR_P999 else []  # type: ignore[operator]
    hidden += [
        name
        for name in ("uncertainty_ns", "lost", "unknown")
        if name in frame and not frame[name].sum()
    ]
    return Table(name, title, frame, note, tuple(hidden), _LABELS)


def _spurious_ports(frame: pl.DataFrame) -> Table:
    """Make the table of spurious runs by port."""
    title = "Spurious runs by port, who made them, and what their late EOI cost"
    labels = {"unprovoked": "L2", "no_work": "L3", "no_work_share": "L3 share"}
    return Table("spurious_ports", title, frame, labels=labels)


def _placement(frame: pl.DataFrame) -> Table:
    """Make the table of runs by vCPU, listed where some port ran on more than one."""
    vcpus = [name for name in frame.columns if name[1:].isdecimal()]
    spread = frame.select(pl.sum_horizontal(pl.col(vcpus) > 0).max()).item() if vcpus else 0
    listed = 20 if (spread or 0) > 1 else 0
    return Table("placement", "Handler runs by vCPU", frame, listed=listed)


ENOUGH_FOR_P999 = 1000
"""Of fewer values the 99.9th percentile is the largest."""

_LABELS = {
    "p999_ns": "p99.9",
    "coalesced": "coal",
    "unprovoked": "L2",
    "no_work": "L3",
    "uncertainty_ns": "±",
}
_CHANNELS = "Channels, the longest wait first"
_WAY = "From the send to the handler; L2: runs that nobody provoked, L3: no work found."
_NOTABLE = "Runs, the self-explaining timers and IPIs left out"
_HELD = "Events that waited for their port to be unmasked"
_RATES = "Notifications a second, on average and in the busiest 10 ms"
_STORMS = "Storms: many sends, little work"


def _notifications(of: Material, tsc_hz: int) -> list[Table]:
    return [
        Table("rates", _RATES, rates(of.sends, of.runs, tsc_hz)),
        Table("storms", _STORMS, storms(of.sends, of.runs, tsc_hz)),
    ]


def _coverage(coverage: CoverageMap) -> pl.DataFrame:
    """Say which classes were captured for whom and when."""
    rows = [
        (_who(dom, vcpu), class_names(classes), lo, hi)
        for dom, vcpu, classes, lo, hi in coverage.frame().iter_rows()
    ]
    schema = pl.Schema(
        {
            "who": pl.String(),
            "captured": pl.List(pl.String()),
            "from_tsc": pl.Int64(),
            "to_tsc": pl.Int64(),
        },
    )
    return pl.DataFrame(rows, schema, orient="row")


def _who(dom: int | None, vcpu: int | None) -> str:
    if dom is None:
        return "all"
    return f"d{dom}" if vcpu is None else f"d{dom}v{vcpu}"


def _findings(results: Results) -> Table:
    rows = [found.as_json() for found in results.findings]
    return Table("findings", "Findings", pl.DataFrame(rows, infer_schema_length=None))


def _divergences(results: Results) -> Table:
    rows = [asdict(found) for found in results.divergences]
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return Table("divergences", "Divergences", frame, hidden=("around",))


def _ports(runs: pl.DataFrame, coverage: CoverageMap) -> pl.DataFrame:
    """Count the runs of each port, those that found no work, and all by cause."""
    told = captured(runs, coverage, RecordClass.EOI)
    return (
        runs.group_by("dom", "port", "device")
        .agg(
            runs=pl.len().cast(pl.Int64),
            no_work=pl.when(told).then(NO_WORK.sum()).cast(pl.Int64),
            causes=counted(runs, "cause"),
        )
        .sort("dom", "port", "device")
        .select(port_name(), "device", "runs", "no_work", "causes")
    )


def _notable(runs: pl.DataFrame) -> pl.DataFrame:
    """List the runs that need an explanation."""
    worth = ~pl.col("cause").is_in([cause.value for cause in SELF_EXPLAINING])
    columns: list[str | pl.Expr] = [
        "tsc",
        "seq",
        port_name(),
        pl.format("v{}", "vcpu").alias("vcpu"),
    ]
    names = ("cause", "routes", "work", "work_cause", "eoi_delay", "evidence", "reason")
    return runs.filter(worth).select(*columns, *names)
