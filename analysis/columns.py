"""Columns that several tables have, as expressions on the tables of runs and sends."""

from typing import Final

import polars as pl

from evtrace.timeline import RecordClass
from evtrace.tracefile.coverage import CoverageMap
from evtrace.verdicts import UNPROVOKED_CAUSES, WorkVerdict

UNPROVOKED: Final = pl.col("cause").is_in(sorted(UNPROVOKED_CAUSES))
"""Whether nobody provoked a run (L2)."""

NO_WORK: Final = (pl.col("work") == WorkVerdict.NO_WORK.value).fill_null(value=False)
"""Whether the driver found no work in a run (L3)."""


def port_name() -> pl.Expr:
    """Name the port of a row: `d0:33`, or `d0:?` where it is not known."""
    port = pl.col("port").cast(pl.String).fill_null("?")
    return pl.format("d{}:{}", "dom", port).alias("port")


def captured(runs: pl.DataFrame, coverage: CoverageMap, cls: RecordClass) -> pl.Expr:
    """Whether a class of records was captured for the domain of a row, or of a group's first."""
    doms = [dom for dom in runs["dom"].unique() if cls in coverage.classes(dom)]
    return pl.col("dom").first().is_in(doms)


def counted(runs: pl.DataFrame, column: str) -> pl.Expr:
    """Count the values of a column in a group in words: `BIND_CONSERVATIVE 1, SEND 11`."""
    values = sorted(set(runs[column].drop_nulls()))
    counts = [pl.col(column).filter(pl.col(column) == value).len() for value in values]
    words = [
        pl.when(count > 0).then(pl.format("{} {}", pl.lit(value), count))
        for value, count in zip(values, counts, strict=True)
    ]
    joined = pl.concat_str([pl.lit(""), *words], separator=", ", ignore_nulls=True)
    return joined.str.strip_prefix(", ").replace("", None)
