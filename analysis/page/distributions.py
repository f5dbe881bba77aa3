"""Frames behind the page's figures: how latencies are distributed, and causes over time.

Latencies come as `latency.latency_table` gives them.
"""

from math import log10

import polars as pl

BINS_PER_DECADE = 10
"""Bins of a histogram of latencies, on a logarithmic axis."""

TIME_BINS = 120

_POINTS_PER_DECADE = 12
"""Points of a percentile curve: so many between 90 % and 99 %, and as many to 99.9 %."""


def busiest(times: pl.DataFrame, stage: str, most: int) -> list[str]:
    """Name the channels of which a stage was measured most often."""
    counted = times.filter(pl.col("stage") == stage).group_by("channel").len()
    return counted.sort("len", "channel", descending=[True, False])["channel"].head(most).to_list()


def histogram(times: pl.DataFrame) -> pl.DataFrame:
    """Count latencies in bins of equal width on a logarithmic axis.

    Columns: `channel`, `stage`, `from_ns`, `to_ns`, `count`; empty bins between others are there.
    What is not above 0 has no place on such an axis.
    """
    key = ["channel", "stage"]
    bins = (pl.col("latency_ns").log10() * BINS_PER_DECADE).floor().cast(pl.Int64)
    counted = times.filter(pl.col("latency_ns") > 0).group_by(*key, bin=bins).agg(count=pl.len())
    ends = counted.group_by(key).agg(least=pl.col("bin").min(), most=pl.col("bin").max())
    every = ends.select(*key, bin=pl.int_ranges("least", pl.col("most") + 1)).explode("bin")
    return (
        every.join(counted, on=[*key, "bin"], how="left")
        .sort(*key, "bin")
        .select(*key, from_ns=_edge(0), to_ns=_edge(1), count=pl.col("count").fill_null(0))
    )


def _edge(further: int) -> pl.Expr:
    return 10.0 ** ((pl.col("bin") + further) / BINS_PER_DECADE)


def percentile_curve(times: pl.DataFrame) -> pl.DataFrame:
    """Give the latency that a share of all does not exceed, up to the highest.

    Columns: `channel`, `stage`, `one_in` (1 / (1 - share): 100 is the 99th percentile),
    `latency_ns`. A
    curve ends where `one_in` is the number of latencies.
    """
    key = ["channel", "stage"]
    most = times.group_by(key).len()["len"].max()
    decades = log10(most) if isinstance(most, int) else 0
    steps = [10 ** (k / _POINTS_PER_DECADE) for k in range(int(decades * _POINTS_PER_DECADE) + 1)]
    shares = [
        pl.col("latency_ns").quantile(1 - 1 / step, "nearest").alias(str(step)) for step in steps
    ]
    curves = times.group_by(key).agg(pl.len(), pl.col("latency_ns").max().alias("max"), *shares)
    inner = curves.unpivot(
        index=[*key, "len"],
        on=list(map(str, steps)),
        variable_name="one_in",
        value_name="latency_ns",
    ).with_columns(pl.col("one_in").cast(pl.Float64))
    last = curves.select(
        *key,
        "len",
        one_in=pl.col("len").cast(pl.Float64),
        latency_ns=pl.col("max").cast(pl.Float64),
    )
    kept = inner.filter(pl.col("one_in") < pl.col("len"))
    return pl.concat([kept, last]).drop("len").sort(*key, "one_in")


def causes_over_time(runs: pl.DataFrame) -> pl.DataFrame:
    """Count runs by cause in bins of equal length: `from_tsc`, `cycles`, `cause`, `runs`."""
    first, last = runs["tsc"].min(), runs["tsc"].max()
    if not isinstance(first, int) or not isinstance(last, int):
        return pl.DataFrame(schema=_OVER_TIME)
    cycles = (last - first) // TIME_BINS + 1
    start = (pl.col("tsc") - first) // cycles * cycles + first
    counted = runs.group_by("cause", from_tsc=start).agg(runs=pl.len())
    counted = counted.with_columns(cycles=pl.lit(cycles, pl.Int64))
    return counted.select(_OVER_TIME.names()).sort("from_tsc", "cause")


_OVER_TIME = pl.Schema(
    {"from_tsc": pl.Int64, "cycles": pl.Int64, "cause": pl.String, "runs": pl.UInt32}
)
