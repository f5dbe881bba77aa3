"""Latencies per channel and stage, from the table of runs."""

import polars as pl

from evtrace.verdicts import ContributionKind

STAGES = ("bind→run", "send→upcall", "upcall→handler", "send→handler")
"""From the call (its hypercall record where there is one) to the upcall that the target's vCPU
takes, to the handler's entry."""

_SENT = [ContributionKind.SEND.value, ContributionKind.IPI.value]


LATENCY_TABLE = pl.Schema(
    {
        "seq": pl.UInt64,
        "channel": pl.String,
        "stage": pl.String,
        "tsc": pl.Int64,
        "cycles": pl.Int64,
        "uncertainty_cycles": pl.Int64,
        "latency_ns": pl.Int64,
        "uncertainty_ns": pl.Int64,
    },
)
"""One row a measured stage: `seq` is the run's, `tsc` the stage's end."""


def latency_table(
    runs: pl.DataFrame,
    tsc_hz: int | None,
    clock_widths: dict[int, int] | None = None,
) -> pl.DataFrame:
    """Give each stage of each run by `LATENCY_TABLE`; the parameters are those of `latencies`."""
    return (
        stage_times(runs, clock_widths or {})
        .with_columns(_ns("cycles", tsc_hz), _ns("uncertainty", tsc_hz))
        .rename({"cycles_ns": "latency_ns", "uncertainty": "uncertainty_cycles"})
        .sort("tsc", "seq", maintain_order=True)
        .select(LATENCY_TABLE.names())
    )


def latencies(
    runs: pl.DataFrame,
    tsc_hz: int | None,
    clock_widths: dict[int, int] | None = None,
) -> pl.DataFrame:
    """Summarise how long each stage of each channel took.

    `clock_widths` holds, for each domain with a clock of its own, how many cycles wide the
    interval is in which its offset to the host's clock lies. Columns: `channel` (`d1:8→d0:33`),
    `stage`, `count`, `p50_ns`, `p99_ns`, `max_ns`, `max_at_tsc`, `uncertainty_ns`: a latency across
    two clocks is the middle of an interval, and lies that much to either side of it. Nanoseconds
    are null where the TSC's frequency is not known.
    """
    return (
        stage_times(runs, clock_widths or {})
        .group_by("channel", "stage", maintain_order=True)
        .agg(
            count=pl.len(),
            uncertainty=pl.col("uncertainty").max(),
            p50=pl.col("cycles").quantile(0.5, "nearest"),
            p99=pl.col("cycles").quantile(0.99, "nearest"),
            max=pl.col("cycles").max(),
            max_at_tsc=pl.col("tsc").get(pl.col("cycles").arg_max()),
        )
        .sort("channel", pl.col("stage").cast(pl.Enum(STAGES)))
        .select(
            "channel",
            "stage",
            "count",
            *(_ns(name, tsc_hz) for name in ("p50", "p99", "max")),
            "max_at_tsc",
            _ns("uncertainty", tsc_hz),
        )
    )


def stage_times(runs: pl.DataFrame, clock_widths: dict[int, int]) -> pl.DataFrame:
    """Give one row a measured stage: `channel`, `stage`, `cycles`, `uncertainty`, `tsc` of its end.

    `seq` is the run's.

    A run is measured from the oldest event that it answers. An upcall that began before the event
    was set gives no send→upcall: the event met a vCPU that was scanning already.
    """
    rows = (
        runs.filter(pl.col("contributors").list.len() > 0)
        .with_columns(first=pl.col("contributors").list.first())
        .with_columns(
            kind=pl.col("first").struct.field("kind"),
            start=pl.col("first").struct.field("tsc"),
            sender=pl.col("first").struct.field("dom"),
        )
        .with_columns(
            channel=_channel(),
            late=_width("dom", clock_widths),
            early=_width("sender", clock_widths),
        )
    )
    sent = rows.filter(pl.col("kind").is_in(_SENT))
    bound = rows.filter(pl.col("kind") == ContributionKind.BIND.value)
    in_upcall = sent.filter(pl.col("upcall_tsc").is_not_null())
    return pl.concat(
        [
            _stage(bound, "bind→run", "start", "tsc"),
            _stage(
                in_upcall.filter(pl.col("upcall_tsc") + pl.col("late") >= pl.col("start")),
                "send→upcall",
                "start",
                "upcall_tsc",
            ),
            _stage(in_upcall, "upcall→handler", "upcall_tsc", "tsc"),
            _stage(sent, "send→handler", "start", "tsc"),
        ],
    )


def _width(dom: str, clock_widths: dict[int, int]) -> pl.Expr:
    """Give the width of a domain's clock offset; 0 where sender and receiver share a clock."""
    if not clock_widths:
        return pl.lit(0, pl.Int64)
    width = pl.col(dom).replace_strict(clock_widths, default=0, return_dtype=pl.Int64)
    return pl.when(pl.col("dom") == pl.col("sender")).then(0).otherwise(width)


def _stage(rows: pl.DataFrame, stage: str, start: str, end: str) -> pl.DataFrame:
    """Measure from `start` to `end`: with both clocks' lower bounds, the middle is in between."""
    nothing = pl.lit(0, pl.Int64)
    across = nothing if start == "upcall_tsc" else pl.col("late") - pl.col("early")
    widths = nothing if start == "upcall_tsc" else pl.col("late") + pl.col("early")
    return rows.select(
        "seq",
        "channel",
        stage=pl.lit(stage),
        cycles=pl.col(end) - pl.col(start) + across // 2,
        uncertainty=(widths + 1) // 2,
        tsc=pl.col(end),
    )


def _channel() -> pl.Expr:
    first = pl.col("first").struct
    start = (
        pl.when(pl.col("kind") == ContributionKind.IPI.value)
        .then(pl.format("d{}v{}", first.field("dom"), first.field("vcpu")))
        .when(pl.col("kind") == ContributionKind.BIND.value)
        .then(pl.lit("bind"))
        .otherwise(pl.format("d{}:{}", first.field("dom"), first.field("port")))
    )
    return pl.format("{}→d{}:{}", start, "dom", "port")


def _ns(column: str, tsc_hz: int | None) -> pl.Expr:
    value = pl.lit(None) if tsc_hz is None else (pl.col(column) * 1_000_000_000 / tsc_hz).round()
    return value.cast(pl.Int64).alias(f"{column}_ns")
