"""How guest kernels unmask a port: the one place where an event that waited can be lost."""

from typing import TYPE_CHECKING, NamedTuple

from evtrace.guest import bits
from evtrace.xen.abi import EvtchnOp

if TYPE_CHECKING:
    from evtrace.guest.profiles import GuestProfile
    from evtrace.xen.machine import Machine
    from evtrace.xen.vcpu import Vcpu


class Unmasked(NamedTuple):
    """How a port was unmasked: by memory alone (`ret` is None) or through the hypercall."""

    ret: int | None

    @property
    def by_hypercall(self) -> bool:
        """Whether the kernel called Xen."""
        return self.ret is not None


def unmask_linux(machine: "Machine", vcpu: "Vcpu", port: int) -> Unmasked | None:
    """Unmask as Linux does, re-checking pending; None: no shared memory for the port."""
    calls = unmask_memory(vcpu, port)
    if calls is None:
        return None
    if not calls:
        return Unmasked(None)
    answer = machine.hypercall(vcpu.domain.domid, vcpu.vcpu_id, EvtchnOp.UNMASK, (port,))
    return Unmasked(answer.ret)


def unmask_memory(vcpu: "Vcpu", port: int) -> bool | None:
    """Write what Linux writes to unmask a port; tell whether it then calls Xen; None: no memory.

    2-level: on another vCPU than the port's, or on an HVM guest if the event waits, through the
    hypercall; else the kernel sets selector and upcall flag itself. FIFO: the hypercall if PENDING.
    """
    domain = vcpu.domain
    if port >= domain.form.limit or domain.form.mask_bit(port) is None:
        return None
    if domain.fifo:
        bits.clear_mask(domain, port)
        return domain.form.pending(port)
    bound = domain.table.lookup(port)
    if (bound.notify_vcpu if bound else 0) != vcpu.vcpu_id:
        return True
    bits.clear_mask(domain, port)
    if not domain.form.pending(port):
        return False
    if domain.is_hvm:
        bits.mask(domain, port)
        return True
    if not domain.memory.set_bits(vcpu.selector_address, 1 << port // domain.word_bits):
        domain.memory.write(vcpu.pending_address, 1)
    return False


def unmask(machine: "Machine", vcpu: "Vcpu", port: int, guest: "GuestProfile") -> Unmasked | None:
    """Unmask as `guest` does: re-checking like Linux, or by the mask bit alone."""
    if guest.unmask_rechecks:
        return unmask_linux(machine, vcpu, port)
    return Unmasked(None) if bits.clear_mask(vcpu.domain, port) else None
