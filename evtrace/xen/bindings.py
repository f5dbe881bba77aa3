"""Operations that tie ports to VIRQs, PIRQs and vCPUs, and those of the FIFO form.

Shape and rules are those of `channels`.
"""

from typing import TYPE_CHECKING

from evtrace.xen.abi import (
    BIND_PIRQ_WILL_SHARE,
    FIFO_LINK_BITS,
    NR_VIRQS,
    Errno,
    HypercallError,
    PortState,
)
from evtrace.xen.channels import Outputs
from evtrace.xen.fifo import Fifo, check_control_block_offset
from evtrace.xen.virqs import VirqClass, classify_virq, find_handler

if TYPE_CHECKING:
    from evtrace.xen.domain import Domain
    from evtrace.xen.machine import Machine
    from evtrace.xen.vcpu import Vcpu


def _existing_vcpu(domain: "Domain", vcpu_id: int) -> "Vcpu":
    if vcpu_id >= len(domain.vcpus):
        raise HypercallError(Errno.ENOENT)
    return domain.vcpus[vcpu_id]


def bind_virq(machine: "Machine", vcpu: "Vcpu", virq: int, vcpu_id: int) -> Outputs:
    """Have a VIRQ raised on a new port. evtchn_bind_virq.

    Only a per-vCPU VIRQ may name a vCPU other than 0, and that is checked before the vCPU exists.
    """
    domain = vcpu.domain
    if virq >= NR_VIRQS:
        raise HypercallError(Errno.EINVAL)
    kind = classify_virq(virq, machine.profile)
    if kind != VirqClass.VCPU and vcpu_id != 0:
        raise HypercallError(Errno.EINVAL)
    target = _existing_vcpu(domain, vcpu_id)
    if (
        kind == VirqClass.GLOBAL
        and machine.profile.bind_virq_needs_handler
        and find_handler(machine, virq) != domain.domid
    ):
        raise HypercallError(Errno.EBUSY)
    if virq in target.virqs:
        raise HypercallError(Errno.EEXIST)
    port = domain.allocate_port()
    port.state = PortState.VIRQ
    port.notify_vcpu = vcpu_id
    port.virq = virq
    domain.form.init_port(port)
    target.virqs[virq] = port.number
    return (port.number,)


def bind_ipi(machine: "Machine", vcpu: "Vcpu", vcpu_id: int) -> Outputs:
    """Open a port by which the domain interrupts one of its own vCPUs. evtchn_bind_ipi."""
    del machine
    domain = vcpu.domain
    _existing_vcpu(domain, vcpu_id)
    port = domain.allocate_port()
    port.state = PortState.IPI
    port.notify_vcpu = vcpu_id
    domain.form.init_port(port)
    return (port.number,)


def bind_pirq(machine: "Machine", vcpu: "Vcpu", pirq: int, flags: int) -> Outputs:
    """Have a physical interrupt raised on a new port. evtchn_bind_pirq.

    An HVM guest needs no access right, and takes no interrupt from its other owners.
    """
    domain = vcpu.domain
    limits = domain.limits
    if pirq >= limits.nr_pirqs:
        raise HypercallError(Errno.EINVAL)
    if not domain.is_hvm and limits.pirqs is not None and pirq not in limits.pirqs:
        raise HypercallError(Errno.EPERM)
    if pirq in domain.pirq_ports:
        raise HypercallError(machine.profile.bind_pirq_again_errno)
    port = domain.allocate_port()
    if not domain.is_hvm:
        machine.pirqs.bind(pirq, domain.domid, will_share=bool(flags & BIND_PIRQ_WILL_SHARE))
    port.state = PortState.PIRQ
    port.pirq = pirq
    domain.pirq_ports[pirq] = port.number
    domain.form.init_port(port)
    return (port.number,)


def bind_vcpu(machine: "Machine", vcpu: "Vcpu", number: int, vcpu_id: int) -> Outputs:
    """Send the next events of a port to another vCPU; one that is pending stays where it is.

    IPIs and per-vCPU VIRQs cannot move. evtchn_bind_vcpu
    """
    domain = vcpu.domain
    target = _existing_vcpu(domain, vcpu_id)
    port = domain.table.existing(number)
    if port.xen_consumer:
        raise HypercallError(Errno.EINVAL)
    match port.state:
        case PortState.UNBOUND | PortState.INTERDOMAIN:
            port.notify_vcpu = vcpu_id
        case PortState.VIRQ if classify_virq(port.virq, machine.profile) != VirqClass.VCPU:
            port.notify_vcpu = vcpu_id
        case PortState.PIRQ:
            if port.notify_vcpu != vcpu_id:
                port.notify_vcpu = vcpu_id
                machine.pirqs.retarget(domain, port.pirq, vcpu_id)
        case _:
            raise HypercallError(Errno.EINVAL)
    if machine.profile.bind_vcpu_reraises and domain.form.pending(number):
        _reraise(domain, number, target)
    return ()


def _reraise(domain: "Domain", number: int, vcpu: "Vcpu") -> None:
    """Announce a pending port on its new vCPU, as QEMU does, unless it is masked."""
    if not domain.form.masked(number):
        domain.two_level.select(vcpu, number // domain.word_bits)


def init_control(machine: "Machine", vcpu: "Vcpu", gfn: int, offset: int, vcpu_id: int) -> Outputs:
    """Give a vCPU its control block; the domain's first one switches it to FIFO.

    A first one that fails leaves the 2-level form. evtchn_fifo_init_control
    """
    del machine
    domain = vcpu.domain
    target = _existing_vcpu(domain, vcpu_id)
    check_control_block_offset(offset)
    if domain.fifo:
        domain.fifo.map_control_block(target, gfn, offset)
    else:
        form = Fifo(domain)
        form.map_control_block(target, gfn, offset)
        domain.enter_fifo(form)
    return (FIFO_LINK_BITS,)


def expand_array(machine: "Machine", vcpu: "Vcpu", gfn: int) -> Outputs:
    """Append a page to the event array. evtchn_fifo_expand_array."""
    if not vcpu.domain.fifo:
        raise HypercallError(machine.profile.expand_array_errno)
    vcpu.domain.fifo.add_array_page(gfn)
    return ()


def set_priority(machine: "Machine", vcpu: "Vcpu", number: int, priority: int) -> Outputs:
    """Choose the queue of a port; one that is linked stays where it is this time.

    evtchn_set_priority
    """
    domain = vcpu.domain
    port = domain.table.existing(number)
    if not domain.fifo:
        raise HypercallError(Errno.ENOSYS)
    if not port.usable and machine.profile.set_priority_needs_usable:
        raise HypercallError(Errno.EACCES)
    domain.fifo.set_priority(port, priority)
    return ()
