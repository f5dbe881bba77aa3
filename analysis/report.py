"""The report of one replayed trace: a sentence, and tables that every format shows alike."""

from dataclasses import dataclass, field

import polars as pl

from evtrace.analysis.contents import Material, Source, contents
from evtrace.analysis.forms.notebook import as_html
from evtrace.analysis.latency import GroupBy, stage_times, with_devices
from evtrace.analysis.outliers.explained import Outliers, explain_outliers
from evtrace.analysis.scope import Scope
from evtrace.analysis.sentence import verdict_in_words
from evtrace.analysis.spurious import Spurious, count_spurious
from evtrace.analysis.tables import Table


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
    outliers: Outliers | None
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
    spurious = count_spurious(runs, source.coverage, results, scope)
    outliers = _outliers(source, stages, wanted.over_ns)
    moves = results.moves_frame().filter(scope.of_runs())
    material = Material(source, runs, sends, moves, stages, spurious, outliers, wanted.group_by)
    return Report(
        source=source,
        verdict=_verdict(source, runs, sends),
        level=source.coverage.overall_level(scope.asked_doms),
        runs=runs,
        sends=sends,
        stages=stages,
        causes=_counts(runs, "cause"),
        fates=_counts(sends, "fate"),
        spurious=spurious,
        tables=contents(material),
        outliers=outliers,
    )


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
