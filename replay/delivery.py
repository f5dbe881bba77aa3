"""Delivery: whether events that must arrive do, and which step of Xen failed if one does not.

An event is *due* on a vCPU once the model has it pending, unmasked and announced. Then Xen wakes
that vCPU if it is blocked, lets it not block again, and its next upcall finds the port. A vCPU that
is seen to do otherwise shows that the event, or its upcall, was lost.
"""

from dataclasses import dataclass
from typing import NamedTuple

from evtrace.replay.belief import Belief
from evtrace.replay.calls import Call
from evtrace.replay.findings import Findings
from evtrace.replay.tokens import Channel, TokenBook
from evtrace.timeline import Kind, RecordClass, Row, Runstate
from evtrace.tracefile.coverage import CoverageMap
from evtrace.verdicts import Contribution, ContributionKind, Fate, FindingCode
from evtrace.xen.abi import EvtchnOp

WAKE_CYCLES = 5_000
"""Xen wakes a vCPU so soon after it raised a VIRQ or PIRQ for it."""
IDLE_DOMAIN = 32767

Vcpu = tuple[int, int]
"""(domain, vCPU)."""

GUEST_STEPS = frozenset(
    {
        Kind.CALL_EXIT,
        Kind.UPCALL_ENTER,
        Kind.UPCALL_EXIT,
        Kind.HANDLER_ENTER,
        Kind.HANDLER_EXIT,
        Kind.IRQ_BOUND,
        Kind.IRQ_UNBOUND,
        Kind.MASK,
        Kind.UNMASK,
        Kind.CLEAR,
        Kind.SET,
        Kind.CONSUME,
        Kind.EOI,
    }
)
"""Kinds of rows that a vCPU's own code writes."""


class Step(NamedTuple):
    """When a step of Xen took effect, at the latest by `hi`."""

    lo: int
    hi: int


@dataclass(slots=True)
class Due:
    """An event that an upcall of `vcpu` must find."""

    channel: Channel
    vcpu: Vcpu
    step: Step
    by_unmask: bool = False
    """EVTCHNOP_unmask was to announce it: the guest has seen it pending."""
    by_guest: bool = False
    """The guest itself has announced it."""
    missed: str = ""
    """What showed that Xen knows nothing of it."""
    told: bool = False


@dataclass(slots=True)
class _Wake:
    """A blocked vCPU that Xen must wake by `hi`."""

    due: Due
    step: Step
    again: bool
    """It is another event on a port whose first one was missed."""


@dataclass(slots=True)
class _Recheck:
    """A guest that unmasks a port with an event: it must call EVTCHNOP_unmask next."""

    channel: Channel
    tsc: int
    nested: int = 0


class Delivery:
    """Follows each due event until an upcall takes it."""

    def __init__(
        self, belief: Belief, coverage: CoverageMap, tokens: TokenBook, findings: Findings
    ) -> None:
        """Start with nothing due."""
        self._belief = belief
        self._coverage = coverage
        self._tokens = tokens
        self._findings = findings
        self._due: dict[Channel, Due] = {}
        self._states: dict[Vcpu, tuple[int, int]] = {}  # (runstate, since)
        self._wakes: list[_Wake] = []
        self._asleep: dict[Vcpu, Due] = {}  # blocked though an event is due: the first one
        self._rechecks: dict[Vcpu, _Recheck] = {}
        self._polling: set[Vcpu] = set()
        self._held: set[Channel] = set()  # masked, as far as their guests know
        self._now = 0

    # --- time and the scheduler --------------------------------------------------------------

    def pass_by(self, item: Row | Call) -> None:
        """Take note of the next row or call before it is replayed."""
        tsc = item.lo if isinstance(item, Call) else item.tsc_lo
        if isinstance(item, Call) or item.kind < Kind.CHANNEL:  # facts may come after all else
            self._now = tsc
        if self._wakes:
            self._expire(tsc)
        if self._rechecks:
            self._check_recheck(item)

    def _expire(self, tsc: int) -> None:
        late = [wake for wake in self._wakes if wake.step.hi < tsc]
        if late:
            self._wakes = [wake for wake in self._wakes if wake.step.hi >= tsc]
            for wake in late:
                self._not_woken(wake)

    def scheduled(self, row: Row) -> None:
        """Follow the runstate of a vCPU."""
        vcpu = (row.dom or 0, row.vcpu or 0)
        if self._wakes:
            self._woken(vcpu)
        if row.kind == Kind.WAKE:
            self._asleep.pop(vcpu, None)
            return
        state = (row.op or 0) & 0xF
        self._states[vcpu] = state, row.tsc_hi
        if state == Runstate.BLOCKED:
            if vcpu not in self._polling:
                self._blocks(vcpu, row)
        else:
            self._asleep.pop(vcpu, None)
            self._polling.discard(vcpu)

    def polls(self, row: Row) -> None:
        """Note that a vCPU is about to poll: it may block with upcalls held off."""
        if row.dom is not None:
            self._polling.add((row.dom, row.vcpu or 0))

    def _woken(self, vcpu: Vcpu) -> None:
        for wake in [wake for wake in self._wakes if wake.due.vcpu == vcpu]:
            self._wakes.remove(wake)
            if wake.again and self._due.get(wake.due.channel) is wake.due:
                self._lost(wake.due, "the next one on it woke its vCPU", keep_last=True)

    def _not_woken(self, wake: _Wake) -> None:
        due = wake.due
        if self._due.get(due.channel) is not due:
            return
        first = self._asleep.get(due.vcpu)
        if wake.again or (first is not None and first is not due):
            self._tell(first or due, FindingCode.LOST_UPCALL, _STUCK.format(*due.vcpu))
            due.missed, due.told = due.missed or "its vCPU sleeps on", True
            return
        self._miss(due, f"Xen did not wake d{due.vcpu[0]}v{due.vcpu[1]}")

    def _miss(self, due: Due, what: str) -> None:
        if not self._can_tell(due):
            return
        due.missed = what
        self._asleep.setdefault(due.vcpu, due)
        self._belief.rest(*due.vcpu)
        if due.by_unmask:
            self._tell(due, FindingCode.UNMASK_WITHOUT_RERAISE, what)
            self._belief.consume(due.channel)
        elif due.by_guest:
            self._lost(due, what)

    def _blocks(self, vcpu: Vcpu, row: Row) -> None:
        """Judge a vCPU that blocks: Xen lets none block for which it has an event."""
        for due in self._due_on(vcpu):
            if not due.missed and due.step.hi < row.tsc_lo and self._is_announced(due):
                self._miss(due, f"Xen let d{vcpu[0]}v{vcpu[1]} block at {row.tsc_lo}")

    # --- events ------------------------------------------------------------------------------

    def raised(self, channel: Channel, step: Step, *, by_unmask: bool = False) -> None:
        """Note that a step of Xen raised an event, or announced one that waited."""
        due = self._due.get(channel)
        if due is None or (due.told and self._belief.is_fifo(channel[0])):
            due = self._take(channel, step)
            if due is None:
                return
            due.by_unmask = by_unmask
            if due.vcpu in self._belief.kicked or due.vcpu in self._asleep:
                self._expect(due, step)
        elif by_unmask:
            due.by_unmask, due.by_guest, due.step = True, False, step
        elif due.missed and not due.by_unmask:
            self._expect(due, step, again=True)

    def _take(self, channel: Channel, step: Step) -> Due | None:
        if not self._findings.watches(channel[0]):
            return None
        vcpu = self._belief.due_on(channel)
        if vcpu is None:
            return None
        due = self._due[channel] = Due(channel, (channel[0], vcpu), step)
        return due

    def _expect(self, due: Due, step: Step, *, again: bool = False) -> None:
        state, since = self._states.get(due.vcpu, (Runstate.RUNNING, 0))
        covered = self._coverage.covered(due.vcpu[0], RecordClass.SCHED, step.lo, step.hi)
        if state == Runstate.BLOCKED and since < step.lo and covered:
            self._wakes.append(_Wake(due, step, again))

    def unmasks(self, row: Row, channel: Channel) -> None:
        """Note that a guest unmasks a port; the model has not followed it yet."""
        self._held.discard(channel)
        if not self._findings.watches(channel[0]) or not self._belief.pending(channel):
            return
        if self._belief.rechecks(channel[0]) and self._belief.is_fifo(channel[0]):
            self._rechecks[channel[0], row.vcpu or 0] = _Recheck(channel, row.tsc_lo)

    def unmasked(self, row: Row, channel: Channel) -> None:
        """Note that the model has followed a guest that unmasked a port."""
        if channel not in self._due:
            due = self._take(channel, Step(row.tsc_lo, row.tsc_hi))
            if due is not None:
                due.by_guest = True

    def _check_recheck(self, item: Row | Call) -> None:
        if isinstance(item, Call):
            vcpu = (item.dom, item.vcpu)
        elif item.kind in GUEST_STEPS:
            vcpu = (item.dom or 0, item.vcpu or 0)
        else:
            return
        waiting = self._rechecks.get(vcpu)
        if waiting is None or self._is_nested(waiting, item):
            return
        del self._rechecks[vcpu]
        is_unmask = isinstance(item, Call) and item.op == EvtchnOp.UNMASK
        if is_unmask and isinstance(item, Call) and (item.args or (0,))[0] == waiting.channel[1]:
            return
        due = Due(waiting.channel, vcpu, Step(waiting.tsc, waiting.tsc))
        self._lost(due, f"d{vcpu[0]}v{vcpu[1]} unmasked it and found nothing pending")

    @staticmethod
    def _is_nested(waiting: _Recheck, item: Row | Call) -> bool:
        """Tell whether a row belongs to an upcall that interrupts the unmasking."""
        if isinstance(item, Row):
            if item.kind == Kind.UPCALL_ENTER:
                waiting.nested += 1
            elif item.kind == Kind.UPCALL_EXIT and waiting.nested:
                waiting.nested -= 1
                return True
        return waiting.nested > 0

    def cleared(self, channel: Channel) -> None:
        """Note that a guest took the port's event."""
        due = self._due.pop(channel, None)
        if due is not None and due.missed and not due.told:
            self._tell(due, FindingCode.LOST_UPCALL, f"{due.missed}, though it was pending")

    def masked(self, channel: Channel) -> None:
        """Note that a guest masks a port.

        An EVTCHNOP_unmask that was under way may unmask it all the same: then the guest passes its
        events over, and looks again when it unmasks the port.
        """
        self._held.add(channel)
        self._due.pop(channel, None)

    def moved(self, channel: Channel) -> None:
        """Note that the port's events go to another vCPU: who finds this one is not certain."""
        self._due.pop(channel, None)

    def forget(self, channel: Channel) -> None:
        """Note that the port is closed."""
        self._held.discard(channel)
        self._due.pop(channel, None)

    def forget_all(self) -> None:
        """Forget what is due: records were lost."""
        self._due.clear()
        self._wakes.clear()
        self._asleep.clear()
        self._rechecks.clear()
        self._states.clear()

    def upcall_exit(self, vcpu: Vcpu, entered: int) -> None:
        """Judge an upcall that ends: what was due before it began must have been taken."""
        for due in self._due_on(vcpu):
            if due.step.hi >= entered or not self._is_announced(due):
                continue
            why = f"the upcall of d{vcpu[0]}v{vcpu[1]} at {entered} did not find it"
            if due.by_unmask:
                self._tell(due, FindingCode.UNMASK_WITHOUT_RERAISE, why)
                due.missed = due.missed or why
                self._belief.consume(due.channel)
            else:
                self._lost(due, why)

    def _is_announced(self, due: Due) -> bool:
        belief, channel = self._belief, due.channel
        if channel in self._held:
            return False
        return belief.pending(channel) and not belief.masked(channel)

    def _due_on(self, vcpu: Vcpu) -> list[Due]:
        return [due for due in self._due.values() if due.vcpu == vcpu]

    def _can_tell(self, due: Due) -> bool:
        return self._findings.can_tell(due.channel[0], due.step.lo, self._now)

    # --- what went wrong -----------------------------------------------------------------------

    def _lost(self, due: Due, why: str, *, keep_last: bool = False) -> None:
        """Take it that nothing was ever pending, and let the model go on from there."""
        token = self._tokens.open_token(due.channel)
        self._due.pop(due.channel, None)
        if token is None or not token.parts or not self._can_tell(due):
            return
        lost = token.parts[:-1] if keep_last else list(token.parts)
        for _, send in lost:
            if send is not None:
                send.fate, send.reason = Fate.LOST, why
        del token.parts[: len(lost)]
        if lost and not due.told:
            self._findings.blame_xen(_lost_code(lost[0][0]), lost[0][0], due.channel, why)
        if keep_last:
            self._take(due.channel, due.step)
            return
        self._tokens.consume(due.channel)
        self._belief.take_back(due.channel)

    def _tell(self, due: Due, code: FindingCode, why: str) -> None:
        token = self._tokens.open_token(due.channel)
        if due.told or token is None or not token.parts or not self._can_tell(due):
            return
        due.told = True
        self._findings.blame_xen(code, token.parts[0][0], due.channel, why)

    def settle(self) -> None:
        """Settle what is still due: on a vCPU that sleeps on, it was lost."""
        self._expire(1 << 62)
        for due in list(self._due.values()):
            first = self._asleep.get(due.vcpu)
            if first is None and not due.missed:
                continue
            why = due.missed or f"d{due.vcpu[0]}v{due.vcpu[1]} was never woken"
            if due is first and not due.by_unmask:
                self._tell(due, FindingCode.NOT_DELIVERED, f"{why}: it or its upcall was lost")
            token = self._tokens.open_token(due.channel)
            for _, send in token.parts if token else []:
                if send is not None:
                    send.fate, send.reason = Fate.LOST, why


_STUCK = "d{}v{} was not woken, nor by a later event: its upcall is taken to be pending"


def _lost_code(part: Contribution) -> FindingCode:
    match part.kind:
        case ContributionKind.BIND:
            return FindingCode.NO_PENDING_AT_BIND
        case ContributionKind.SEND | ContributionKind.IPI:
            return FindingCode.LOST_SEND
    return FindingCode.LOST_EVENT
