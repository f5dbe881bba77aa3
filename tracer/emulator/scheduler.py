"""A credit-like scheduler: physical CPUs, run queues, wake-ups that tickle, time slices.

After Xen's common/sched/{core,credit}.c: a vCPU that wakes while it has credit left is boosted in
front of those that only consume; credit burns while running and is given out anew every 30 ms.
"""

from enum import IntEnum, unique
from typing import TYPE_CHECKING, Final

from evtrace.timeline import Runstate

if TYPE_CHECKING:
    from evtrace.tracer.emulator.engine import Engine
    from evtrace.tracer.emulator.stock import StockWriter
    from evtrace.tracer.emulator.timing import Costs
    from evtrace.tracer.emulator.vcpu import VirtualCpu

SLICE_MS: Final = 30
TICK_MS: Final = 10
"""So long the boost of a vCPU that woke lasts."""
RATELIMIT_MS: Final = 1
"""A vCPU runs at least so long before another takes its place."""
IDLE_DOMAIN: Final = 32767


@unique
class Priority(IntEnum):
    """Lower runs first (CSCHED_PRI_TS_*)."""

    BOOST = 0
    UNDER = 1
    OVER = 2


class Pcpu:
    """A physical CPU: who runs on it, who waits for it."""

    __slots__ = ("current", "number", "queue", "since", "slice_end", "tickled")

    def __init__(self, number: int) -> None:
        self.number = number
        self.current: VirtualCpu | None = None
        """None: idle."""
        self.queue: list[VirtualCpu] = []
        self.since = 0
        """TSC at which `current` began to run."""
        self.slice_end = 0
        self.tickled = False


class Scheduler:
    """Decides which vCPU runs where, and writes what Xen's scheduler would write about it."""

    def __init__(self, engine: "Engine", costs: "Costs", stock: "StockWriter", pcpus: int) -> None:
        self.pcpus = [Pcpu(number) for number in range(pcpus)]
        self._engine = engine
        self._costs = costs
        self._stock = stock
        cycles = costs.profile.cycles
        self._slice = cycles(SLICE_MS * 1_000_000)
        self._tick = cycles(TICK_MS * 1_000_000)
        self._ratelimit = cycles(RATELIMIT_MS * 1_000_000)
        self._accounted = 0
        self._vcpus: list[VirtualCpu] = []

    def add(self, vcpu: "VirtualCpu") -> None:
        """Let a vCPU, blocked as yet, be scheduled."""
        vcpu.credit = self._slice
        self._vcpus.append(vcpu)

    def remove(self, dom: int) -> None:
        """Let the vCPUs of a domain run no more."""
        gone = [vcpu for vcpu in self._vcpus if vcpu.dom == dom]
        self._vcpus = [vcpu for vcpu in self._vcpus if vcpu.dom != dom]
        for vcpu in gone:
            if vcpu in vcpu.pcpu.queue:
                vcpu.pcpu.queue.remove(vcpu)
            if vcpu.pcpu.current is vcpu:
                vcpu.waits = True
                self._schedule(vcpu.pcpu)
            if vcpu.runstate is not Runstate.OFFLINE:
                self._change(vcpu.pcpu, vcpu, Runstate.OFFLINE)

    def wake(self, vcpu: "VirtualCpu", waker: Pcpu) -> None:
        """Make a blocked vCPU runnable; Xen records that on the waker's pCPU. vcpu_wake."""
        self._stock.wake(waker, vcpu)
        if vcpu.runstate is not Runstate.BLOCKED:
            return
        self._change(waker, vcpu, Runstate.RUNNABLE)
        vcpu.priority = Priority.BOOST if vcpu.credit > 0 else Priority.OVER
        self._tickle(self._enqueue(vcpu))

    def block(self, vcpu: "VirtualCpu") -> None:
        """Take a vCPU that waits off its pCPU."""
        self._stock.block(vcpu)
        vcpu.waits = True
        self._schedule(vcpu.pcpu)

    def leaves_xen(self, vcpu: "VirtualCpu") -> bool:
        """Do what was put off while a vCPU was in Xen; tell whether it still runs."""
        if vcpu.pcpu.tickled:
            self._schedule(vcpu.pcpu)
        return vcpu.runstate is Runstate.RUNNING

    def preempt(self, pcpu: Pcpu) -> None:
        """Let a pCPU choose anew, as a timer interrupt would; in Xen, when it leaves Xen."""
        pcpu.tickled = True
        if pcpu.current is None or not pcpu.current.in_xen:
            self._schedule(pcpu)

    def yank(self, vcpu: "VirtualCpu") -> None:
        """Take the pCPU away from a running vCPU for no good reason; it comes back in its turn."""
        pcpu = vcpu.pcpu
        if pcpu.current is vcpu and not vcpu.in_xen:
            self._account(pcpu)
            self._switch(pcpu, vcpu, pcpu.queue.pop(0) if pcpu.queue else None)

    def _enqueue(self, vcpu: "VirtualCpu") -> Pcpu:
        pcpu = self._choose_pcpu(vcpu)
        place = next(
            (at for at, other in enumerate(pcpu.queue) if other.priority > vcpu.priority),
            len(pcpu.queue),
        )
        pcpu.queue.insert(place, vcpu)
        return pcpu

    def _choose_pcpu(self, vcpu: "VirtualCpu") -> Pcpu:
        """Stay where the cache is warm if that is idle, else take any idle one allowed."""
        allowed = [self.pcpus[number] for number in vcpu.affinity]
        idle = [pcpu for pcpu in allowed if pcpu.current is None and not pcpu.queue]
        if vcpu.pcpu in idle or not idle:
            return vcpu.pcpu if vcpu.pcpu in allowed else allowed[0]
        return idle[0]

    def _tickle(self, pcpu: Pcpu) -> None:
        first = pcpu.queue[0]
        delay = self._costs.draw_wake()
        if pcpu.current is not None:
            self._end_boost(pcpu, pcpu.current)
            if first.priority >= pcpu.current.priority:
                self._watch_slice(pcpu)
                return
            delay = max(delay, pcpu.since + self._ratelimit - self._engine.now)
        self._engine.after(delay, self.preempt, pcpu)

    def _end_boost(self, pcpu: Pcpu, vcpu: "VirtualCpu") -> None:
        """Take the boost from a vCPU that has run for a tick."""
        if self._engine.now - pcpu.since >= self._tick:
            vcpu.priority = Priority.UNDER if vcpu.credit > 0 else Priority.OVER

    def _slice_ends(self, pcpu: Pcpu, end: int) -> None:
        current = pcpu.current
        if pcpu.slice_end == end and current is not None:
            current.priority = Priority.UNDER if current.credit > 0 else Priority.OVER
            self.preempt(pcpu)

    def _schedule(self, pcpu: Pcpu) -> None:
        """Choose who runs next on a pCPU and switch to it. schedule."""
        pcpu.tickled = False
        self._account(pcpu)
        previous = pcpu.current
        stays = previous is not None and not previous.waits
        chosen = pcpu.queue[0] if pcpu.queue else None
        if previous is not None and stays:
            its_turn = self._engine.now >= pcpu.slice_end
            limit = previous.priority if its_turn else previous.priority - 1
            if chosen is None or chosen.priority > limit:
                self._go_on(pcpu, previous)
                return
        elif chosen is None and previous is None:
            return
        if chosen is not None:
            pcpu.queue.pop(0)
        self._switch(pcpu, previous, chosen)

    def _go_on(self, pcpu: Pcpu, vcpu: "VirtualCpu") -> None:
        self._stock.goes_on(pcpu, vcpu, self._engine.now - pcpu.since, self._slice)
        self._start_slice(pcpu)

    def _switch(
        self, pcpu: Pcpu, previous: "VirtualCpu | None", chosen: "VirtualCpu | None"
    ) -> None:
        now = self._engine.now
        waited = now - chosen.state_since if chosen else 0
        if previous is not None:
            previous.leave_cpu()
        self._stock.switch(pcpu, previous, chosen, now - pcpu.since, waited, self._slice)
        if previous is not None:
            state = Runstate.BLOCKED if previous.waits else Runstate.RUNNABLE
            self._change(pcpu, previous, state)
        else:
            self._stock.idle(pcpu, Runstate.RUNNING, Runstate.RUNNABLE)
        pcpu.current, pcpu.since = chosen, now
        if previous is not None and not previous.waits:
            previous.priority = Priority.UNDER if previous.credit > 0 else Priority.OVER
            self._tickle_if_idle(self._enqueue(previous))
        if chosen is None:
            self._stock.idle(pcpu, Runstate.RUNNABLE, Runstate.RUNNING)
            return
        chosen.pcpu = pcpu
        self._change(pcpu, chosen, Runstate.RUNNING)
        self._start_slice(pcpu)
        chosen.enter_cpu()

    def _tickle_if_idle(self, pcpu: Pcpu) -> None:
        if pcpu.current is None:
            self._engine.after(self._costs.draw_wake(), self.preempt, pcpu)

    def _start_slice(self, pcpu: Pcpu) -> None:
        pcpu.slice_end = self._engine.now + self._slice
        if pcpu.queue:
            self._watch_slice(pcpu)

    def _watch_slice(self, pcpu: Pcpu) -> None:
        """Have the slice end: somebody waits for it."""
        end = max(pcpu.slice_end, self._engine.now + 1)
        self._engine.at(end, self._slice_ends, pcpu, pcpu.slice_end)

    def _account(self, pcpu: Pcpu) -> None:
        """Burn the credit of who ran; give out new credit every 30 ms."""
        now = self._engine.now
        if pcpu.current is not None:
            pcpu.current.credit -= now - max(pcpu.since, self._accounted)
        if now - self._accounted >= self._slice:
            self._accounted = now
            for vcpu in self._vcpus:
                vcpu.credit = self._slice

    def _change(self, pcpu: Pcpu, vcpu: "VirtualCpu", state: Runstate) -> None:
        self._stock.runstate(pcpu, vcpu, vcpu.runstate, state)
        vcpu.runstate = state
        vcpu.state_since = self._engine.now
        vcpu.waits = vcpu.waits and state is Runstate.BLOCKED
