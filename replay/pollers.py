"""Pollers: vCPUs that wait in SCHEDOP_poll for a masked port, and what woke them."""

from evtrace.timeline import Kind, RecordClass, Row, Runstate
from evtrace.tracefile.coverage import CoverageMap
from evtrace.verdicts import Contribution

Vcpu = tuple[int, int]
"""(domain, vCPU)."""


class Pollers:
    """Follows the vCPUs that poll: their last sleeps, until they poll again or take an upcall."""

    def __init__(self, coverage: CoverageMap) -> None:
        """Claim nothing where `coverage` lacks the scheduler's records."""
        self._coverage = coverage
        self._polls: set[Vcpu] = set()
        self._asleep: dict[Vcpu, int] = {}  # since
        self._slept: dict[Vcpu, tuple[int, int]] = {}  # the last sleep of a poll: from, to

    def polls(self, row: Row) -> None:
        """Note that a vCPU calls SCHEDOP_poll, or may."""
        if row.dom is not None:
            self._polls.add((row.dom, row.vcpu or 0))
            self._slept.pop((row.dom, row.vcpu or 0), None)

    def scheduled(self, row: Row) -> None:
        """Follow the runstate of a vCPU that polls."""
        vcpu = (row.dom or 0, row.vcpu or 0)
        if row.kind != Kind.RUNSTATE or vcpu not in self._polls:
            return
        if (row.op or 0) & 0xF == Runstate.BLOCKED:
            self._asleep[vcpu] = row.tsc_lo
        elif vcpu in self._asleep:
            self._slept[vcpu] = self._asleep.pop(vcpu), row.tsc_hi
            self._polls.discard(vcpu)

    def upcall(self, vcpu: Vcpu) -> None:
        """Note that a vCPU takes an upcall: that, and no event, may have ended its sleep."""
        self._polls.discard(vcpu)
        self._asleep.pop(vcpu, None)
        self._slept.pop(vcpu, None)

    def woken_by(self, vcpu: Vcpu, part: Contribution) -> bool:
        """Tell whether an event came while the vCPU that takes it slept in SCHEDOP_poll."""
        slept = self._slept.pop(vcpu, None)
        if slept is None or not slept[0] < part.tsc <= slept[1]:
            return False
        needed = RecordClass.SCHED | RecordClass.HYPERCALL
        return self._coverage.covered(vcpu[0], needed, *slept)
