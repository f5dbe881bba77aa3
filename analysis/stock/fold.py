"""The fold of a stock capture: everything that is summed up over its batches."""

import polars as pl

from evtrace.analysis.stock.gaps import Gaps
from evtrace.analysis.stock.hypercalls import Hypercalls
from evtrace.analysis.stock.machine import Findings, Machine
from evtrace.analysis.stock.ports import Ports
from evtrace.analysis.stock.steps import Steps
from evtrace.analysis.stock.trips import RoundTrips
from evtrace.analysis.stock.waits import Waits
from evtrace.analysis.stock.wakes import Wakes


class StockFold:
    """Takes batches of annotated records in time order; `finish` when there are no more."""

    def __init__(self, gaps: Gaps) -> None:
        """Start with nothing; what reaches into `gaps` is excluded."""
        self.hypercalls = Hypercalls()
        self.wakes = Wakes()
        self.waits = Waits()
        self.trips = RoundTrips()
        self.ports = Ports()
        findings = Findings(self.wakes.take, self.waits.take, self.trips.take)
        self.machine = Machine(gaps, findings)
        self._steps = Steps()

    def take(self, batch: pl.DataFrame) -> None:
        """Take one batch (`evtrace.tracefile.rows.annotated`)."""
        self.hypercalls.take(batch)
        self.ports.take(batch)
        self.machine.take(self._steps.of(batch))

    def finish(self) -> None:
        """Close what is open."""
        self.machine.finish()
