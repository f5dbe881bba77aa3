"""The tables that the page shows: made here from what a report holds."""

import polars as pl

from evtrace.analysis.report import TIMER_CAUSES, Report
from evtrace.analysis.tables import Table
from evtrace.timeline import class_names


def tables_of(report: Report) -> list[Table]:
    """Give the tables of a report, in the order of the page."""
    tables = [
        _findings(report),
        _channels(report),
        _runs(report),
        _fates(report),
        _spurious(report),
        Table("latencies", "Latencies", report.latencies),
        _divergences(report),
        _coverage(report),
    ]
    return [table for table in tables if table.frame.height]


def _coverage(report: Report) -> Table:
    who = [
        "all" if dom is None else f"d{dom}" if vcpu is None else f"d{dom}v{vcpu}"
        for dom, vcpu in report.coverage.select("dom", "vcpu").iter_rows()
    ]
    captured = [" ".join(class_names(classes)) for classes in report.coverage["classes"]]
    frame = pl.DataFrame({"who": who, "captured": captured}).hstack(
        report.coverage.select(from_tsc="tsc_lo", to_tsc="tsc_hi").get_columns()
    )
    return Table("coverage", "What was captured", frame)


def _channels(report: Report) -> Table:
    port = _port().alias("port")
    others = [name for name in report.channels.columns if name not in {"dom", "port", "name"}]
    frame = report.channels.select(port, "name", *others)
    return Table(
        "channels", "Handler runs by port", frame.rename({"literal": "port"}, strict=False)
    )


def _port() -> pl.Expr:
    return pl.format("d{}:{}", "dom", pl.col("port").cast(pl.String).fill_null("?"))


def _runs(report: Report) -> Table:
    worth = report.runs.filter(~pl.col("cause").is_in([cause.value for cause in TIMER_CAUSES]))
    frame = worth.select(
        "tsc", port=_port(), vcpu="vcpu", cause="cause", routes="routes", reason="reason", seq="seq"
    )
    note = "The self-explaining timers and IPIs are left out."
    return Table("runs", "Runs, one by one", frame, note)


def _fates(report: Report) -> Table:
    fates = list(report.fates.items())
    frame = pl.DataFrame(fates, {"fate": pl.String, "sends": pl.UInt32}, orient="row")
    return Table("fates", "What became of sends", frame)


def _spurious(report: Report) -> Table:
    spurious = report.spurious
    kinds = [
        ("L1", "upcalls in which no handler ran", spurious.l1_empty_upcalls),
        ("L2", "runs that nobody provoked", spurious.l2_unprovoked_runs),
        ("L3", "runs in which the driver found no work", spurious.l3_no_work),
    ]
    columns = {"level": pl.String, "what": pl.String, "count": pl.UInt64}
    frame = pl.DataFrame(kinds, columns, orient="row")
    note = "Three kinds that are never added; - is what could not be observed."
    return Table("spurious", "Spurious", frame, note)


def _findings(report: Report) -> Table:
    columns = {"tsc": pl.Int64, "code": pl.String, "by": pl.String, "what": pl.String}
    rows = [(one.tsc, one.code.value, one.blame.value, one.sentence) for one in report.findings]
    return Table("findings", "Findings", pl.DataFrame(rows, columns, orient="row"))


def _divergences(report: Report) -> Table:
    columns = {
        "tsc": pl.Int64,
        "where": pl.String,
        "call": pl.String,
        "expected": pl.String,
        "found": pl.String,
    }
    rows = [
        (one.tsc, f"d{one.dom}v{one.vcpu}", one.what, one.expected, one.found)
        for one in report.divergences
    ]
    return Table("divergences", "Divergences", pl.DataFrame(rows, columns, orient="row"))
