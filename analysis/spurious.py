"""Spurious events: three kinds with three judges, which are never added."""

from dataclasses import dataclass

import polars as pl

from evtrace.analysis.columns import NO_WORK, UNPROVOKED, captured, counted, port_name
from evtrace.analysis.latency import nanoseconds
from evtrace.analysis.scope import Scope
from evtrace.replay.results import Results
from evtrace.timeline import RecordClass
from evtrace.tracefile.coverage import CoverageMap


@dataclass(frozen=True, slots=True)
class Spurious:
    """How many of each kind; None where it cannot be observed."""

    l1_empty_upcalls: int | None
    l2_unprovoked_runs: int | None
    l3_no_work: int | None


def count_spurious(
    runs: pl.DataFrame, coverage: CoverageMap, results: Results, scope: Scope
) -> Spurious:
    """Count the three kinds in the domains asked about that tell; None if none of them does.

    Upcalls belong to a vCPU, so a choice of ports or times has no L1.
    """
    handler, doms = RecordClass.HANDLER, scope.asked_doms
    upcalls = scope.is_whole and coverage.tells(RecordClass.UPCALL | handler, doms)
    empty = sum(
        count for dom, count in results.empty_upcalls.items() if not scope.doms or dom in scope.doms
    )
    unprovoked, no_work = runs.filter(UNPROVOKED).height, runs.filter(NO_WORK).height
    return Spurious(
        l1_empty_upcalls=empty if upcalls else None,
        l2_unprovoked_runs=unprovoked if coverage.tells(handler, doms) else None,
        l3_no_work=no_work if coverage.tells(RecordClass.EOI, doms) else None,
    )


def by_kind(found: Spurious) -> pl.DataFrame:
    """List the three kinds: `level`, `what`, `count`; nothing where none can be observed."""
    rows = [
        ("L1", "upcalls in which no handler ran", found.l1_empty_upcalls),
        ("L2", "runs that nobody provoked", found.l2_unprovoked_runs),
        ("L3", "runs in which the driver found no work", found.l3_no_work),
    ]
    schema = {"level": pl.String, "what": pl.String, "count": pl.Int64}
    told = rows if any(count is not None for _, _, count in rows) else []
    return pl.DataFrame(told, schema, orient="row")


def empty_upcalls(results: Results) -> pl.DataFrame:
    """Count the empty upcalls (L1) of the whole trace by why they were: `dom`, `why`, `count`."""
    rows = [
        (f"d{dom}", why.value, count)
        for (dom, why), count in sorted(results.upcall_verdicts.items())
    ]
    schema = {"dom": pl.String, "why": pl.String, "count": pl.Int64}
    return pl.DataFrame(rows, schema, orient="row")


def by_port(runs: pl.DataFrame, coverage: CoverageMap, tsc_hz: int | None) -> pl.DataFrame:
    """Give the ports that had a spurious run, or were unmasked late.

    Columns: `port`, `device`, `runs`, `unprovoked` (L2), `no_work` (L3), `no_work_share` of the
    runs, `who` made them find none, `delayed` runs (late EOI), `delay_ns` (from EOI to unmask,
    together), `delays` by their kind. Null where no driver's verdicts were captured.
    """
    late = pl.col("eoi_delay").is_not_null()
    delay = (pl.col("unmask_tsc") - pl.col("eoi_tsc")).filter(late)
    verdicts = {
        "no_work": NO_WORK.sum().cast(pl.Int64),
        "no_work_share": NO_WORK.mean(),
        "delayed": late.sum().cast(pl.Int64),
        "delay": delay.sum(),
    }
    seen = captured(runs, coverage, RecordClass.EOI)
    return (
        runs.group_by("dom", "port", "device")
        .agg(
            runs=pl.len().cast(pl.Int64),
            unprovoked=UNPROVOKED.sum().cast(pl.Int64),
            who=counted(runs, "work_cause"),
            delays=counted(runs, "eoi_delay"),
            **{name: pl.when(seen).then(found) for name, found in verdicts.items()},
        )
        .filter(pl.any_horizontal(pl.col("unprovoked", "no_work", "delayed") > 0))
        .sort("no_work", "dom", "port", descending=[True, False, False], nulls_last=True)
        .select(
            port_name(),
            *("device", "runs", "unprovoked", "no_work", "no_work_share", "who", "delayed"),
            nanoseconds("delay", tsc_hz),
            "delays",
        )
    )
