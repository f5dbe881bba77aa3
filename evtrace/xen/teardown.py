"""Closing all ports of a domain: EVTCHNOP_reset, and death.

Both may take long, so recent versions stop half way where other work waits, and are called again.
"""

from typing import TYPE_CHECKING, Final

from evtrace.xen.abi import DOMID_SELF, Errno, EvtchnOp, HypercallError, PortState
from evtrace.xen.channels import Outputs, check_may_act_on, close_port
from evtrace.xen.domain import Dying
from evtrace.xen.effects import EffectKind

if TYPE_CHECKING:
    from evtrace.xen.domain import Domain
    from evtrace.xen.machine import Machine
    from evtrace.xen.port import Port
    from evtrace.xen.vcpu import Vcpu

CHECK_INTERVAL: Final = 64
"""Xen asks for other work at ports that are multiples of this."""


def reset(machine: "Machine", vcpu: "Vcpu", dom: int) -> Outputs:
    """Close all ports of a domain from port 1 up and go back to the 2-level form. evtchn_reset.

    Where it stops: ERESTART, and Xen re-issues it as reset_cont. A second reset meanwhile: EBUSY.
    If a port was opened meanwhile: EAGAIN, and the form stays.
    """
    domain = _find_resettable(machine, vcpu.domain, dom)
    if not machine.profile.reset_can_stop:
        _reset_in_one_pass(machine, domain, dom)
    elif domain.next_reset:
        raise HypercallError(Errno.EBUSY)
    else:
        _reset_from(machine, domain, 1)
    return ()


def reset_cont(machine: "Machine", vcpu: "Vcpu", dom: int) -> Outputs:
    """Go on with a reset that stopped half way; EBUSY if there is none. evtchn_reset."""
    domain = _find_resettable(machine, vcpu.domain, dom)
    if not domain.next_reset:
        raise HypercallError(Errno.EBUSY)
    _reset_from(machine, domain, domain.next_reset)
    return ()


def _find_resettable(machine: "Machine", caller: "Domain", dom: int) -> "Domain":
    domain = machine.find_domain(dom, caller)
    check_may_act_on(caller, domain)
    needs_pause = domain is not caller and machine.profile.foreign_reset_needs_pause
    if needs_pause and not domain.pause_count:
        raise HypercallError(Errno.EINVAL)
    return domain


def _reset_in_one_pass(machine: "Machine", domain: "Domain", dom: int) -> None:
    """Reset as before 4.15: nothing can come in between."""
    for port in domain.ports:
        if port.usable:
            close_port(machine, domain, port)
    if domain.fifo and (machine.profile.reset_always_leaves_fifo or dom == DOMID_SELF):
        domain.leave_fifo()


def _reset_from(machine: "Machine", domain: "Domain", first: int) -> None:
    """Close what the guest may close, port by port; a port where it stopped is visited again."""
    domain.next_reset = first
    for port in domain.ports[first:]:
        if port.usable:
            close_port(machine, domain, port)
        if port.number % CHECK_INTERVAL == 0 and machine.work_waits:
            domain.next_reset = port.number
            machine.effects.append((EffectKind.CONTINUATION, EvtchnOp.RESET_CONT))
            raise HypercallError(Errno.ERESTART)
    domain.next_reset = 0
    if any(port.usable for port in domain.ports):
        raise HypercallError(Errno.EAGAIN)
    if domain.fifo:
        domain.leave_fifo()


def kill(machine: "Machine", domain: "Domain") -> None:
    """Close all ports of a domain, the hypervisor's too; it can still be named. evtchn_destroy.

    Where it stops: ERESTART, and the caller is to try again.
    """
    domain.dying = max(domain.dying, Dying.DYING)
    if machine.profile.kill_can_stop:
        _close_downwards(machine, domain)
    else:
        for port in domain.ports:
            _close_if_open(machine, domain, port)
    for virq in [v for v, domid in machine.virq_handlers.items() if domid == domain.domid]:
        del machine.virq_handlers[virq]
    if domain.fifo:
        domain.leave_fifo()
    if not machine.profile.dead_keeps_ports:
        domain.ports.clear()
    domain.dying = Dying.DEAD


def _close_downwards(machine: "Machine", domain: "Domain") -> None:
    """Close the highest port first; where it stops, the table ends from now on."""
    for port in reversed(domain.ports[1:]):
        _close_if_open(machine, domain, port)
        at_check_point = port.number % CHECK_INTERVAL == 0 and domain.dying != Dying.DEAD
        if at_check_point and machine.work_waits:
            del domain.ports[port.number :]
            raise HypercallError(Errno.ERESTART)


def _close_if_open(machine: "Machine", domain: "Domain", port: "Port") -> None:
    if port.state > PortState.RESERVED:
        close_port(machine, domain, port)
