"""Operations that open, use and close channels: one function for each EVTCHNOP.

Each takes the machine, the calling vCPU and the arguments in the order of their struct; it returns
the outputs, or raises `HypercallError`. The order of checks decides which errno wins.
"""

from typing import TYPE_CHECKING, TypeAlias

from evtrace.xen.abi import (
    DOMID_SELF,
    Errno,
    HypercallError,
    PortState,
    PortStatus,
)
from evtrace.xen.effects import EffectKind

if TYPE_CHECKING:
    from evtrace.xen.domain import Domain
    from evtrace.xen.machine import Machine
    from evtrace.xen.port import Port
    from evtrace.xen.vcpu import Vcpu

Outputs: TypeAlias = tuple[int, ...]

_FREE = PortState.FREE
_RESERVED = PortState.RESERVED
_UNBOUND = PortState.UNBOUND
_INTERDOMAIN = PortState.INTERDOMAIN
_IPI = PortState.IPI


def check_may_act_on(caller: "Domain", target: "Domain") -> None:
    """Let a domain act on itself; on another, if privileged or its device model. XSM_TARGET."""
    if target is caller or caller.is_privileged or caller.limits.target == target.domid:
        return
    raise HypercallError(Errno.EPERM)


def alloc_unbound(machine: "Machine", vcpu: "Vcpu", dom: int, remote_dom: int) -> Outputs:
    """Open a port in `dom` that `remote_dom` may bind. evtchn_alloc_unbound.

    DOMID_SELF as `remote_dom` means the caller, not the owner. That `remote_dom` exists is not
    asked.
    """
    caller = vcpu.domain
    if machine.profile.own_ports_only and dom not in (DOMID_SELF, caller.domid):
        raise HypercallError(Errno.EPERM)
    owner = machine.find_domain(dom, caller)
    port = owner.allocate_port()
    check_may_act_on(caller, owner)
    port.state = _UNBOUND
    port.remote_dom = caller.domid if remote_dom == DOMID_SELF else remote_dom
    owner.form.init_port(port)
    return (port.number,)


def bind_interdomain(
    machine: "Machine", vcpu: "Vcpu", remote_dom: int, remote_port: int
) -> Outputs:
    """Connect a new port of the caller to an unbound one meant for it. evtchn_bind_interdomain.

    The new port is set pending at once: the peer may have sent while it was unbound, and such
    events are dropped. The peer's port is not touched.
    """
    caller = vcpu.domain
    remote = machine.find_domain(remote_dom, caller)
    local = caller.allocate_port()
    peer = _waiting_port(machine, caller, remote, remote_port)
    local.state = peer.state = _INTERDOMAIN
    local.remote_dom, local.remote_port = remote.domid, remote_port
    peer.remote_dom, peer.remote_port = caller.domid, local.number
    caller.form.init_port(local)
    if machine.profile.bind_interdomain_pends:
        caller.set_pending(local, local.notify_vcpu)
    return (local.number,)


def _waiting_port(machine: "Machine", caller: "Domain", remote: "Domain", number: int) -> "Port":
    """Find the unbound port that waits for the caller."""
    peer = remote.table.lookup(number)
    if peer is not None and peer.state == _UNBOUND and peer.remote_dom == caller.domid:
        return peer
    if remote is caller or number == 0:
        raise HypercallError(Errno.EINVAL)
    if peer is None or peer.state in (_FREE, _UNBOUND):
        raise HypercallError(machine.profile.bind_nobody_errno)
    raise HypercallError(machine.profile.bind_taken_errno)


def send(machine: "Machine", vcpu: "Vcpu", number: int) -> Outputs:
    """Raise an event at the other end. evtchn_send.

    On an unbound port it is dropped without a word. If the hypervisor holds the other end, it is
    told and no guest is.
    """
    domain = vcpu.domain
    port = domain.table.existing(number)
    state = port.state
    if port.xen_consumer:
        raise HypercallError(Errno.EINVAL)
    if state == _INTERDOMAIN:
        peer = find_peer(machine, domain, port)
        if peer is not None:
            notify(machine.domains[port.remote_dom], peer)
    elif state == _IPI:
        domain.set_pending(port, port.notify_vcpu)
    elif state != _UNBOUND:
        raise HypercallError(Errno.EINVAL)
    return ()


def notify(domain: "Domain", port: "Port") -> None:
    """Deliver to a port of `domain`, or to the hypervisor if that holds it."""
    if port.xen_consumer:
        domain.effects.append((EffectKind.XEN_NOTIFY, domain.domid, port.notify_vcpu, port.number))
    else:
        domain.set_pending(port, port.notify_vcpu)


def find_peer(machine: "Machine", domain: "Domain", port: "Port") -> "Port | None":
    """Find the other end of an interdomain port.

    None only if a seeded port names a peer that was not seeded, too.
    """
    remote = machine.domains.get(port.remote_dom)
    peer = remote.table.lookup(port.remote_port) if remote else None
    if (
        peer is not None
        and peer.state == _INTERDOMAIN
        and peer.remote_port == port.number
        and peer.remote_dom == domain.domid
    ):
        return peer
    return None


def close_port(machine: "Machine", domain: "Domain", port: "Port") -> None:
    """Free an open port; a peer becomes unbound, for this domain, its bits untouched."""
    if port.state == _INTERDOMAIN:
        peer = find_peer(machine, domain, port)
        if peer is not None:
            # Its remote_dom stays: this domain may bind again.
            peer.state = _UNBOUND
    elif port.state == PortState.PIRQ and not domain.is_hvm:
        machine.pirqs.unbind(port.pirq, domain.domid)
    domain.free_port(port)


def close(machine: "Machine", vcpu: "Vcpu", number: int) -> Outputs:
    """Close a port of the caller; a peer becomes unbound. evtchn_close."""
    port = vcpu.domain.table.existing(number)
    if port.state == _FREE:
        raise HypercallError(machine.profile.close_closed_errno)
    if port.state == _RESERVED or port.xen_consumer:
        raise HypercallError(Errno.EINVAL)
    close_port(machine, vcpu.domain, port)
    return ()


def unmask(machine: "Machine", vcpu: "Vcpu", number: int) -> Outputs:
    """Clear a port's mask and raise what it held back. evtchn_unmask."""
    domain = vcpu.domain
    port = domain.table.existing(number)
    if domain.is_usable(port):
        domain.form.unmask(port)
    elif port.state <= _RESERVED and machine.profile.unmask_closed_errno is not None:
        raise HypercallError(machine.profile.unmask_closed_errno)
    return ()


def status(machine: "Machine", vcpu: "Vcpu", dom: int, number: int) -> Outputs:
    """Tell what a port is: status, vCPU, then by status what `ops.STATUS_UNION` lists.

    That the port exists is checked before the right to ask. evtchn_status
    """
    domain = machine.find_domain(dom, vcpu.domain)
    port = domain.table.existing(number)
    if port.xen_consumer and machine.profile.status_hides_xen_ports:
        raise HypercallError(Errno.EACCES)
    check_may_act_on(vcpu.domain, domain)
    match port.state:
        case PortState.FREE | PortState.RESERVED:
            return PortStatus.CLOSED, port.notify_vcpu
        case PortState.UNBOUND:
            return PortStatus.UNBOUND, port.notify_vcpu, port.remote_dom
        case PortState.INTERDOMAIN:
            return PortStatus.INTERDOMAIN, port.notify_vcpu, port.remote_dom, port.remote_port
        case PortState.PIRQ:
            return PortStatus.PIRQ, port.notify_vcpu, port.pirq
        case PortState.VIRQ:
            return PortStatus.VIRQ, port.notify_vcpu, port.virq
        case PortState.IPI:
            return PortStatus.IPI, port.notify_vcpu
