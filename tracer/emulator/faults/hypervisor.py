"""Faults of the hypervisor: Xen as no release has it.

Each acts from the first moment on at which it can be seen; those of one event act once.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from evtrace.guest import bits
from evtrace.tracer.emulator.truth import Provocation
from evtrace.verdicts import ContributionKind
from evtrace.xen.abi import EvtchnOp, PortState
from evtrace.xen.effects import Effect, EffectKind
from evtrace.xen.machine import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from evtrace.tracer.emulator.hypervisor import Execute
    from evtrace.tracer.emulator.lab import Lab
    from evtrace.tracer.emulator.vcpu import VirtualCpu
    from evtrace.xen.domain import Domain
    from evtrace.xen.port import Port


def _replace_execute(
    lab: "Lab", op: EvtchnOp, at: float, faulty: "Callable[[VirtualCpu, tuple[int, ...]], Answer]"
) -> "Execute":
    """Let `faulty` execute `op` once the fault acts; gives what executes properly."""
    properly = lab.hypervisor.execute

    def execute(cpu: "VirtualCpu", called: EvtchnOp, args: tuple[int, ...]) -> Answer:
        if called == op and lab.has_reached(at):
            return faulty(cpu, args)
        return properly(cpu, called, args)

    lab.hypervisor.execute = execute
    return properly


def no_pending_at_bind(lab: "Lab", at: float) -> None:
    """Let bind_interdomain leave the binder's port alone."""
    machine = lab.hypervisor.machine

    def bind(cpu: "VirtualCpu", args: tuple[int, ...]) -> Answer:
        profile = machine.profile
        machine.profile = replace(profile, bind_interdomain_pends=False)
        answer = properly(cpu, EvtchnOp.BIND_INTERDOMAIN, args)
        machine.profile = profile
        return answer

    properly = _replace_execute(lab, EvtchnOp.BIND_INTERDOMAIN, at, bind)


def lost_send(lab: "Lab", at: float) -> None:
    """Lose the first send that would raise a new event."""
    acted = False

    def send(cpu: "VirtualCpu", args: tuple[int, ...]) -> Answer:
        nonlocal acted
        target = None if acted else _target(lab, cpu, args[0])
        if target is None or not _is_quiet(*target):
            return properly(cpu, EvtchnOp.SEND, args)
        acted = lab.hypervisor.astray = True
        return Answer(0)

    properly = _replace_execute(lab, EvtchnOp.SEND, at, send)


def wrong_port(lab: "Lab", at: float) -> None:
    """Let the first send that can raise an event on another port of the same domain."""
    acted = False

    def send(cpu: "VirtualCpu", args: tuple[int, ...]) -> Answer:
        nonlocal acted
        target = None if acted else _target(lab, cpu, args[0])
        other = _neighbour(*target) if target and _is_quiet(*target) else None
        if target is None or other is None:
            return properly(cpu, EvtchnOp.SEND, args)
        acted = lab.hypervisor.astray = True
        domain = target[0]
        domain.form.set_pending(other, domain.vcpus[other.notify_vcpu])
        return Answer(0)

    properly = _replace_execute(lab, EvtchnOp.SEND, at, send)


def _target(lab: "Lab", cpu: "VirtualCpu", number: int) -> "tuple[Domain, Port] | None":
    """Find the port that a send reaches."""
    domains = lab.hypervisor.machine.domains
    port = domains[cpu.dom].port(number)
    if port is None or port.state not in {PortState.INTERDOMAIN, PortState.IPI}:
        return None
    if port.state is PortState.IPI:
        return domains[cpu.dom], port
    other = domains[port.remote_dom].port(port.remote_port)
    return None if other is None else (domains[port.remote_dom], other)


def _is_quiet(domain: "Domain", port: "Port") -> bool:
    """Tell whether an event on the port would be new, and come at once."""
    form, number = domain.form, port.number
    return not (form.pending(number) or form.masked(number) or form.linked(number))


def _neighbour(domain: "Domain", port: "Port") -> "Port | None":
    """Find another port of the same vCPU that has a handler; one with a peer rather."""
    able = [
        other
        for other in domain.ports
        if other is not port
        and other.state > PortState.UNBOUND
        and other.notify_vcpu == port.notify_vcpu
        and _is_quiet(domain, other)
    ]
    able.sort(key=lambda other: other.state is not PortState.INTERDOMAIN)
    return able[0] if able else None


def lost_upcall(lab: "Lab", at: float) -> None:
    """Mark the events of one blocked vCPU pending, and do not wake it."""
    hypervisor = lab.hypervisor
    acted = False

    def loses(effect: Effect) -> bool:
        nonlocal acted
        if acted or effect[0] != EffectKind.WAKE or not lab.has_reached(at):
            return False
        dom, vcpu = effect[1:3]
        if hypervisor.machine.domains[dom].vcpus[vcpu].upcall_pending:
            acted = True
            hypervisor.deaf.add((dom, vcpu))
        return acted  # a poll that ends is no upcall

    hypervisor.loses = loses


def pending_kept_over_close(lab: "Lab", at: float) -> None:
    """Let close leave the pending bit set."""
    hypervisor = lab.hypervisor

    def close(cpu: "VirtualCpu", args: tuple[int, ...]) -> Answer:
        domain, number = hypervisor.machine.domains[cpu.dom], args[0]
        was_pending = domain.form.pending(number)
        answer = properly(cpu, EvtchnOp.CLOSE, args)
        if was_pending and answer.ret == 0:
            bits.set_pending(domain, number)
            kind = ContributionKind.BEFORE
            left = Provocation(kind, cpu.dom, cpu.number, number, lab.engine.now)
            hypervisor.truth.set_pending(cpu.dom, number, left)
        return answer

    properly = _replace_execute(lab, EvtchnOp.CLOSE, at, close)


def unmask_without_reraise(lab: "Lab", at: float) -> None:
    """Let the first unmask of a port with an event clear the mask and nothing else."""
    hypervisor = lab.hypervisor
    acted = False

    def unmask(cpu: "VirtualCpu", args: tuple[int, ...]) -> Answer:
        nonlocal acted
        domain, number = hypervisor.machine.domains[cpu.dom], args[0]
        if acted or not domain.form.pending(number):
            return properly(cpu, EvtchnOp.UNMASK, args)
        acted = True
        bits.clear_mask(domain, number)
        hypervisor.cut_off.add((cpu.dom, number))
        return Answer(0)

    properly = _replace_execute(lab, EvtchnOp.UNMASK, at, unmask)
