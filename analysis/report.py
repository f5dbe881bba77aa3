"""The report of one replayed trace as tables and a sentence; `text.py` prints it."""

from dataclasses import dataclass

import polars as pl

from evtrace.analysis.latency import latencies
from evtrace.analysis.notebook import as_html
from evtrace.analysis.tables import Table
from evtrace.replay.results import Results
from evtrace.tracefile.coverage import CoverageMap
from evtrace.tracefile.facts import Facts
from evtrace.verdicts import UNPROVOKED_CAUSES, Cause, Divergence, Finding, WorkVerdict

TIMER_CAUSES = (Cause.VIRQ, Cause.PIRQ, Cause.IPI)
"""Causes that explain themselves; runs of any other are listed one by one."""


@dataclass(frozen=True, slots=True)
class Spurious:
    """Three kinds of spurious events that are never added; None where it cannot be observed."""

    l1_empty_upcalls: int | None
    l2_unprovoked_runs: int | None
    l3_no_work: int | None


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """Everything a report says, as tables."""

    title: str
    profile: str
    """Name of the profile of Xen that the replay ran against."""
    verdict: str
    level: str
    coverage: pl.DataFrame
    """`dom`, `vcpu`, `classes`, `tsc_lo`, `tsc_hi`."""
    facts: Facts
    results: Results
    runs: pl.DataFrame
    sends: pl.DataFrame
    causes: dict[str, int]
    fates: dict[str, int]
    spurious: Spurious
    channels: pl.DataFrame
    """`dom`, `port`, `name`, `runs`, one column a cause that occurs, `no_work` runs among them."""
    latencies: pl.DataFrame
    findings: list[Finding]
    """What is wrong and whose doing it is, of the whole trace."""
    divergences: list[Divergence]

    def __repr__(self) -> str:
        """Say what it is and what it comes to, in a line."""
        return f"<Report {self.title!r}: {self.verdict}>"

    def _repr_html_(self) -> str:
        """Show itself in a notebook."""
        tables = [
            Table("channels", "Handler runs by port", self.channels),
            Table("latencies", "Latencies", self.latencies),
        ]
        return as_html(self.verdict, tables)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which part of a trace a report is about; empty means all."""

    doms: frozenset[int] = frozenset()
    ports: frozenset[tuple[int, int]] = frozenset()
    tsc_from: int | None = None
    tsc_to: int | None = None

    def of_runs(self) -> pl.Expr:
        """Give the filter for the table of runs."""
        return self._filter([("dom", "port")])

    def of_sends(self) -> pl.Expr:
        """Give the filter for the table of sends: either end counts."""
        return self._filter([("dom", "port"), ("to_dom", "to_port")])

    def _filter(self, ends: list[tuple[str, str]]) -> pl.Expr:
        wanted = pl.lit(value=True)
        if self.doms:
            wanted &= pl.any_horizontal(pl.col(dom).is_in(sorted(self.doms)) for dom, _ in ends)
        if self.ports:
            wanted &= pl.any_horizontal(
                (pl.col(dom) == d) & (pl.col(port) == p)
                for dom, port in ends
                for d, p in sorted(self.ports)
            )
        if self.tsc_from is not None:
            wanted &= pl.col("tsc") >= self.tsc_from
        if self.tsc_to is not None:
            wanted &= pl.col("tsc") <= self.tsc_to
        return wanted


def make_report(
    title: str,
    profile: str,
    facts: Facts,
    coverage: CoverageMap,
    results: Results,
    scope: Scope,
) -> Report:
    """Summarise the verdicts of a replay for the part of the trace in `scope`."""
    runs = results.runs_frame().filter(scope.of_runs())
    sends = results.sends_frame().filter(scope.of_sends())
    widths = {dom: hi - lo for dom, (lo, hi) in facts.clock_offsets.items()}
    return Report(
        title=title,
        profile=profile,
        verdict=verdict_sentence(runs, results.hypercalls, results.uncovered),
        level=coverage.overall_level(scope.doms or {dom for dom, _ in scope.ports}),
        coverage=coverage.frame(),
        facts=facts,
        results=results,
        runs=runs,
        sends=sends,
        causes=_counts(runs, "cause"),
        fates=_counts(sends, "fate"),
        spurious=_spurious(runs, coverage, results, scope),
        channels=_channels(runs, facts),
        latencies=latencies(runs, facts.tsc_hz, widths),
        findings=results.findings,
        divergences=results.divergences,
    )


def _counts(frame: pl.DataFrame, column: str) -> dict[str, int]:
    counted = frame[column].value_counts().sort("count", column, descending=[True, False])
    return dict(counted.iter_rows())


def _spurious(
    runs: pl.DataFrame,
    coverage: CoverageMap,
    results: Results,
    scope: Scope,
) -> Spurious:
    """Count the three kinds; upcalls belong to a vCPU, so a choice of ports or times has no L1."""
    classes = coverage.classes()
    whole = not scope.ports and scope.tsc_from is None and scope.tsc_to is None
    empty = sum(
        count for dom, count in results.empty_upcalls.items() if not scope.doms or dom in scope.doms
    )
    unprovoked = runs.filter(pl.col("cause").is_in(sorted(UNPROVOKED_CAUSES))).height
    no_work = runs.filter(pl.col("work") == WorkVerdict.NO_WORK.value).height
    return Spurious(
        l1_empty_upcalls=empty if whole and coverage.has_upcalls(classes) else None,
        l2_unprovoked_runs=unprovoked if coverage.has_runs(classes) else None,
        l3_no_work=no_work if coverage.has_eoi(classes) else None,
    )


def _channels(runs: pl.DataFrame, facts: Facts) -> pl.DataFrame:
    """Count the runs of each port by cause, and those that found no work."""
    names = pl.DataFrame(
        [(dom, irq, name) for (dom, irq), name in facts.irq_names.items()],
        {"dom": pl.UInt16, "irq": pl.Int32, "name": pl.String},
        orient="row",
    )
    return (
        runs.join(names, on=["dom", "irq"], how="left")
        .group_by("dom", "port", "name")
        .agg(
            pl.len().alias("runs"),
            *((pl.col("cause") == c).sum().alias(c) for c in sorted(set(runs["cause"]))),
            (pl.col("work") == WorkVerdict.NO_WORK.value).sum().alias("no_work"),
        )
        .sort("dom", "port", "name")
    )


def verdict_sentence(runs: pl.DataFrame, hypercalls: int, uncovered: int) -> str:
    """Say in one sentence how many runs there were and which of them nobody provoked."""
    if runs.is_empty():
        return _without_runs(hypercalls, uncovered)
    ports = runs.select("dom", "port").unique()
    of = "d{}:{}".format(*ports.row(0)) if ports.height == 1 else f"{ports.height} ports"
    parts = [f"{count_of(runs.height, 'run')} of {of}"]
    unprovoked = runs.filter(pl.col("cause").is_in(sorted(UNPROVOKED_CAUSES)))
    if unprovoked.is_empty():
        unknown = (runs["cause"] == Cause.UNKNOWN.value).sum()
        parts.append(f"{unknown} of unknown cause" if unknown else "each provoked by an event")
    else:
        parts.append(
            f"{unprovoked.height} {'was' if unprovoked.height == 1 else 'were'} provoked by nobody"
            + _why(unprovoked, name_port=ports.height > 1),
        )
    return "; ".join(parts) + "."


_IN_WORDS = {
    Cause.BIND_CONSERVATIVE: "Xen's conservative event at bind",
    Cause.RETRIGGER_LOCAL: "the guest set the bit itself",
    Cause.DOUBLE_HANDLE: "two vCPUs handled one event",
    Cause.STALE_PENDING_REUSE: "pending left by an earlier owner",
    Cause.PEER_CLOSE_RESIDUE: "the peer had closed before",
    Cause.UNBIND_LAST_CALL: "called once more while being freed",
    Cause.UNPROVOKED: "nothing had set it pending",
}


def _why(unprovoked: pl.DataFrame, *, name_port: bool) -> str:
    groups = unprovoked.group_by("cause", "dom", "port", maintain_order=True).len()
    texts = [
        (f"d{dom}:{port}, " if name_port else "")
        + _IN_WORDS[Cause(cause)]
        + (f" ({count} times)" if count > 1 else "")
        for cause, dom, port, count in groups.head(3).iter_rows()
    ]
    more = [f"and {groups.height - 3} more ports"] if groups.height > 3 else []
    return ": " + "; ".join(texts + more)


def _without_runs(hypercalls: int, uncovered: int) -> str:
    if not hypercalls:
        return "No event-channel hypercall and no handler run in this trace."
    text = f"{count_of(hypercalls, 'event-channel hypercall')}, no handler run captured"
    if uncovered == hypercalls:
        text += ": a stock capture tells that vCPUs called, not what for"
    return text + "."


def count_of(count: int, noun: str) -> str:
    """Give a number of things in words: `1 run`, `1,697 runs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
