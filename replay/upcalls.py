"""Upcalls: which vCPUs are in one, and why one was empty (L1): no handler ran in it.

An upcall comes because Xen announced an event to the vCPU, or because Xen asserted it without one:
when a vcpu_info is registered, and when an HVM guest sets its callback.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from evtrace.replay.belief import Belief
from evtrace.replay.results import MAX_EMPTY_UPCALLS, Results
from evtrace.replay.tokens import Channel
from evtrace.timeline import RecordClass, Row
from evtrace.tracefile.coverage import CoverageMap
from evtrace.verdicts import EmptyUpcall, Run, UpcallVerdict
from evtrace.xen.abi import HYPERVISOR_hvm_op, VCPUOP_register_vcpu_info

Vcpu = tuple[int, int]
"""(domain, vCPU)."""


@dataclass(slots=True)
class Upcall:
    """An upcall under way."""

    seq: int
    tsc: int
    last: int | None
    """Start of the one before on this vCPU; None if this is the first."""
    announced: dict[Channel, None]
    """Ports whose events were announced to the vCPU since then."""
    asserted: UpcallVerdict | None
    """Xen made it without an event."""
    runs: int = 0
    consumed: list[Channel] = field(default_factory=list)
    """FIFO: ports that it took off its queues."""


class Explanation(NamedTuple):
    """Why an upcall was empty."""

    verdict: UpcallVerdict
    reason: str
    evidence: str = "observed"


class Upcalls:
    """Follows the upcalls of every vCPU."""

    def __init__(
        self,
        belief: Belief,
        coverage: CoverageMap,
        results: Results,
        last_run: Callable[[Channel], Run | None],
    ) -> None:
        """Write verdicts into `results`; `last_run` gives the last run of a port."""
        self._belief = belief
        self._coverage = coverage
        self._results = results
        self._last_run = last_run
        self._open: dict[Vcpu, Upcall] = {}
        self._last: dict[Vcpu, int] = {}  # start of the last one
        self._announced: dict[Vcpu, dict[Channel, None]] = {}
        self._asserted: dict[Vcpu, UpcallVerdict] = {}
        self._created: set[int] = set()  # domains that start in the capture
        self._bare_vcpu_ops: set[int] = set()  # domains with a vcpu_op that shows no arguments

    # --- what makes upcalls ----------------------------------------------------------------------

    def announce(self, vcpu: Vcpu, channel: Channel) -> None:
        """Note that an event of a port is announced to a vCPU."""
        self._announced.setdefault(vcpu, {})[channel] = None

    def created(self, dom: int) -> None:
        """Note that a domain starts: all its upcalls are in the capture."""
        self._created.add(dom)

    def hypercall(self, row: Row) -> None:
        """Take a vcpu_op or hvm_op: it may make Xen assert an upcall."""
        if row.dom is None or row.vcpu is None:
            return
        if row.op == HYPERVISOR_hvm_op:
            if self._belief.is_hvm(row.dom):  # a PV one acts on other domains by it
                self._asserted[row.dom, row.vcpu] = UpcallVerdict.CALLBACK_SET
        elif row.a0 is None:
            self._bare_vcpu_ops.add(row.dom)
        elif row.a0 == VCPUOP_register_vcpu_info:
            vcpu = row.vcpu if row.a1 is None else row.a1
            self._asserted[row.dom, vcpu] = UpcallVerdict.VCPU_INFO_REGISTER
            self._belief.register_vcpu_info(row.dom, vcpu)

    # --- upcalls ---------------------------------------------------------------------------------

    def __contains__(self, where: Vcpu) -> bool:
        """Tell whether a vCPU is in an upcall."""
        return where in self._open

    def get(self, where: Vcpu) -> Upcall | None:
        """Give the upcall in which a vCPU is."""
        return self._open.get(where)

    def enter(self, where: Vcpu, row: Row) -> None:
        """Open an upcall."""
        self._open[where] = Upcall(
            row.seq,
            row.tsc_lo,
            self._last.get(where),
            self._announced.pop(where, {}),
            self._asserted.pop(where, None),
        )
        self._last[where] = row.tsc_lo
        self._results.upcalls[where[0]] += 1

    def consumed(self, where: Vcpu, channel: Channel) -> None:
        """Note that a vCPU took a port off its queue."""
        upcall = self._open.get(where)
        if upcall is not None:
            upcall.consumed.append(channel)

    def end(self, where: Vcpu, tsc: int, *, in_handler: bool) -> None:
        """Close an upcall, and say why it was empty if no handler ran in it."""
        upcall = self._open.pop(where, None)
        if upcall is None or upcall.runs or in_handler:
            return
        dom, coverage = where[0], self._coverage
        if coverage.gap(dom, upcall.tsc, tsc):
            return
        if coverage.covered(dom, RecordClass.HANDLER, upcall.tsc, tsc):
            self._take_empty(where, upcall, tsc)

    def forget(self, dom: int) -> None:
        """Forget the upcalls of a domain that is gone."""
        self._open = {where: up for where, up in self._open.items() if where[0] != dom}
        self._last = {where: tsc for where, tsc in self._last.items() if where[0] != dom}
        self._created.discard(dom)

    def records_lost(self) -> None:
        """Forget what is under way: its end may be among the records that were dropped."""
        self._open.clear()

    # --- empty ones ------------------------------------------------------------------------------

    def _take_empty(self, where: Vcpu, upcall: Upcall, tsc: int) -> None:
        found = self._explain(where, upcall, tsc)
        results = self._results
        results.empty_upcalls[where[0]] += 1
        results.upcall_verdicts[where[0], found.verdict] += 1
        if len(results.empty) < MAX_EMPTY_UPCALLS:
            row = (upcall.seq, *where, upcall.tsc, tsc)
            results.empty.append(
                EmptyUpcall(*row, found.verdict, found.reason, evidence=found.evidence)
            )

    def _explain(self, where: Vcpu, upcall: Upcall, tsc: int) -> Explanation:
        if upcall.asserted is not None:
            return _ASSERTED[upcall.asserted]
        since = upcall.tsc if upcall.last is None else upcall.last
        unseen = self._memory_missing(where[0], since, tsc)
        if unseen:
            return Explanation(UpcallVerdict.UNKNOWN, unseen)
        found = self._by_ports(where, upcall)
        if found is not None:
            return found
        if upcall.last is None and where[0] in self._created and where[0] in self._bare_vcpu_ops:
            return _FIRST_OF_HVM
        unseen = self._announcements_missing(where[0], since, tsc)
        if unseen:
            return Explanation(UpcallVerdict.UNKNOWN, unseen)
        return Explanation(UpcallVerdict.EMPTY_UPCALL, "nothing was announced since the last one")

    def _memory_missing(self, dom: int, lo: int, hi: int) -> str:
        """Say why it is not known what the guest found when it looked."""
        needed = RecordClass.MEMORY
        if self._belief.is_fifo(dom):
            needed |= RecordClass.QUEUE
        return self._coverage.missing(dom, needed, lo, hi) or self._coverage.loss

    def _announcements_missing(self, dom: int, lo: int, hi: int) -> str:
        """Say why something may have announced an event, or asserted the upcall, unseen."""
        needed = RecordClass.CALL | RecordClass.RAISE | RecordClass.HYPERCALL
        return self._coverage.missing(dom, needed, lo, hi) or ""

    def _by_ports(self, where: Vcpu, upcall: Upcall) -> Explanation | None:
        """Explain it by the ports that it found, or that were to be found."""
        for channel in [*upcall.consumed, *upcall.announced]:
            if self._belief.pending(channel):
                return Explanation(UpcallVerdict.PASSED_OVER, self._passed_over(where, channel))
        for channel in reversed(upcall.announced):
            return Explanation(UpcallVerdict.EMPTY_UPCALL, self._gone(where, channel, upcall.last))
        return None

    def _passed_over(self, where: Vcpu, channel: Channel) -> str:
        name = _name(channel)
        if self._belief.state(channel) is None:
            return f"{name} is pending, but closed"
        if self._belief.masked(channel):
            return f"{name} is pending, but masked by now"
        run = self._last_run(channel)
        if run is not None and run.exit_tsc is None and run.vcpu != where[1]:
            return f"{name} is pending, but its handler runs on v{run.vcpu}"
        return f"{name} is pending, and the guest did not handle it"

    def _gone(self, where: Vcpu, channel: Channel, since: int | None) -> str:
        name = _name(channel)
        if self._belief.state(channel) is None:
            return f"{name} announced it and was closed before it came"
        run = self._last_run(channel)
        if run is not None and run.vcpu != where[1] and run.tsc >= (since or 0):
            return f"{name} announced it and was handled on v{run.vcpu}"
        return f"{name} announced it and was taken before it came"


def _name(channel: Channel) -> str:
    return f"d{channel[0]}:{channel[1]}"


_ASSERTED = {
    UpcallVerdict.VCPU_INFO_REGISTER: Explanation(
        UpcallVerdict.VCPU_INFO_REGISTER,
        "the vCPU's vcpu_info was registered: Xen marks all selector bits and makes an upcall",
    ),
    UpcallVerdict.CALLBACK_SET: Explanation(
        UpcallVerdict.CALLBACK_SET,
        "the guest set its callback: Xen asserts it once, whatever is pending",
        "inferred(an hvm_op since the last upcall; Xen does not record its arguments)",
    ),
}

_FIRST_OF_HVM = Explanation(
    UpcallVerdict.VCPU_INFO_REGISTER,
    "the vCPU's first upcall: Xen makes one when its vcpu_info is registered",
    "inferred(a vcpu_op came before; Xen does not record its arguments)",
)
