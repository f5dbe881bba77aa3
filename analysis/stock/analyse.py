"""Entry: the batches of a capture in, its tables and the sentence above them out."""

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from evtrace.analysis.stock.fold import StockFold
from evtrace.analysis.stock.gaps import Gaps
from evtrace.analysis.stock.tables import stock_tables, verdict_sentence
from evtrace.analysis.tables import Table
from evtrace.tracefile.survey import Survey


@dataclass(frozen=True, slots=True)
class StockReport:
    """What Xen's own records tell."""

    verdict: str
    tables: list[Table]
    """Those that have rows."""


def analyse_stock(
    frames: Iterable[pl.DataFrame], survey: Survey, tsc_hz: int | None
) -> StockReport:
    """Analyse a capture by the records that Xen wrote, without any of evtrace's own.

    `frames` are its records in time order (`evtrace.tracefile.rows.annotated(reader)`), of any
    size; `survey` is the reader's, for the lost windows. Without `tsc_hz` times are in cycles.
    """
    gaps = Gaps(survey.lost, survey.last_tscs)
    fold = StockFold(gaps)
    for batch in frames:
        fold.take(batch)
    fold.finish()
    tables = stock_tables(fold, gaps, survey.stock_extent, tsc_hz)
    return StockReport(verdict_sentence(fold, tsc_hz), tables)
