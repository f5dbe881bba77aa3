"""TSC frequency from the trace itself: the scheduler's nanoseconds against the TSC.

Xen's TRC_SCHED_SWITCH_INFPREV says for how many nanoseconds the unit that leaves a CPU ran, which
is since the switch before it on that CPU. Over a chain of switches both sums telescope, so what a
single record errs by (it is written somewhat after its time was taken) counts only once.
"""

from typing import Final

import polars as pl

SWITCH_INFPREV: Final = 0x0002800E
LOST_RECORDS: Final = 0x0001F001
RUNSTATE: Final = 0x00021001
RUNSTATE_MASK: Final = 0x0FFFF00F
"""What is left of a RUNSTATE_CHANGE's event when the old and the new state are taken out."""

ENOUGH_INTERVALS: Final = 20_000
MIN_INTERVALS: Final = 5
_WRAP_NS: Final = 1 << 32
"""The nanoseconds are cut to 32 bits."""


def switch_intervals(records: pl.DataFrame, since: dict[int, int]) -> pl.DataFrame:
    """Give `pcpu`, `ns`, `cycles` from each switch to the next on its pCPU.

    `records` are whole streams in their own order; `since` carries the TSC of the last switch on
    each pCPU. A gap in the records ends a chain.
    """
    event = pl.col("event")
    marks = records.filter(event.is_in([SWITCH_INFPREV, LOST_RECORDS])).with_columns(
        mark=pl.when(event == SWITCH_INFPREV).then(pl.col("tsc")).otherwise(0),
    )
    carried = pl.col("pcpu").replace_strict(since, default=0, return_dtype=pl.Int64)
    marks = marks.with_columns(since=pl.col("mark").shift(1).over("pcpu").fill_null(carried))
    since.update(marks.group_by("pcpu").agg(pl.col("mark").last()).iter_rows())
    return marks.filter((event == SWITCH_INFPREV) & (pl.col("since") > 0)).select(
        "pcpu",
        ns=pl.col("w2").cast(pl.Int64),
        cycles=pl.col("tsc") - pl.col("since"),
    )


def calibrate(intervals: pl.DataFrame) -> int | None:
    """Give the frequency in Hz that `intervals` (`pcpu`, `ns`, `cycles`) tell, None if too few do.

    The first pCPU decides: Xen steers the clocks of the others towards it, so that their
    nanoseconds run faster or slower than their TSC.
    """
    usable = intervals.drop_nulls().filter((pl.col("ns") > 0) & (pl.col("cycles") > 0))
    for _, own in usable.sort("pcpu").group_by("pcpu", maintain_order=True):
        whole = _without_wraps(own)
        if whole.height >= MIN_INTERVALS:
            cycles, ns = whole.select("cycles", "ns").sum().row(0)
            return round(int(cycles) * 1_000_000_000 / int(ns))
    return None


def _without_wraps(intervals: pl.DataFrame) -> pl.DataFrame:
    """Leave out intervals over 4.29 s, whose nanoseconds wrapped."""
    cycles_per_ns = pl.col("cycles") / pl.col("ns")
    usual = cycles_per_ns.filter(pl.col("ns") >= pl.col("ns").median()).median()
    off_ns = (pl.col("cycles") / usual - pl.col("ns")).abs()
    return intervals.filter(off_ns < _WRAP_NS // 2)
