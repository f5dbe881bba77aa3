"""The machine: walks the steps of a capture with the state of each pCPU and each vCPU.

Its memory is bounded by their numbers. Findings are given on as they are complete: a chain when its
vCPU has entered the guest or stops, a wait when it ends.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from evtrace.analysis.stock.chains import Chain, Round, Wait, is_span
from evtrace.analysis.stock.gaps import Gaps
from evtrace.analysis.stock.names import is_idle
from evtrace.analysis.stock.occupancy import Occupancy
from evtrace.analysis.stock.order import Change, Follows, Order
from evtrace.analysis.stock.rounds import Rounds
from evtrace.analysis.stock.steps import EVENT_CHANNEL_OPS, Step, StepRow
from evtrace.timeline import Runstate
from evtrace.tracefile.lines import IDLE_DOMAIN

RUNNING, RUNNABLE = int(Runstate.RUNNING), int(Runstate.RUNNABLE)
ASLEEP = int(Runstate.BLOCKED)
"""This state and those above it: a wake-up has an effect."""

UNSETTLED = 16
"""Wake-ups of a pCPU that may still turn out to be an interrupt's."""
_LOW = 0xFFFFFFFF
_IDLE = IDLE_DOMAIN << 16
"""Packed vCPUs from here on are Xen's idle ones."""
_RUNSTATE, _CALL, _WAKE = int(Step.RUNSTATE), int(Step.CALL), int(Step.WAKE)


@dataclass(slots=True)
class Findings:
    """Where what the machine finds goes."""

    chain: Callable[[Chain], None]
    wait: Callable[[Wait], None]
    round: Callable[[Round], None]


@dataclass(slots=True)
class VCpu:
    """One vCPU's state; None where it is not known."""

    state: int | None = None
    since: int = 0
    pcpu: int = 0
    """Which pCPU recorded that."""
    pcpus: set[int] = field(default_factory=set)
    """All that ever recorded a change of it."""
    chain: Chain | None = None
    """The wake-up that it has not run after yet."""
    cycles: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    """Time in each runstate, as far as it is known."""
    excluded: int = 0
    """Cycles during which records were lost: its state is not known."""
    stints: int = 0
    """How often it was scheduled in."""


@dataclass(slots=True)
class PCpu:
    """One pCPU's state."""

    occupancy: Occupancy = field(default_factory=Occupancy)
    woken: list[Chain] = field(default_factory=list)
    """Wake-ups since the last record that shows what did not lead to them."""
    arriving: Chain | None = None
    """The wake-up of the vCPU that runs and has not entered the guest yet."""
    vector: int | None = None
    call: tuple[int, int] | None = None
    """vCPU and TSC of the last event-channel hypercall, if it has woken nobody yet."""


class Machine:
    """The fold over the steps; `finish` when there are no more."""

    def __init__(self, gaps: Gaps, findings: Findings) -> None:
        """Start with nothing known of any CPU."""
        self.order = Order()
        self.vcpus: dict[int, VCpu] = {}
        self._pcpus: dict[int, PCpu] = {}
        self._gaps = gaps
        self._findings = findings
        self._rounds = Rounds(self._round)

    def take(self, steps: Iterable[StepRow]) -> None:
        """Walk steps in time order."""
        pcpus = self._pcpus
        for row in steps:
            step, number, vcpu, tsc, what, first, other = row
            pcpu = pcpus.get(number)
            if pcpu is None:
                pcpu = pcpus[number] = PCpu()
            if step == _RUNSTATE and vcpu is not None and what is not None:
                self._changes(pcpu, Change(vcpu, tsc, number, what >> 4, what & 0xF))
            elif step == _CALL:
                self._calls(pcpu, vcpu, tsc)
            elif step == _WAKE and vcpu is not None:
                self._wakes(pcpu, Chain(tsc, number, vcpu, other, what, first))
            else:
                self._others(pcpu, row)

    def _others(self, pcpu: PCpu, row: StepRow) -> None:
        """Take a step that is none of the frequent ones."""
        step, _, _, tsc, what, first, other = row
        match step:
            case Step.VMENTRY | Step.ENTERED:
                self._settle(pcpu)
                self._arrives(pcpu, tsc, is_entry=step == Step.VMENTRY)
            case Step.INJECT:
                pcpu.vector = what
            case Step.IRQ if what is not None and first is not None and other is not None:
                self._handled(pcpu, what, first, other)
            case Step.LOST:
                self._lost(pcpu)

    def finish(self) -> None:
        """Close what is open when the capture ends."""
        for pcpu in self._pcpus.values():
            self._settle(pcpu)
            if pcpu.arriving is not None:
                self._close(pcpu.arriving)
        for vcpu in self.vcpus.values():
            self._drop(vcpu)

    # --- changes of runstate -------------------------------------------------------------------

    def _changes(self, pcpu: PCpu, change: Change) -> None:
        """Take a change of runstate: the pCPU switches, or a wake-up has its effect."""
        number, tsc, pcpu_number, old, new = change
        if new == RUNNING:
            self._switches(pcpu)
            pcpu.occupancy.starts(number, tsc)
        elif old == RUNNING:
            self._switches(pcpu)
            pcpu.occupancy.stops(number, tsc)
        if number >= _IDLE:
            return
        vcpu = self.vcpus.get(number)
        if vcpu is None:
            vcpu = self.vcpus[number] = VCpu()
        follows = self._accounts(vcpu, change)
        woken = self._woken(pcpu, change) if old >= ASLEEP else None
        if follows is Follows.BEFORE:
            if woken is not None:
                woken.effective = woken.excluded = True
                self._close(woken)
            return
        self._becomes(pcpu, vcpu, change, woken)
        vcpu.state, vcpu.since, vcpu.pcpu = new, tsc, pcpu_number
        vcpu.pcpus.add(pcpu_number)

    def _becomes(self, pcpu: PCpu, vcpu: VCpu, change: Change, woken: Chain | None) -> None:
        """Take what a change that follows means for its vCPU."""
        if change.new == RUNNING:
            self._runs(pcpu, vcpu, change)
        elif change.new >= ASLEEP:
            self._rounds.sleeps(change.vcpu)
            self._drop(vcpu)
        elif change.old >= ASLEEP:
            self._rounds.awakes(change.vcpu, change.tsc)
            if woken is not None:
                self._drop(vcpu)
                woken.effective = True
                vcpu.chain = woken

    def _switches(self, pcpu: PCpu) -> None:
        """Take note that another vCPU runs from now on, or none."""
        if pcpu.woken:
            self._settle(pcpu)
        if pcpu.arriving is not None:
            self._leaves(pcpu)

    def _accounts(self, vcpu: VCpu, change: Change) -> Follows:
        """Count the time in the state that ends, if the change follows from it."""
        if vcpu.state is None:
            return Follows.YES
        # where it runs, a gap has made its state unknown already
        sure = vcpu.state == RUNNING == change.old
        if not is_span(vcpu.since, change.tsc):
            follows = Follows.NO
        elif not sure and self._gaps.touch(vcpu.since, change.tsc):
            vcpu.excluded += change.tsc - vcpu.since
            follows = Follows.NO
        else:
            follows = self.order.check(change, vcpu.state)
            if follows is Follows.NO and not self._gaps.ended(vcpu.pcpus, change.tsc):
                self.order.blame(change, vcpu.state, vcpu.pcpu)
        if follows is Follows.YES:
            vcpu.cycles[change.old] += change.tsc - vcpu.since
        elif follows is Follows.NO:
            vcpu.state = None
            if vcpu.chain is not None:
                vcpu.chain.excluded = True
        return follows

    def _woken(self, pcpu: PCpu, change: Change) -> Chain | None:
        """Give the wake-up that a change is the effect of."""
        if change.new != RUNNABLE:
            return None
        return next((c for c in reversed(pcpu.woken) if c.target == change.vcpu), None)

    def _runs(self, pcpu: PCpu, vcpu: VCpu, change: Change) -> None:
        """Take note that a vCPU is scheduled in: a wait ends, a wake-up has led to something."""
        vcpu.stints += 1
        self._rounds.runs(change.vcpu, change.tsc)
        if vcpu.state == RUNNABLE:
            held = pcpu.occupancy.held(vcpu.since, change.tsc)
            self._findings.wait(Wait(change.vcpu, vcpu.since, change.tsc, held))
        chain, vcpu.chain = vcpu.chain, None
        if chain is None:
            return
        chain.excluded |= self._gaps.touch(chain.tsc, change.tsc)
        if chain.excluded:
            self._close(chain)
        else:
            chain.running_tsc = change.tsc
            pcpu.arriving, pcpu.vector = chain, None

    # --- wake-ups ------------------------------------------------------------------------------

    def _wakes(self, pcpu: PCpu, chain: Chain) -> None:
        """Take a wake-up: an event-channel hypercall notifies one vCPU, so the first is its own."""
        if chain.by in EVENT_CHANNEL_OPS and chain.runner is not None:
            if pcpu.call == (chain.runner, chain.led_tsc):
                self._rounds.wakes(pcpu.call[0], chain.target)
                pcpu.call = None
            else:
                chain.by = chain.led_tsc = None
        pcpu.woken.append(chain)
        if len(pcpu.woken) > UNSETTLED:
            self._settled(pcpu.woken.pop(0))

    def _calls(self, pcpu: PCpu, vcpu: int | None, tsc: int) -> None:
        """Take an event-channel hypercall; where nobody is known to run, nobody called."""
        self._settle(pcpu)
        self._arrives(pcpu, tsc, is_entry=False)
        pcpu.call = None
        if vcpu is not None and not is_idle(vcpu):
            pcpu.call = vcpu, tsc
            self._rounds.calls(vcpu, tsc)

    def _handled(self, pcpu: PCpu, irq: int, began: int, ended: int) -> None:
        """Take an interrupt, which is recorded when it is over: what it woke came before."""
        for chain in pcpu.woken:
            if (chain.tsc - began) & _LOW > (ended - began) & _LOW:
                continue
            if chain.by in EVENT_CHANNEL_OPS and chain.runner is not None:
                self._rounds.retract(chain.runner, chain.target)
            chain.irq = irq
            chain.by = None
            chain.led_tsc = chain.tsc - ((chain.tsc - began) & _LOW)
        self._settle(pcpu)

    def _settle(self, pcpu: PCpu) -> None:
        """Take note that nothing more can be learned of what led to a pCPU's wake-ups."""
        for chain in pcpu.woken:
            self._settled(chain)
        pcpu.woken.clear()

    def _settled(self, chain: Chain) -> None:
        chain.settled = True
        if chain.closed or not chain.effective:
            self._findings.chain(chain)

    # --- arrivals ------------------------------------------------------------------------------

    def _arrives(self, pcpu: PCpu, tsc: int, *, is_entry: bool) -> None:
        """Take the first sign that the vCPU which was woken executes."""
        chain = pcpu.arriving
        if chain is None:
            return
        if is_entry:
            chain.entry_tsc, chain.vector = tsc, pcpu.vector
        else:
            chain.bound_tsc = tsc
        self._leaves(pcpu)

    def _leaves(self, pcpu: PCpu) -> None:
        """Close the wake-up of the vCPU that runs, whether or not it entered the guest."""
        chain, pcpu.arriving = pcpu.arriving, None
        if chain is not None:
            self._close(chain)

    def _drop(self, vcpu: VCpu) -> None:
        """Close a wake-up after which the vCPU was not seen to run."""
        chain, vcpu.chain = vcpu.chain, None
        if chain is not None:
            self._close(chain)

    def _close(self, chain: Chain) -> None:
        chain.closed = True
        if chain.settled:
            self._findings.chain(chain)

    # --- gaps ----------------------------------------------------------------------------------

    def _lost(self, pcpu: PCpu) -> None:
        """Forget what a gap in a pCPU's records makes doubtful."""
        for chain in pcpu.woken:
            chain.excluded |= not chain.effective
        self._settle(pcpu)
        if pcpu.arriving is not None:
            self._leaves(pcpu)
        running = pcpu.occupancy.vcpu
        if running in self.vcpus:
            self.vcpus[running].state = None
        pcpu.occupancy.forget()
        pcpu.call = pcpu.vector = None
        self.order.forget()
        self._rounds.forget()

    def _round(self, found: Round) -> None:
        end = found.reply if found.end is None else found.end
        if is_span(found.start, end) and not self._gaps.touch(found.start, end):
            self._findings.round(found)
