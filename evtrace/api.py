"""Trace(path) and record(...): what a notebook, and the commands, use (docs/api.md).

From a trace file to its verdicts: lazy frames of records, timeline, handler runs, sends and
latencies, the state at a time, the report.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import polars as pl

from evtrace.analysis.contents import Source
from evtrace.analysis.diff.comparison import Asked, Diff, compare
from evtrace.analysis.diff.side import Side
from evtrace.analysis.latency import (
    LATENCY_TABLE,
    latency_table,
    stage_times,
    with_devices,
)
from evtrace.analysis.report import Report, Wanted, make_report
from evtrace.analysis.stock.analyse import StockReport, analyse_stock
from evtrace.errors import UsageError
from evtrace.replay.belief import Belief
from evtrace.replay.follow import FOLLOWED_KINDS, SCHEDULER_KINDS, Follow
from evtrace.replay.results import Results
from evtrace.timeline import Kind, RecordClass, Row
from evtrace.tracefile.coverage import CoverageMap
from evtrace.tracefile.facts import Facts
from evtrace.tracefile.reader import TraceReader, open_trace
from evtrace.tracefile.rows import annotated, timeline
from evtrace.tracefile.tables import (
    RECORD_TABLE,
    TIMELINE_TABLE,
    lazy_frame,
    record_table,
    timeline_table,
)
from evtrace.verdicts import runs_schema, sends_schema
from evtrace.xen.abi import (
    HYPERVISOR_event_channel_op,
    HYPERVISOR_hvm_op,
    HYPERVISOR_sched_op,
    HYPERVISOR_vcpu_op,
    VCPUOP_register_vcpu_info,
)
from evtrace.xen.profiles import HEAD, Profile, find_profile, profile_for_version

if TYPE_CHECKING:
    from evtrace.tracer.emulator.catalogue import Scenario
    from evtrace.tracer.emulator.lab import Settings


PROGRESS_ROWS = 16_384
"""Rows between two reports of progress."""

POLL = 3
"""SCHEDOP_poll"""


class Replayed:
    """What one replay found, and its tables, each made once."""

    def __init__(self, results: Results) -> None:
        """Keep the results."""
        self.results = results

    @cached_property
    def runs(self) -> pl.DataFrame:
        """The table of runs."""
        return self.results.runs_frame()

    @cached_property
    def sends(self) -> pl.DataFrame:
        """The table of sends."""
        return self.results.sends_frame()


class Trace:
    """One trace file, read when asked; a context manager that closes it, if wanted.

    `records`, `timeline`, `runs`, `sends` and `latencies` give polars LazyFrames: nothing is read
    before they are collected. Those of records and timeline are read a batch at a time, anew each
    time, and may be larger than the memory; the others rest on a replay, which is made once for
    each profile of Xen and kept. They are the tables that `evtrace convert` writes.

    Raises `NoInputError` where there is no such file and `NotATraceError` where nothing in it is
    readable.
    """

    def __init__(
        self, path: str | Path, progress: Callable[[float], None] = lambda _: None
    ) -> None:
        """Open the trace at `path`; `-` is standard input, `*.zst` is decompressed.

        `progress` is told now and then what share of the trace has been read, anew in each pass.
        """
        self.reader: TraceReader = open_trace(path)
        self._progress = progress
        self._replays: dict[str, Replayed] = {}

    def __enter__(self) -> Self:
        """Give the trace itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def __repr__(self) -> str:
        """Say what it is in a line, from the file's index and its facts."""
        if self.reader.is_closed:
            return f"<Trace {self.reader.name!r}: closed>"
        stated = self.reader.stated
        version = ["Xen {}.{}".format(*stated.xen_version)] if stated.xen_version else []
        doms = sorted({interval.dom for interval in stated.coverage if interval.dom is not None})
        parts = [f"{self.reader.size_bytes:,} bytes", *version, *(f"d{dom}" for dom in doms)]
        return f"<Trace {self.reader.name!r}: {', '.join(parts)}>"

    def close(self) -> None:
        """Close the file."""
        self.reader.close()

    # --- what the trace says of itself ---------------------------------------------------------

    @property
    def facts(self) -> Facts:
        """What the trace says of itself."""
        return self.reader.facts

    @property
    def coverage(self) -> CoverageMap:
        """Which record classes were captured, for whom and when."""
        return self.reader.coverage

    @property
    def level(self) -> str:
        """How complete the capture is, C0 (a snapshot) to C5 (every step): its lowest domain's."""
        return self.coverage.overall_level()

    @property
    def hz(self) -> int | None:
        """Cycles of the TSC in a second, as stated or calibrated; None if neither."""
        return self.facts.tsc_hz

    def seconds(self, tsc: str = "tsc") -> pl.Expr:
        """Give the column `tsc` of host TSCs as seconds since the first record, facts left out.

        These are the seconds that `--from +SECONDS` takes. Raises `UsageError` where the TSC's
        frequency is not known.
        """
        extent = self.reader.survey.extent
        if self.hz is None or extent is None:
            message = f"{self.reader.name}: the trace does not tell its TSC frequency; use cycles"
            raise UsageError(message)
        return (pl.col(tsc) - extent[0]) / self.hz

    # --- frames --------------------------------------------------------------------------------

    def records(self) -> pl.LazyFrame:
        """Give every record by `RECORD_TABLE`: when, who, its name, text and raw words.

        >>> trace.records().select("name").head(1).collect().item()
        'EVTRACE_FACT'
        """
        return lazy_frame(
            RECORD_TABLE,
            lambda wanted: (record_table(batch, wanted) for batch in annotated(self.reader)),
        )

    def timeline(self) -> pl.LazyFrame:
        """Give the records that matter by `TIMELINE_TABLE`: `evtrace.timeline`, kinds by name.

        >>> trace.timeline().filter(pl.col("kind") == "handler_enter").collect().height
        5
        """
        return lazy_frame(TIMELINE_TABLE, lambda _: map(timeline_table, self.batches()))

    def runs(self, xen: str | None = None) -> pl.LazyFrame:
        """Give the handler runs with their causes by `verdicts.runs_schema`; times are TSCs.

        `xen` names the profile to replay against; without, it is that of the trace's own version.

        >>> trace.runs().filter(pl.col("cause") == "BIND_CONSERVATIVE").collect().height
        1
        """
        profile = self.profile(xen).name
        return lazy_frame(runs_schema(), lambda _: [self._replayed(profile).runs])

    def sends(self, xen: str | None = None) -> pl.LazyFrame:
        """Give the calls of EVTCHNOP_send with their fates by `verdicts.sends_schema`.

        >>> trace.sends().select("fate").unique().collect().item()
        'DELIVERED'
        """
        profile = self.profile(xen).name
        return lazy_frame(sends_schema(), lambda _: [self._replayed(profile).sends])

    def latencies(self, xen: str | None = None) -> pl.LazyFrame:
        """Give a row for each stage of each run by `analysis.latency.LATENCY_TABLE`.

        `latency_ns` is null where the TSC's frequency is not known; where a domain has a clock of
        its own, it lies up to `uncertainty_ns` to either side.

        >>> stages = trace.latencies().select("stage").unique(maintain_order=True).collect()
        >>> stages["stage"].to_list()
        ['bind→run', 'send→pending', 'pending→upcall', 'upcall→handler', 'send→handler']
        """
        profile = self.profile(xen).name
        return lazy_frame(LATENCY_TABLE, lambda _: [self._latencies(profile)])

    def _latencies(self, profile: str) -> pl.DataFrame:
        facts, replayed = self.facts, self._replayed(profile)
        runs = with_devices(replayed.runs, facts.irq_names)
        return latency_table(stage_times(runs, replayed.sends, facts.clock_widths), facts.tsc_hz)

    def report(
        self, xen: str | None = None, wanted: Wanted | None = None, *, stock: bool = False
    ) -> Report:
        """Make the report of the trace, or what is `wanted` of it; a notebook shows it.

        `stock`: also say what Xen's own records tell, of the whole trace; so anyway where they are
        all there is.

        >>> trace.report().verdict
        "5 runs of 3 ports; 1 was provoked by nobody: d0:29, Xen's conservative event at bind."
        """
        return make_report(self._source(xen, stock=stock or self.level < "C2"), wanted)

    def _source(self, xen: str | None, *, stock: bool) -> Source:
        extent = self.reader.survey.extent
        return Source(
            title=self.reader.name,
            profile=self.profile(xen).name,
            facts=self.facts,
            coverage=self.coverage,
            results=self.replay(xen),
            frames=self.batches,
            end_tsc=extent[1] if extent else 0,
            stock=self._stock() if stock else None,
        )

    def diff(self, other: "Trace", asked: Asked | None = None, xen: str | None = None) -> Diff:
        """Compare the trace `other` against this one: what changed, and how sure that is.

        >>> trace.diff(trace).differences
        []
        """
        return compare(self.side(xen), other.side(xen), asked)

    def side(self, xen: str | None = None) -> Side:
        """Give the trace as one side of a comparison (`evtrace.analysis.diff`)."""
        extent = self.reader.survey.extent
        return Side(
            source=self._source(xen, stock=False),
            rows=self.rows,
            start_tsc=extent[0] if extent else 0,
            damaged=bool(self.reader.damage),
        )

    def _stock(self) -> StockReport:
        return analyse_stock(annotated(self.reader), self.reader.survey, self.hz)

    # --- replay --------------------------------------------------------------------------------

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield the timeline in time-ordered batches (`evtrace.timeline.schema`)."""
        for batch in timeline(self.reader):
            yield batch
            self._reached(batch)

    def rows(self) -> Iterator[Row]:
        """Yield the rows of the timeline that the replay needs."""
        wanted = self._wanted()
        for batch in timeline(self.reader):
            for part in batch.filter(wanted).iter_slices(PROGRESS_ROWS):
                yield from map(Row._make, part.iter_rows())
                self._reached(part)

    def _reached(self, rows: pl.DataFrame) -> None:
        """Tell how far the trace was read."""
        if rows.height:
            self._progress(int(rows["seq"][-1]) / self.reader.survey.records)

    def _wanted(self) -> pl.Expr:
        """Give the filter for rows that the replay needs."""
        kind, op, command = pl.col("kind"), pl.col("op"), pl.col("a0")
        calls = (kind != Kind.HYPERCALL) | (op == HYPERVISOR_event_channel_op)
        if RecordClass.UPCALL in self.coverage.classes():
            registers = command.is_null() | (command == VCPUOP_register_vcpu_info)
            calls |= ((op == HYPERVISOR_vcpu_op) & registers) | (op == HYPERVISOR_hvm_op)
        if RecordClass.RAISE not in self.coverage.classes():
            return kind.is_in(FOLLOWED_KINDS) & calls
        calls |= (op == HYPERVISOR_sched_op) & (command.is_null() | (command == POLL))
        return kind.is_in([*FOLLOWED_KINDS, *SCHEDULER_KINDS]) & calls

    def profile(self, name: str | None = None) -> Profile:
        """Give the profile of Xen called `name`, else the trace's own version's, else HEAD."""
        if name is not None:
            return find_profile(name)
        version = self.reader.stated.xen_version
        return profile_for_version(*version) if version else HEAD

    def belief(self, xen: str | None = None) -> Belief:
        """Give the state from which a replay starts."""
        forms = {dom: bool(form) for dom, form in self.facts.forms.items()}
        facts = self.facts
        return Belief(
            self.profile(xen),
            forms,
            facts.vcpus,
            facts.irq_names,
            facts.habits,
            facts.guest_types,
        )

    def replay_until(self, tsc: int, xen: str | None = None) -> Follow:
        """Re-execute the trace up to host TSC `tsc`; the result shows the state then."""
        follow = Follow(self.belief(xen), self.coverage)
        follow.follow(takewhile(lambda row: row.tsc_lo <= tsc, self.rows()))
        return follow

    def replay(self, xen: str | None = None) -> Results:
        """Re-execute the trace against the model and give the verdicts; once for each profile."""
        return self._replayed(self.profile(xen).name).results

    def _replayed(self, profile: str) -> Replayed:
        if profile not in self._replays:
            results = Follow(self.belief(profile), self.coverage).follow(self.rows())
            self._replays[profile] = Replayed(results)
        return self._replays[profile]


def record(
    scenario: "str | Scenario",
    path: str | Path,
    *,
    faults: Sequence[str] = (),
    settings: "Settings | None" = None,
    force: bool = False,
    **parameters: object,
) -> Trace:
    """Run a scenario on the built-in emulator, record it into `path`, and open that.

    `scenario` is a name of `evtrace record --list`, `FILE.py:FUNCTION`, or a function that takes
    a lab (docs/emulator.md); `parameters` are its own. `faults` are `NAME[@SECONDS]`, `settings`
    what else the options of `evtrace record` set (`evtrace.tracer.emulator.lab.Settings`). Raises
    `UsageError` for what there is not, `OutputExistsError` unless `force` is given.
    """
    from evtrace.tracer.emulator import session  # noqa: PLC0415  a trace is read without it
    from evtrace.tracer.emulator.catalogue import find_scenario, read_parameters  # noqa: PLC0415
    from evtrace.tracer.emulator.faults import inject  # noqa: PLC0415
    from evtrace.tracer.emulator.lab import Lab  # noqa: PLC0415

    function = find_scenario(scenario) if isinstance(scenario, str) else scenario
    name = Path(scenario).name if isinstance(scenario, str) else scenario.__name__
    given = [f"{key}={value}" for key, value in parameters.items()]
    values = read_parameters(function, given)
    lab = Lab(settings)
    inject(lab, faults)
    source = " ".join(["--scenario", name, *given])
    session.record(lab, lambda lab: function(lab, **values), Path(path), source=source, force=force)
    return Trace(path)
