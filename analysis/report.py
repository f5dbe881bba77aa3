"""The report of one replayed trace: a sentence, and tables that every format shows alike."""

from dataclasses import asdict, dataclass, field

import polars as pl

from evtrace.analysis.channels import channels
from evtrace.analysis.forms.notebook import as_html
from evtrace.analysis.latency import GroupBy, latencies, stage_times, with_devices
from evtrace.analysis.notifications import held, rates, storms
from evtrace.analysis.outliers.explained import Outliers, explain_outliers
from evtrace.analysis.outliers.waits import Frames
from evtrace.analysis.placement import moved, placement
from evtrace.analysis.scope import Scope
from evtrace.analysis.sentence import verdict_in_words
from evtrace.analysis.stock.analyse import StockReport
from evtrace.analysis.tables import Table
from evtrace.replay.results import Results
from evtrace.timeline import RecordClass, class_names
from evtrace.tracefile.coverage import CoverageMap
from evtrace.tracefile.facts import Facts
from evtrace.tracefile.family import Timing
from evtrace.verdicts import UNPROVOKED_CAUSES, Cause, WorkVerdict

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
class Spurious:
    """Three kinds of spurious events that are never added; None where it cannot be observed."""

    l1_empty_upcalls: int | None
    l2_unprovoked_runs: int | None
    l3_no_work: int | None


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


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """Everything a report says."""

    source: Source
    verdict: str
    level: str
    """C0 to C5, the lowest of the domains asked about."""
    runs: pl.DataFrame
    """`verdicts.runs_schema`, with the `device` that each irq is named for."""
    sends: pl.DataFrame
    stages: pl.DataFrame
    """`latency.stage_times` of the runs."""
    causes: dict[str, int]
    fates: dict[str, int]
    spurious: Spurious
    tables: list[Table]
    outliers: Outliers | None = None
    """The longest ways to a handler, where these were asked for."""

    def table(self, name: str) -> Table:
        """Give the table of this name. Raises `KeyError` if there is none."""
        return {table.name: table for table in self.tables}[name]

    def __repr__(self) -> str:
        """Say what it is and what it comes to, in a line."""
        return f"<Report {self.source.title!r}: {self.verdict}>"

    def _repr_html_(self) -> str:
        """Show itself in a notebook."""
        return as_html(self.verdict, [table for table in self.tables if table.listed])


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a report is to hold."""

    scope: Scope = field(default_factory=Scope)
    group_by: GroupBy = GroupBy.CHANNEL
    over_ns: int | None = None
    """Ways to a handler that took longer are explained; None: none is."""


def make_report(source: Source, wanted: Wanted | None = None) -> Report:
    """Summarise the verdicts of a replay."""
    wanted = wanted or Wanted()
    scope = wanted.scope
    facts, results = source.facts, source.results
    all_sends = results.sends_frame()
    runs = with_devices(results.runs_frame(), facts.irq_names).filter(scope.of_runs())
    sends = all_sends.filter(scope.of_sends())
    stages = stage_times(runs, all_sends, facts.clock_widths)
    report = Report(
        source=source,
        verdict=_verdict(source, runs, sends),
        level=source.coverage.overall_level(scope.asked_doms),
        runs=runs,
        sends=sends,
        stages=stages,
        causes=_counts(runs, "cause"),
        fates=_counts(sends, "fate"),
        spurious=_spurious(runs, source, scope),
        tables=[],
        outliers=_outliers(source, stages, wanted.over_ns),
    )
    moves = results.moves_frame().filter(scope.of_runs())
    report.tables.extend(_tables(report, moves, wanted.group_by))
    return report


def _outliers(source: Source, stages: pl.DataFrame, over_ns: int | None) -> Outliers | None:
    if over_ns is None:
        return None
    about = source.results, source.facts, source.coverage
    return explain_outliers(source.frames, stages, *about, over_ns)


def _verdict(source: Source, runs: pl.DataFrame, sends: pl.DataFrame) -> str:
    """Say it by the replay, or by Xen's own records where there is nothing to replay."""
    if source.stock and source.results.hypercalls == source.results.uncovered and runs.is_empty():
        return source.stock.verdict
    return verdict_in_words(source.results, runs, sends)


def _counts(frame: pl.DataFrame, column: str) -> dict[str, int]:
    counted = frame[column].value_counts().sort("count", column, descending=[True, False])
    return dict(counted.iter_rows())


def _spurious(runs: pl.DataFrame, source: Source, scope: Scope) -> Spurious:
    """Count the three kinds; upcalls belong to a vCPU, so a choice of ports or times has no L1."""
    coverage = source.coverage
    classes = coverage.classes()
    empty = sum(
        count
        for dom, count in source.results.empty_upcalls.items()
        if not scope.doms or dom in scope.doms
    )
    unprovoked = runs.filter(pl.col("cause").is_in(sorted(UNPROVOKED_CAUSES))).height
    no_work = runs.filter(pl.col("work") == WorkVerdict.NO_WORK.value).height
    return Spurious(
        l1_empty_upcalls=empty if scope.is_whole and coverage.has_upcalls(classes) else None,
        l2_unprovoked_runs=unprovoked if coverage.has_runs(classes) else None,
        l3_no_work=no_work if coverage.has_eoi(classes) else None,
    )


# --- the tables -------------------------------------------------------------------------------


def _tables(report: Report, moves: pl.DataFrame, group_by: GroupBy) -> list[Table]:
    source, runs, sends = report.source, report.runs, report.sends
    hz = source.facts.tsc_hz
    coverage = source.coverage
    told = [dom for dom in runs["dom"].unique() if RecordClass.CALL in coverage.classes(dom)]
    note = TIMING_WORDS[source.facts.timing]
    channel_frame = channels(runs, sends, report.stages, coverage, hz, group_by)
    if hz is None:
        note = "The TSC's frequency is not known; no time can be given."
    return [
        Table("coverage", "Captured", _coverage(coverage)),
        _findings(source.results),
        _divergences(source.results),
        _timed("channels", _CHANNELS, channel_frame, f"{_WAY} {note}"),
        _timed("latencies", "Latencies by stage", latencies(report.stages, hz, group_by), note),
        Table("ports", "Handler runs by port", _ports(runs, coverage)),
        Table("notable_runs", _NOTABLE, _notable(runs)),
        Table("spurious", "Spurious, three kinds that are never added", _spurious_frame(report)),
        *([] if hz is None else _notifications(report, hz)),
        Table("held", _HELD, held(runs, sends, source.end_tsc, hz)),
        _placement(placement(runs, moves, told)),
        Table("moves", "Ports that bind_vcpu moved", moved(moves)),
        *(source.stock.tables if source.stock else []),
        *([report.outliers.table, report.outliers.chains] if report.outliers else []),
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


def _notifications(report: Report, tsc_hz: int) -> list[Table]:
    return [
        Table("rates", _RATES, rates(report.sends, report.runs, tsc_hz)),
        Table("storms", _STORMS, storms(report.sends, report.runs, tsc_hz)),
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
    causes = sorted(set(runs["cause"]))
    told = [dom for dom in runs["dom"].unique() if RecordClass.EOI in coverage.classes(dom)]
    no_work = (pl.col("work") == WorkVerdict.NO_WORK.value).sum()
    counts = [pl.col("cause").filter(pl.col("cause") == cause).len() for cause in causes]
    words = [
        pl.when(count > 0).then(pl.format("{} {}", pl.lit(cause), count))
        for cause, count in zip(causes, counts, strict=True)
    ]
    return (
        runs.group_by("dom", "port", "device")
        .agg(
            runs=pl.len().cast(pl.Int64),
            no_work=pl.when(pl.col("dom").first().is_in(told)).then(no_work).cast(pl.Int64),
            causes=pl.concat_str([pl.lit(""), *words], separator=", ", ignore_nulls=True),
        )
        .sort("dom", "port", "device")
        .select(_port_name(), "device", "runs", "no_work", pl.col("causes").str.strip_prefix(", "))
    )


def _port_name() -> pl.Expr:
    return pl.format("d{}:{}", "dom", pl.col("port").cast(pl.String).fill_null("?")).alias("port")


def _notable(runs: pl.DataFrame) -> pl.DataFrame:
    """List the runs that need an explanation."""
    worth = ~pl.col("cause").is_in([cause.value for cause in SELF_EXPLAINING])
    columns: list[str | pl.Expr] = [
        "tsc",
        "seq",
        _port_name(),
        pl.format("v{}", "vcpu").alias("vcpu"),
    ]
    return runs.filter(worth).select(*columns, "cause", "routes", "work", "evidence", "reason")


def _spurious_frame(report: Report) -> pl.DataFrame:
    if report.runs.is_empty():
        return pl.DataFrame()
    found = report.spurious
    rows = [
        ("L1", "upcalls in which no handler ran", found.l1_empty_upcalls),
        ("L2", "runs that nobody provoked", found.l2_unprovoked_runs),
        ("L3", "runs in which the driver found no work", found.l3_no_work),
    ]
    schema = {"level": pl.String, "what": pl.String, "count": pl.Int64}
    return pl.DataFrame(rows, schema, orient="row")
