"""Findings: what is wrong and whose doing it is, collected during a replay."""

from dataclasses import replace

from evtrace.replay.tokens import Channel
from evtrace.timeline import RecordClass, Row
from evtrace.tracefile.coverage import CoverageMap
from evtrace.verdicts import (
    Blame,
    Cause,
    Contribution,
    ContributionKind,
    Finding,
    FindingCode,
    Run,
)

EVERY_STEP = (
    RecordClass.CALL
    | RecordClass.UPCALL
    | RecordClass.HANDLER
    | RecordClass.MEMORY
    | RecordClass.QUEUE
    | RecordClass.RAISE
)
"""Classes without which a domain's steps are guesses, and nobody is blamed.

A VIRQ that left no record, for instance, may have announced what seems to be announced by nobody.
"""

_HYPERVISORS = frozenset({FindingCode.LOST_SEND, FindingCode.NOT_DELIVERED})


class Findings:
    """Takes what the rules find; keeps it apart from what the capture cannot support."""

    def __init__(self, coverage: CoverageMap) -> None:
        """Find nothing where `coverage` has gaps."""
        self._coverage = coverage
        self._found: list[Finding] = []
        self._told: set[tuple[FindingCode, Channel]] = set()
        self._watched: dict[int, bool] = {}
        self._blind = False

    def watches(self, dom: int) -> bool:
        """Tell whether every step of the domain was captured, at some time at least."""
        if self._blind:
            return False
        if dom not in self._watched:
            able = EVERY_STEP in self._coverage.classes(dom) and not self._coverage.loss
            self._watched[dom] = able
        return self._watched[dom]

    def can_tell(self, dom: int, lo: int, hi: int) -> bool:
        """Tell whether every step of the domain was captured from `lo` to `hi`."""
        return self.watches(dom) and self._coverage.covered(dom, EVERY_STEP, lo, hi)

    def lose_sight(self, row: Row) -> None:
        """Find no more: records were dropped, and the state of ports is not known after that."""
        if not self._blind:
            self._blind = True
            why = f"{row.a0} records of pcpu {row.pcpu} were lost: what rests on them is withheld"
            self.blame_capture(FindingCode.RECORDS_LOST, row, why)

    def blame_capture(self, code: FindingCode, row: Row, why: str) -> None:
        """Take something that is wrong with the capture."""
        self._add(Finding(code, row.seq, row.tsc_lo, row.dom or 0, None, why))

    def blame_xen(self, code: FindingCode, part: Contribution, channel: Channel, why: str) -> None:
        """Take a fault of the hypervisor, at the record that was to set `channel` pending."""
        sentence = f"{_PROMISES[part.kind].format(_name(channel))}; {why}"
        self._add(Finding(code, part.seq, part.tsc, *channel, sentence))

    def blame_guest(self, code: FindingCode, run: Run, channel: Channel, why: str) -> None:
        """Take a fault of a guest, the first of its kind on each port."""
        if (code, channel) not in self._told:
            self._told.add((code, channel))
            self._add(Finding(code, run.seq, run.tsc, *channel, why))

    def add(self, code: FindingCode, seq: int, tsc: int, *, at: Channel, why: str) -> None:
        """Take any other finding."""
        self._add(Finding(code, seq, tsc, *at, why))

    def _add(self, finding: Finding) -> None:
        self._found.append(finding)

    def sent_astray(self, channel: Channel, seq: int) -> bool:
        """Tell whether an event for another port of the domain was lost before a run of this."""
        lost = [found for found in self._found if found.code in _HYPERVISORS and found.seq < seq]
        return any(found.dom == channel[0] and found.port != channel[1] for found in lost)

    def finish(self, runs: list[Run], *, withhold: bool) -> list[Finding]:
        """Give the findings, the first place first; `withhold` those that blame the machine."""
        if withhold:
            return [found for found in self._found if found.blame is Blame.CAPTURE]
        strays = [
            run
            for run in runs
            if run.cause is Cause.UNPROVOKED and not run.excused and self.watches(run.dom)
        ]
        found = [self._misdirected(one, strays) for one in self._found]
        found += [_set_for_nobody(run) for run in strays]
        return sorted(found, key=lambda one: one.seq)

    @staticmethod
    def _misdirected(found: Finding, strays: list[Run]) -> Finding:
        """Join a lost send and the run of another port of its domain that nobody provoked."""
        if found.code not in _HYPERVISORS:
            return found
        later = [
            run
            for run in strays
            if run.dom == found.dom and run.port != found.port and run.seq > found.seq
        ]
        if not later:
            return found
        strays.remove(later[0])
        promise = found.sentence.partition(";")[0]
        sentence = f"{promise}; d{found.dom}:{later[0].port} ran instead, for which nobody had sent"
        return replace(found, code=FindingCode.WRONG_PORT, sentence=sentence)


def _set_for_nobody(run: Run) -> Finding:
    name = f"d{run.dom}:{run.port}"
    why = f"{name} was found pending, and nothing had set it"
    return Finding(FindingCode.SET_FOR_NOBODY, run.seq, run.tsc, run.dom, run.port, why)


def _name(channel: Channel) -> str:
    return f"d{channel[0]}:{channel[1]}"


_PROMISES = {
    ContributionKind.SEND: "a send to {} returned 0",
    ContributionKind.IPI: "an IPI on {} returned 0",
    ContributionKind.BIND: "bind_interdomain opened {}",
    ContributionKind.VIRQ: "a VIRQ was raised for {}",
    ContributionKind.PIRQ: "an interrupt was raised for {}",
    ContributionKind.GUEST_SET: "the guest set {} pending",
    ContributionKind.BEFORE: "{} was pending before the capture",
}
