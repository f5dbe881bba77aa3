"""Outliers: the events that took longest to their handlers, and where the time went."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import polars as pl

from evtrace.analysis.interleaving.steps import name
from evtrace.analysis.latency import SENT, GroupBy, group, nanoseconds
from evtrace.analysis.outliers.waits import Frames, Part, Way, parts, watch
from evtrace.analysis.tables import Table, duration
from evtrace.errors import UsageError
from evtrace.replay.results import Results
from evtrace.timeline import RecordClass
from evtrace.tracefile.coverage import CoverageMap
from evtrace.tracefile.facts import Facts
from evtrace.verdicts import Contribution, ContributionKind, Run

EXPLAINED = 20
"""So many outliers are explained, the worst ones."""

LISTED_PARTS = 10
"""Parts of a way that the text shows."""

WIDTH = 80

_WHOLE_WAYS = ("send→handler", "bind→run")

_OUTLIERS: dict[str, pl.DataType | type[pl.DataType]] = {
    "outlier": pl.UInt32,
    "channel": pl.String,
    "stage": pl.String,
    "took_ns": pl.Int64,
    "uncertainty_ns": pl.Int64,
    "at_tsc": pl.Int64,
    "mostly": pl.String,
    "share": pl.Float64,
    "seqs": pl.List(pl.UInt64),
}
_CHAINS: dict[str, pl.DataType | type[pl.DataType]] = {
    "outlier": pl.UInt32,
    "step": pl.UInt32,
    "from_tsc": pl.Int64,
    "to_tsc": pl.Int64,
    "took_ns": pl.Int64,
    "share": pl.Float64,
    "what": pl.String,
}


@dataclass(frozen=True, slots=True)
class Outliers:
    """The events that took longer than a time, the worst first."""

    table: Table
    """`outliers`, a row for each that is explained; `seqs` are the call's and the run's record."""
    chains: Table
    """`outlier_chains`, a row for each part of their ways; the parts add up to the whole."""
    over_ns: int
    found: int
    """How many there are, explained or not."""


def explain_outliers(
    frames: Frames,
    stages: pl.DataFrame,
    results: Results,
    facts: Facts,
    coverage: CoverageMap,
    over_ns: int,
    limit: int = EXPLAINED,
) -> Outliers:
    """Explain the `limit` longest ways to a handler of those that took more than `over_ns`.

    `stages` is `latency.stage_times`, of the part of the trace that is asked about; `frames` gives
    the timeline, which is read once more. Raises `UsageError` where the TSC's frequency is not
    known.
    """
    tsc_hz = facts.tsc_hz
    if tsc_hz is None:
        message = "--over: the trace does not tell its TSC frequency; no time can be given"
        raise UsageError(message)
    long = (
        stages.filter(pl.col("stage").is_in(_WHOLE_WAYS))
        .with_columns(group(GroupBy.CHANNEL), nanoseconds("cycles", tsc_hz))
        .with_columns(nanoseconds("uncertainty", tsc_hz))
        .filter(pl.col("cycles_ns") > over_ns)
        .sort("cycles", "seq", descending=[True, False])
    )
    worst = long.head(limit)
    ways = _ways(worst, results)
    watch(frames, ways)
    chains = [parts(way, tsc_hz, partial(_sched_seen, coverage, way.run.dom)) for way in ways]
    return Outliers(_table(worst, ways, chains), _chain_table(chains, tsc_hz), over_ns, long.height)


def _sched_seen(coverage: CoverageMap, dom: int, tsc: int) -> bool:
    return coverage.covered(dom, RecordClass.SCHED, tsc, tsc)


def _ways(worst: pl.DataFrame, results: Results) -> list[Way]:
    """Give the ways of the outliers, each with the run of its port before it."""
    runs = {run.seq: run for run in results.runs}
    before: dict[int, Run] = {}
    last: dict[tuple[int, int | None], Run] = {}
    for run in results.runs:
        channel = (run.dom, run.port)
        if channel in last:
            before[run.seq] = last[channel]
        last[channel] = run
    found = []
    for seq, cycles in worst.select("seq", "cycles").iter_rows():
        run = runs[seq]
        start, first = run.tsc - cycles, run.contributors[0]
        pending = min(max(start, first.tsc), run.tsc)
        found.append(Way(run, start, run.tsc, pending, _caller(first), before.get(seq)))
    return found


def _caller(first: Contribution) -> str:
    by = name((first.dom, first.vcpu))
    call = "send" if first.kind.value in SENT else "bind_interdomain"
    port = f" {first.port}" if first.kind is not ContributionKind.BIND else ""
    return f"{by}'s {call}{port} (#{first.seq})"


def _table(worst: pl.DataFrame, ways: list[Way], chains: list[list[Part]]) -> Table:
    rows = []
    measured = worst.select("group", "stage", "cycles_ns", "uncertainty_ns")
    for number, (way, chain, row) in enumerate(
        zip(ways, chains, measured.iter_rows(), strict=True), 1
    ):
        channel, stage, took_ns, uncertainty_ns = row
        longest = max(chain, key=lambda part: part.end - part.start)
        share = (longest.end - longest.start) / max(1, way.end - way.start)
        seqs = [way.run.contributors[0].seq, way.run.seq]
        about = (took_ns, uncertainty_ns or None, way.end, longest.what, share, seqs)
        rows.append((number, channel, stage, *about))
    frame = pl.DataFrame(rows, _OUTLIERS, orient="row")
    return Table("outliers", "Outliers, the longest first", frame)


def _chain_table(chains: list[list[Part]], tsc_hz: int) -> Table:
    rows = []
    for number, chain in enumerate(chains, 1):
        whole = max(1, chain[-1].end - chain[0].start) if chain else 1
        for step, part in enumerate(chain, 1):
            cycles = part.end - part.start
            took_ns = round(cycles * 1e9 / tsc_hz)
            rows.append((number, step, part.start, part.end, took_ns, cycles / whole, part.what))
    frame = pl.DataFrame(rows, _CHAINS, orient="row")
    return Table("outlier_chains", "Where the outliers' time went", frame, hidden=("from_tsc",))


def outlier_lines(outliers: Outliers) -> Iterator[str]:
    """Show each outlier with the parts of its way as text."""
    longer = f"longer than {duration(outliers.over_ns)} to a handler"
    if not outliers.found:
        yield f"Outliers: no event took {longer}."
        return
    shown = outliers.table.frame.height
    worst = f"; the worst {shown}" if shown < outliers.found else ""
    yield f"Outliers: {outliers.found:,} took {longer}{worst}:"
    chains = outliers.chains.frame.partition_by("outlier", as_dict=True)
    for row in outliers.table.frame.iter_rows(named=True):
        first, last = row["seqs"]
        may_be = f" ±{duration(row['uncertainty_ns'])}" if row["uncertainty_ns"] else ""
        yield ""
        took = f"{duration(row['took_ns'])}{may_be}"
        yield (
            f"{row['outlier']:3}. {row['channel']} {row['stage']} {took} "
            f"at {row['at_tsc']}, #{first} to #{last}"
        )
        yield from _chain_lines(chains[row["outlier"],])


def _chain_lines(chain: pl.DataFrame) -> Iterator[str]:
    """Show the parts of a way in their order; of many, the longest."""
    shown = chain.top_k(LISTED_PARTS, by="took_ns").sort("step")
    for part in shown.iter_rows(named=True):
        took = f"  {duration(part['took_ns']):>8} {part['share']:6.1%}  "
        yield from textwrap.wrap(
            took + part["what"], WIDTH, subsequent_indent=" " * len(took), break_on_hyphens=False
        )
    rest = chain.height - shown.height
    if rest:
        took_ns = sum(chain["took_ns"]) - sum(shown["took_ns"])
        yield f"  {duration(took_ns):>8}         in {rest} shorter parts"
