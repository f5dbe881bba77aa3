"""TSC frequency from the trace itself: the scheduler's nanoseconds against TSC intervals.

Xen's TRC_SCHED_SWITCH_INFPREV and _INFCONT say for how many nanoseconds the unit that leaves a
CPU, or stays, has been running; that time starts with its change to the state running, which is a
record with a TSC on the same CPU.
"""

import polars as pl

SWITCH_INFPREV = 0x0002800E
SWITCH_INFCONT = 0x00028011
TO_RUNNING = (0x00021101, 0x00021201, 0x00021301)
"""RUNSTATE_CHANGE from runnable, blocked or offline to running."""
LOST_RECORDS = 0x0001F001

ENOUGH_INTERVALS = 20_000
MIN_INTERVALS = 5
MIN_NS = 100_000
"""Shorter intervals say little: the two ends are not read at the same instruction."""


def running_intervals(records: pl.DataFrame, since: dict[int, int]) -> pl.DataFrame:
    """Give `ns`, `cycles` of every interval that INFPREV or INFCONT measures, per pCPU.

    `records` are those of whole streams in stream order; `since` carries the TSC at which each
    pCPU last switched from one call to the next.
    """
    event = pl.col("event")
    start = pl.when(event.is_in(TO_RUNNING)).then("tsc").when(event == LOST_RECORDS).then(0)
    measured = records.filter(
        event.is_in([*TO_RUNNING, SWITCH_INFPREV, SWITCH_INFCONT, LOST_RECORDS]),
    ).with_columns(since=start.forward_fill().over("pcpu"))
    carried = pl.col("pcpu").replace_strict(since, default=0, return_dtype=pl.Int64)
    measured = measured.with_columns(pl.col("since").fill_null(carried))
    since.update(measured.group_by("pcpu").agg(pl.col("since").last()).iter_rows())
    return measured.filter(
        event.is_in([SWITCH_INFPREV, SWITCH_INFCONT]) & (pl.col("since") > 0),
    ).select(ns=pl.col("w2").cast(pl.Int64), cycles=pl.col("tsc") - pl.col("since"))


def calibrate(intervals: pl.DataFrame) -> int | None:
    """Give the frequency in Hz that `intervals` (`ns`, `cycles`) agree on, None if too few do.

    The median, over the longer half of the intervals, of cycles per nanosecond. INFPREV's
    nanoseconds wrap after 4.29 s: such an interval is an outlier like any other.
    """
    usable = intervals.filter((pl.col("ns") >= MIN_NS) & (pl.col("cycles") > 0))
    longer = usable.filter(pl.col("ns") >= pl.col("ns").median())
    if longer.height < MIN_INTERVALS:
        return None
    ratio = longer.select((pl.col("cycles") / pl.col("ns")).median()).item()
    return round(ratio * 1e9)
