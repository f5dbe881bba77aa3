"""Channels: how many sends and runs each had, how many were one too many, and how long it took.

One line a channel, in the manner of `perf sched latency`, the longest wait first.
"""

import polars as pl

from evtrace.analysis.columns import NO_WORK, UNPROVOKED
from evtrace.analysis.latency import SENT, GroupBy, group, in_ns, quantiles
from evtrace.timeline import RecordClass
from evtrace.tracefile.coverage import CoverageMap
from evtrace.verdicts import Cause, ContributionKind, Fate

WAY = "send→handler"
"""The stage whose times stand in the table."""


def channels(
    runs: pl.DataFrame,
    sends: pl.DataFrame,
    stages: pl.DataFrame,
    coverage: CoverageMap,
    tsc_hz: int | None,
    group_by: GroupBy = GroupBy.CHANNEL,
) -> pl.DataFrame:
    """Count the sends and runs of each channel, beside the quantiles of its whole way.

    `runs` with their `device`, `stages` of `latency.stage_times`. Columns: the group, `sends`,
    `runs`, `coalesced` sends, `lost` ones and those of
    `unknown` fate, `unprovoked` runs (L2), `no_work` runs (L3), and those
    of `latency.in_ns`. Null where the records that would tell were not captured.
    """
    timed = (
        stages.filter(pl.col("stage") == WAY)
        .with_columns(group(group_by))
        .group_by("group")
        .agg(**quantiles())
    )
    handled = _count_runs(runs, coverage, group_by)
    sent = _count_sends(sends, runs, group_by)
    return (
        handled.join(sent, on="group", how="full", coalesce=True)
        .join(timed, on="group", how="left")
        .sort(
            pl.col("max"), pl.col("runs"), "group", descending=[True, True, False], nulls_last=True
        )
        .select(
            pl.col("group").alias(group_by.value),
            *("sends", "runs", "coalesced", "lost", "unknown", "unprovoked", "no_work"),
            *in_ns(tsc_hz),
        )
    )


def _count_runs(runs: pl.DataFrame, coverage: CoverageMap, group_by: GroupBy) -> pl.DataFrame:
    told = [dom for dom in runs["dom"].unique() if RecordClass.EOI in coverage.classes(dom)]
    return (
        attributed(runs)
        .with_columns(group(group_by))
        .group_by("group")
        .agg(
            runs=pl.len().cast(pl.Int64),
            unprovoked=UNPROVOKED.sum().cast(pl.Int64),
            no_work=pl.when(pl.col("dom").is_in(told).all()).then(NO_WORK.sum()).cast(pl.Int64),
        )
    )


def _count_sends(sends: pl.DataFrame, runs: pl.DataFrame, group_by: GroupBy) -> pl.DataFrame:
    fate = pl.col("fate")
    told = (fate != Fate.UNKNOWN.value).any()
    return (
        receiving(sends, runs)
        .with_columns(group(group_by))
        .group_by("group")
        .agg(
            sends=pl.len().cast(pl.Int64),
            coalesced=pl.when(told).then((fate == Fate.COALESCED.value).sum()).cast(pl.Int64),
            unknown=(fate == Fate.UNKNOWN.value).sum().cast(pl.Int64),
            lost=pl.when(told).then((fate == Fate.LOST.value).sum()).cast(pl.Int64),
        )
    )


def attributed(runs: pl.DataFrame) -> pl.DataFrame:
    """Give runs with the sender that each belongs to: `from_dom`, `from_port`, `from_vcpu`, `kind`.

    A run that no send began (at bind, say) counts to the channel whose port it is: to the first
    sender after the bind, else to the one before it.
    """
    sent = pl.element().filter(pl.element().struct.field("kind").is_in(SENT))
    origin = pl.col("origin").struct
    peer = pl.when(origin.field("kind") == ContributionKind.SEND.value).then("origin")
    after, before = peer.backward_fill(), peer.forward_fill()
    at_bind = pl.col("cause").is_in([Cause.BIND_CONSERVATIVE.value, Cause.BIND_MERGED.value])
    guessed = (
        pl.when(at_bind).then(pl.coalesce(after, before)).otherwise(pl.coalesce(before, after))
    )
    first = pl.col("contributors").list.first().struct.field("kind")
    return (
        runs.with_columns(origin=pl.col("contributors").list.eval(sent).list.first())
        .with_columns(origin=pl.coalesce("origin", guessed.over("dom", "port")))
        .with_columns(
            kind=pl.coalesce(origin.field("kind"), first, "cause"),
            **{f"from_{name}": origin.field(name) for name in ("dom", "port", "vcpu")},
        )
    )


def receiving(sends: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """Give sends by the names of runs: whose port they reached, and where it was handled."""
    handled = runs.select(run_seq="seq", to_vcpu="vcpu")
    devices = runs.drop_nulls("device").unique(["dom", "port"], keep="last", maintain_order=True)
    own = (pl.col("to_dom") == pl.col("from_dom")) & (pl.col("to_port") == pl.col("from_port"))
    kinds = pl.when(own).then(pl.lit(ContributionKind.IPI.value))
    return (
        sends.rename({"dom": "from_dom", "port": "from_port", "vcpu": "from_vcpu"})
        .with_columns(kind=kinds.otherwise(pl.lit(ContributionKind.SEND.value)))
        .join(handled, on="run_seq", how="left", maintain_order="left")
        .rename({"to_dom": "dom", "to_port": "port", "to_vcpu": "vcpu"})
        .join(devices.select("dom", "port", "device"), on=["dom", "port"], how="left")
    )
