"""The hypervisor at work: the model executes, the machine feels the effects.

`evtrace.xen` says what happens; here its effects become interrupts, wake-ups and the truth about
who provoked what.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from evtrace.timeline import Kind, Runstate
from evtrace.tracer.emulator.truth import PortAtEnd, Provocation, SentEvent, Truth
from evtrace.verdicts import ContributionKind, UpcallVerdict
from evtrace.xen.abi import EvtchnOp, PortState, Virq
from evtrace.xen.effects import Effect, EffectKind
from evtrace.xen.machine import Answer, Machine
from evtrace.xen.vcpu import NO_POLL

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab
    from evtrace.tracer.emulator.scheduler import Pcpu
    from evtrace.tracer.emulator.vcpu import VirtualCpu

Execute: TypeAlias = Callable[["VirtualCpu", EvtchnOp, tuple[int, ...]], Answer]
"""Executes an EVTCHNOP for a vCPU."""

_RESETS = frozenset({EvtchnOp.RESET, EvtchnOp.RESET_CONT})


class Hypervisor:
    """Xen: one thing happens at a time."""

    def __init__(self, lab: "Lab", machine: Machine) -> None:
        self.machine = machine
        self.truth = Truth()
        self.execute: Execute = self._execute
        """Replaced by an injected fault that answers or acts otherwise."""
        self.loses: Callable[[Effect], bool] = _loses_nothing
        """Replaced by an injected fault that loses effects."""
        self.cut_off: set[tuple[int, int]] = set()
        """Ports whose events an injected fault keeps from their handlers."""
        self.deaf: set[tuple[int, int]] = set()
        """vCPUs whose wake-up an injected fault has lost."""
        self.astray = False
        """Set by an injected fault: the send that is being executed does not reach its port."""
        self._lab = lab
        self._cpus: dict[tuple[int, int], VirtualCpu] = {}
        self._pollers: set[tuple[int, int]] = set()

    def add(self, cpu: "VirtualCpu") -> None:
        """Know a vCPU by its domain and number."""
        self._cpus[cpu.dom, cpu.number] = cpu

    def remove(self, dom: int) -> None:
        """Forget the vCPUs of a domain."""
        self._cpus = {where: cpu for where, cpu in self._cpus.items() if where[0] != dom}

    def ports_at_end(self) -> dict[tuple[int, int], PortAtEnd]:
        """Tell how every open port stands."""
        return {
            (dom, port.number): PortAtEnd(
                port.notify_vcpu,
                masked=domain.form.masked(port.number),
                has_word=domain.form.pending_bit(port.number) is not None,
                lost=(dom, port.number) in self.cut_off or self._is_deaf((dom, port.number)),
            )
            for dom, domain in self.machine.domains.items()
            for port in domain.ports
            if port.state > PortState.RESERVED
        }

    def _is_deaf(self, channel: tuple[int, int]) -> bool:
        """Tell whether a port's vCPU still sleeps because a fault has lost its wake-up."""
        dom, number = channel
        where = dom, self.machine.domains[dom].ports[number].notify_vcpu
        return where in self.deaf and self._cpus[where].runstate is Runstate.BLOCKED

    # Calls of guests

    def event_channel_op(
        self, cpu: "VirtualCpu", op: EvtchnOp, args: tuple[int, ...], entered: int
    ) -> Answer:
        """Execute EVTCHNOP `op`; `entered` is the TSC at which the guest's call began."""
        provocation = self._provoked_by(cpu, op, args, entered)
        self._before(cpu, op, args)
        answer = self.execute(cpu, op, args)
        astray, self.astray = self.astray, False
        reached = self._settle(cpu.pcpu, None if astray else provocation)
        if op == EvtchnOp.UNMASK:
            self.announce_waiting(cpu.dom, args[0])
        if provocation is None or provocation.send is None:
            return answer
        if astray:
            self.truth.lost(provocation.send)
        elif not reached:
            self.truth.unreached(provocation.send, answer.ret, self._state(cpu.dom, args[0]))
        return answer

    def _execute(self, cpu: "VirtualCpu", op: EvtchnOp, args: tuple[int, ...]) -> Answer:
        return self.machine.hypercall(cpu.dom, cpu.number, op, args)

    def _provoked_by(
        self, cpu: "VirtualCpu", op: EvtchnOp, args: tuple[int, ...], entered: int
    ) -> Provocation | None:
        """Say what kind of provocation the call's events are, if they are new ones."""
        if op == EvtchnOp.BIND_INTERDOMAIN:
            return Provocation(ContributionKind.BIND, cpu.dom, cpu.number, 0, entered)
        if op != EvtchnOp.SEND:
            return None
        port = args[0]
        is_ipi = self._state(cpu.dom, port) is PortState.IPI
        kind = ContributionKind.IPI if is_ipi else ContributionKind.SEND
        send = SentEvent(cpu.dom, cpu.number, port, entered)
        return Provocation(kind, cpu.dom, cpu.number, port, entered, send)

    def _before(self, cpu: "VirtualCpu", op: EvtchnOp, args: tuple[int, ...]) -> None:
        """Keep the truth's books on ports that the call closes."""
        if op == EvtchnOp.CLOSE and self._state(cpu.dom, args[0]) is not None:
            self.truth.closed(cpu.dom, args[0])
        elif op in _RESETS:
            self.truth.closed_all(cpu.dom)

    def announce_waiting(self, dom: int, number: int) -> None:
        """Note that an unmask has announced the event that waited, if one did."""
        domain = self.machine.domains[dom]
        port = domain.port(number)
        if port is not None and domain.form.pending(number) and not domain.form.masked(number):
            self.truth.announced(dom, port.notify_vcpu, number)

    def has_no_peer(self, dom: int, port: int) -> bool:
        """Tell whether a port waits for a peer."""
        return self._state(dom, port) is PortState.UNBOUND

    def _state(self, dom: int, number: int) -> PortState | None:
        port = self.machine.domains[dom].port(number)
        return port.state if port else None

    def block(self, cpu: "VirtualCpu") -> Answer:
        """SCHEDOP_block, or HLT."""
        answer = self.machine.sched_block(cpu.dom, cpu.number)
        cpu.irqs_off = False
        if answer.out == (1,):
            self._lab.scheduler.block(cpu)
            if cpu.ready:
                self._unblock(cpu)  # its controller gave it work while it was on its way here
        return answer

    def poll(self, cpu: "VirtualCpu", ports: Sequence[int], deadline: int | None) -> Answer:
        """SCHEDOP_poll, up to the TSC `deadline`."""
        answer = self.machine.sched_poll(cpu.dom, cpu.number, ports)
        self.truth.polls(cpu.dom, cpu.number)
        if answer.out == (1,):
            self._pollers.add((cpu.dom, cpu.number))
            cpu.poll_ends = deadline
            if deadline is not None:
                due = max(deadline, self._lab.engine.now)
                self._lab.engine.at(due, self._poll_times_out, cpu, deadline)
            self._lab.scheduler.block(cpu)
        return answer

    def _poll_times_out(self, cpu: "VirtualCpu", deadline: int) -> None:
        if cpu.poll_ends == deadline and cpu.model.poll != NO_POLL:
            self._unblock(cpu)

    def _unblock(self, cpu: "VirtualCpu") -> None:
        if cpu.runstate is Runstate.BLOCKED and (cpu.dom, cpu.number) in self._cpus:
            self.machine.unblock_vcpu(cpu.dom, cpu.number)
            self._settle(cpu.pcpu, None)

    def register_vcpu_info(self, cpu: "VirtualCpu") -> Answer:
        """VCPUOP_register_vcpu_info."""
        self.machine.register_vcpu_info(cpu.dom, cpu.number)
        self.truth.asserted(cpu.dom, cpu.number, UpcallVerdict.VCPU_INFO_REGISTER)
        self._settle(cpu.pcpu, None)
        return Answer(0)

    def set_upcall_vector(self, cpu: "VirtualCpu") -> Answer:
        """HVMOP_set_evtchn_upcall_vector: whatever is pending, the vector is injected once."""
        cpu.is_asserted = True
        self.truth.asserted(cpu.dom, cpu.number, UpcallVerdict.CALLBACK_SET)
        return Answer(0)

    def vcpu_up(self, cpu: "VirtualCpu") -> Answer:
        """VCPUOP_up."""
        if not cpu.has_run:
            self.start_vcpu(cpu)
        return Answer(0)

    def set_timer(self, cpu: "VirtualCpu", deadline: int) -> Answer:
        """VCPUOP_set_singleshot_timer."""
        now = self._lab.engine.now
        self._lab.engine.at(max(deadline, now), self.fire_timer, cpu)
        return Answer(0)

    def start_vcpu(self, cpu: "VirtualCpu") -> None:
        """Let a vCPU run that has something to do: unpaused, or woken by its controller."""
        if cpu.runstate is not Runstate.BLOCKED:
            return
        if cpu.has_run:
            self._unblock(cpu)
        else:
            cpu.has_run = True
            self._lab.scheduler.wake(cpu, cpu.pcpu)

    def destroy_domain(self, dom: int) -> None:
        """Destroy a domain; peers of its ports become unbound."""
        self.machine.destroy_domain(dom)
        self._settle(self._lab.scheduler.pcpus[0], None)

    def fire_timer(self, cpu: "VirtualCpu") -> None:
        """Let the timer of a vCPU fire, unless its domain is gone."""
        if self._cpus.get((cpu.dom, cpu.number)) is cpu:
            self.raise_virq(cpu, Virq.TIMER)

    # What comes from outside

    def raise_virq(self, cpu: "VirtualCpu", virq: int, pcpu: "Pcpu | None" = None) -> None:
        """Raise a VIRQ of one vCPU, on its pCPU unless another is given."""
        where = pcpu or cpu.pcpu
        tsc = self._lab.recorder.family(where.number, Kind.VIRQ_RAISED, cpu.dom, cpu.number, virq)
        self.machine.raise_vcpu_virq(cpu.dom, cpu.number, virq)
        kind = ContributionKind.VIRQ
        self._settle(where, Provocation(kind, cpu.dom, cpu.number, 0, tsc))

    def raise_pirq(self, dom: int, pirq: int, pcpu: "Pcpu") -> None:
        """Let a physical interrupt arrive for a domain."""
        number = pcpu.number
        tsc = self._lab.recorder.family(number, Kind.PIRQ_RAISED, dom, 0, pirq)
        self.machine.raise_pirq(dom, pirq)
        self._settle(pcpu, Provocation(ContributionKind.PIRQ, dom, 0, 0, tsc))
        self._lab.stock.irq_handled(number, pirq, tsc)

    # Effects

    def _settle(self, pcpu: "Pcpu", provocation: Provocation | None) -> bool:
        """Let the effects of the last step happen; tell whether an event reached a guest's port."""
        reached, masked_port = False, None
        for effect in self.machine.take_effects():
            kind = effect[0]
            if kind == EffectKind.SET_PENDING:
                reached = True
                masked_port = effect[3] if effect[5] else None
                self._note_event(effect, provocation)
            elif self.loses(effect):
                continue
            elif kind == EffectKind.UPCALL and effect[3]:
                self._kick(effect[1], effect[2], pcpu)
            elif kind == EffectKind.WAKE:
                self._note_wake(effect, masked_port)
                self._lab.scheduler.wake(self._cpus[effect[1], effect[2]], pcpu)
        return reached

    def _note_event(self, effect: Effect, provocation: Provocation | None) -> None:
        """Keep the truth's books on an event that reached a guest's port."""
        _, dom, vcpu, port, was, masked = effect
        fifo = self.machine.domains[dom].fifo
        if fifo is not None and fifo.drops(port, vcpu):
            if provocation is not None and provocation.send is not None:
                self.truth.dropped(provocation.send)
            return
        if provocation is not None:
            self.truth.set_pending(dom, port, provocation)
        if not masked and not (was and fifo is None):
            self.truth.announced(dom, vcpu, port)

    def _note_wake(self, effect: Effect, masked_port: int | None) -> None:
        """Keep the truth's books on a poller that a masked port wakes."""
        _, dom, vcpu = effect
        if (dom, vcpu) in self._pollers:
            self._pollers.discard((dom, vcpu))
            if masked_port is not None:
                self.truth.poll_ends(dom, vcpu, masked_port)

    def _kick(self, dom: int, vcpu: int, pcpu: "Pcpu") -> None:
        """Send the event-check IPI to a vCPU that runs elsewhere."""
        cpu = self._cpus.get((dom, vcpu))
        if cpu is None or cpu.runstate is not Runstate.RUNNING:
            return
        costs = self._lab.costs
        delay = 0 if cpu.pcpu is pcpu else costs.draw(costs.profile.event_check_ipi)
        self._lab.engine.after(delay, cpu.event_check)


def _loses_nothing(_: Effect) -> bool:
    return False
