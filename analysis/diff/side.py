"""One of the two traces: its verdicts, its calls in order, and what its ports are."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from evtrace.analysis.channels import attributed, receiving
from evtrace.analysis.contents import Source
from evtrace.analysis.diff.calls import Told, read_rows
from evtrace.analysis.diff.structure import Structure, find_structure
from evtrace.analysis.latency import stage_times, with_devices
from evtrace.timeline import Row

Rows = Callable[[], Iterator[Row]]


@dataclass(frozen=True)
class Side:
    """A trace that was replayed; its tables are made when they are asked for."""

    source: Source
    rows: Rows
    """Gives the rows that the replay needed anew."""
    start_tsc: int = 0
    """Host TSC of the trace's first record."""
    damaged: bool = False

    @property
    def title(self) -> str:
        """The trace's name."""
        return self.source.title

    @cached_property
    def level(self) -> str:
        """How complete the capture is, C0 to C5."""
        return self.source.coverage.overall_level()

    @cached_property
    def seconds(self) -> float | None:
        """How long the trace is; None where the TSC's frequency is not known."""
        hz = self.source.facts.tsc_hz
        return (self.source.end_tsc - self.start_tsc) / hz if hz else None

    @cached_property
    def plain_runs(self) -> pl.DataFrame:
        """The table of runs with their devices."""
        return with_devices(self.source.results.runs_frame(), self.source.facts.irq_names)

    @cached_property
    def runs(self) -> pl.DataFrame:
        """The table of runs, each with the sender that it belongs to."""
        return attributed(self.plain_runs)

    @cached_property
    def plain_sends(self) -> pl.DataFrame:
        """The table of sends."""
        return self.source.results.sends_frame()

    @cached_property
    def sends(self) -> pl.DataFrame:
        """The table of sends by the names of runs: whose port each reached."""
        return receiving(self.plain_sends, self.plain_runs)

    @cached_property
    def stages(self) -> pl.DataFrame:
        """The measured stages of the runs."""
        widths = self.source.facts.clock_widths
        return stage_times(self.plain_runs, self.plain_sends, widths)

    @cached_property
    def told(self) -> Told:
        """Its hypercalls in the order in which they took effect, and its snapshots."""
        return read_rows(self.rows())

    @cached_property
    def structure(self) -> Structure:
        """What the domains and ports of the trace are."""
        return find_structure(self.told, self.plain_runs, self.plain_sends)
