"""Clocks: whether the TSCs of the pCPUs agree, as the order of their records shows."""

from collections.abc import Iterable

from evtrace.timeline import Kind, RecordClass, Row
from evtrace.tracefile.coverage import CoverageMap
from evtrace.verdicts import Run

NEAR_CYCLES = 200_000
"""What comes so soon after what it would explain may in truth have come before."""


class Clocks:
    """Holds every vCPU's changes of runstate against each other: each starts where one ended."""

    def __init__(self, coverage: CoverageMap) -> None:
        """Start with nothing seen; where `coverage` has gaps nothing follows."""
        self._coverage = coverage
        self.broken: Row | None = None
        """The first change that does not follow from the one before it."""
        self._states: dict[tuple[int, int], tuple[int, Row]] = {}

    def scheduled(self, row: Row) -> None:
        """Take a change of runstate."""
        if row.kind != Kind.RUNSTATE or row.op is None:
            return
        vcpu = (row.dom or 0, row.vcpu or 0)
        old, new = row.op >> 4, row.op & 0xF
        known = self._states.get(vcpu)
        if known is not None and known[0] != old and self.broken is None:
            self._break(known[1], row)
        self._states[vcpu] = new, row

    def _break(self, before: Row, row: Row) -> None:
        span = sorted((before.tsc_lo, row.tsc_lo))
        covered = self._coverage.covered(row.dom or 0, RecordClass.SCHED, *span)
        if before.pcpu != row.pcpu and covered and not self._coverage.loss:
            self.broken = row

    def called(self, row: Row) -> None:
        """Take a call: none can be older than the capture of its domain's calls."""
        if self.broken is not None or not self._states or row.pcpu is None:
            return
        if row.tsc_lo < self._coverage.begins(row.dom or 0, RecordClass.CALL):
            self.broken = row

    def judge(self, row: Row, before: Iterable[Row]) -> None:
        """Hold what nothing explains against what came shortly after it on another pCPU.

        `before` are later rows that would explain it, had they come first.
        """
        if self.broken is not None or not self._states:
            return
        for other in before:
            elsewhere = other.pcpu is not None and other.pcpu != row.pcpu
            if elsewhere and 0 <= other.tsc_lo - row.tsc_lo < NEAR_CYCLES:
                self.broken = other
                return

    def judge_run(self, row: Row, previous: Run | None) -> None:
        """Ask of a run that nothing explains whether the one before answered too much."""
        if self.broken is not None or not self._states or previous is None:
            return
        taken = previous.cleared_tsc or previous.tsc
        late = [part for part in previous.contributors[1:] if taken - part.tsc_hi < NEAR_CYCLES]
        if late:
            self.broken = row

    def forget(self) -> None:
        """Forget the runstates: records were lost."""
        self._states.clear()
