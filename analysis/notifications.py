"""Notifications: how often each channel is notified, when that was a storm, what waited masked."""

from typing import Final

import polars as pl

from evtrace.analysis.channels import attributed, receiving
from evtrace.analysis.columns import NO_WORK, port_name
from evtrace.analysis.latency import GroupBy, group, nanoseconds
from evtrace.verdicts import Fate

WINDOWS_PER_SECOND: Final = 100
"""Rates are counted in windows of 10 ms."""

STORM_SENDS: Final = 20
"""A window of a storm holds so many sends, and less than half of them led to work."""


def rates(sends: pl.DataFrame, runs: pl.DataFrame, tsc_hz: int) -> pl.DataFrame:
    """Give for each channel how often it was notified, on average and in its busiest 10 ms.

    Columns: `channel`, `sends`, `mean_hz` (null for a single send), `peak_hz`, `peak_at_tsc`,
    `coalesced_share` of the sends.
    """
    windows = _windows(sends, runs, tsc_hz)
    seconds = (pl.col("last").max() - pl.col("first").min()) / tsc_hz
    sent = pl.col("sends").sum()
    return (
        windows.filter(pl.col("sends") > 0)
        .group_by("channel")
        .agg(
            sends=sent.cast(pl.Int64),
            mean_hz=pl.when(seconds > 0).then((sent - 1) / seconds),
            peak_hz=(pl.col("sends").max() * WINDOWS_PER_SECOND).cast(pl.Int64),
            peak_at_tsc=pl.col("first").get(pl.col("sends").arg_max()),
            coalesced_share=pl.col("coalesced").sum() / sent,
        )
        .sort("peak_hz", "channel", descending=[True, False])
    )


def storms(sends: pl.DataFrame, runs: pl.DataFrame, tsc_hz: int) -> pl.DataFrame:
    """Give the storms: windows in a row, each with many sends that mostly led to no work.

    A send leads to work if a run of its channel in the same 10 ms does, or if a poller took it; a
    run does unless its driver says otherwise. Columns: `channel`, `from_tsc`, `lasted_ns`,
    `sends`, `rate_hz`, `coalesced`, `runs`, `no_work`.
    """
    working = pl.col("runs") - pl.col("no_work") + pl.col("polled")
    stormy = (pl.col("sends") >= STORM_SENDS) & (2 * working < pl.col("sends"))
    row = (pl.col("window").diff() != 1).fill_null(value=True).cum_sum().over("channel")
    sent = pl.col("sends").sum()
    count = pl.len()
    return (
        _windows(sends, runs, tsc_hz)
        .sort("channel", "window")
        .filter(stormy)
        .with_columns(row=row)
        .group_by("channel", "row", maintain_order=True)
        .agg(
            from_tsc=pl.col("first").min(),
            lasted_ns=(count * (1_000_000_000 // WINDOWS_PER_SECOND)).cast(pl.Int64),
            sends=sent.cast(pl.Int64),
            rate_hz=(sent * WINDOWS_PER_SECOND / count).round().cast(pl.Int64),
            **{
                name: pl.col(name).sum().cast(pl.Int64) for name in ("coalesced", "runs", "no_work")
            },
        )
        .drop("row")
        .sort("sends", descending=True)
    )


def _windows(sends: pl.DataFrame, runs: pl.DataFrame, tsc_hz: int) -> pl.DataFrame:
    """Count sends and runs of each channel in windows of 10 ms."""
    window = pl.col("tsc") * WINDOWS_PER_SECOND // tsc_hz
    channel = group(GroupBy.CHANNEL).alias("channel")
    delivered = pl.col("fate") == Fate.DELIVERED.value
    sent = (
        receiving(sends, runs)
        .group_by(channel, window.alias("window"))
        .agg(
            sends=pl.len(),
            coalesced=(pl.col("fate") == Fate.COALESCED.value).sum(),
            polled=(delivered & pl.col("run_seq").is_null()).sum(),
            first=pl.col("tsc").min(),
            last=pl.col("tsc").max(),
        )
    )
    handled = (
        attributed(runs)
        .group_by(channel, window.alias("window"))
        .agg(runs=pl.len(), no_work=NO_WORK.sum())
    )
    joined = sent.join(handled, on=["channel", "window"], how="left")
    return joined.with_columns(pl.col("runs", "no_work").fill_null(0))


def held(runs: pl.DataFrame, sends: pl.DataFrame, end_tsc: int, tsc_hz: int | None) -> pl.DataFrame:
    """Give for each port how long events waited because it was masked.

    Columns: `port`, `device`, `released` (runs whose event waited for an unmask), `p50_ns`,
    `p99_ns`, `max_ns`, `max_at_tsc` (its run), `still_held` (sends that wait at the end),
    `oldest_ns` (the oldest of these, at the end of the trace).
    """
    first = pl.col("contributors").list.first().struct
    cycles = pl.col("tsc") - first.field("tsc")
    released = (
        runs.filter(first.field("masked"))
        .group_by("dom", "port", "device")
        .agg(
            released=pl.len().cast(pl.Int64),
            p50=cycles.quantile(0.5, "nearest"),
            p99=cycles.quantile(0.99, "nearest"),
            max=cycles.max(),
            max_at_tsc=pl.col("tsc").get(cycles.arg_max()),
        )
    )
    waiting = (
        sends.filter(pl.col("fate") == Fate.HELD_MASKED.value)
        .group_by(dom="to_dom", port="to_port")
        .agg(still_held=pl.len().cast(pl.Int64), oldest=end_tsc - pl.col("tsc").min())
    )
    return (
        released.join(waiting, on=["dom", "port"], how="full", coalesce=True)
        .sort("max", "dom", "port", descending=[True, False, False], nulls_last=True)
        .select(
            port_name(),
            "device",
            "released",
            *(nanoseconds(name, tsc_hz) for name in ("p50", "p99", "max")),
            "max_at_tsc",
            "still_held",
            nanoseconds("oldest", tsc_hz),
        )
    )
