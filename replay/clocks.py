"""Clocks: whether the TSCs of the pCPUs agree, as the order of their records shows."""

from collections.abc import Callable

from evtrace.replay.suspicions import Suspicions
from evtrace.replay.tokens import Channel
from evtrace.timeline import Kind, RecordClass, Row
from evtrace.tracefile.coverage import CoverageMap


class Clocks:
    """Holds every vCPU's changes of runstate against each other: each starts where one ended."""

    def __init__(self, coverage: CoverageMap, suspicions: Suspicions) -> None:
        """Start with nothing seen; where `coverage` has gaps nothing follows."""
        self._coverage = coverage
        self._suspicions = suspicions
        self.broken: Row | None = None
        """The first change that does not follow from the one before it."""
        self._states: dict[tuple[int, int], tuple[int, Row]] = {}
        self._places: dict[tuple[int, int], set[int | None]] = {}
        self._extents: dict[tuple[int, RecordClass], tuple[int, int] | None] = {}

    def scheduled(self, row: Row) -> None:
        """Take a change of runstate."""
        if row.kind != Kind.RUNSTATE or row.op is None:
            return
        vcpu = (row.dom or 0, row.vcpu or 0)
        old, new = row.op >> 4, row.op & 0xF
        known = self._states.get(vcpu)
        if known is not None and known[0] == old:
            self._suspicions.follows(known[1], row)
        elif known is not None and self.broken is None:
            self._break(known[1], row)
        self._states[vcpu] = new, row
        self._places.setdefault(vcpu, set()).add(row.pcpu)

    def _break(self, before: Row, row: Row) -> None:
        """Take a change that does not follow: what lies between them is out of its place.

        On one pCPU, too: then it is a change that was made on another.
        """
        span = sorted((before.tsc_lo, row.tsc_lo))
        covered = self._coverage.covered(row.dom or 0, RecordClass.SCHED, *span)
        places = self._places[row.dom or 0, row.vcpu or 0] | {row.pcpu}
        if len(places) > 1 and covered and not self._coverage.loss:
            self.broken = row

    def happens(self, row: Row, cls: RecordClass) -> None:
        """Take a record of a guest: it lies within the capture of its class."""
        if self.broken is not None or not self._states or row.pcpu is None:
            return
        dom = row.dom or 0
        if (dom, cls) not in self._extents:
            self._extents[dom, cls] = self._coverage.extent(dom, cls)
        extent = self._extents[dom, cls]
        if extent is not None and not (extent[0] <= row.tsc_hi and row.tsc_lo <= extent[1]):
            self.broken = row

    def conclude(self, sent_astray: Callable[[Channel, int], bool]) -> None:
        """Ask of what nothing explains whether other clocks would (`Suspicions.first`)."""
        if self.broken is None and self._states:
            self.broken = self._suspicions.first(sent_astray)

    def forget(self) -> None:
        """Forget the runstates: records were lost."""
        self._states.clear()
        self._places.clear()
        self._suspicions.forget()
