"""Waiting: SCHEDOP_block and SCHEDOP_poll, as far as event channels end the wait."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from evtrace.xen.abi import Errno, HypercallError
from evtrace.xen.vcpu import NO_POLL, POLL_ANY

if TYPE_CHECKING:
    from evtrace.xen.domain import Domain
    from evtrace.xen.vcpu import Vcpu

MAX_POLLED: Final = 128


def block(vcpu: "Vcpu") -> bool:
    """Let upcalls in and wait for one; tell whether the vCPU waits. vcpu_block_enable_events."""
    vcpu.domain.memory.write(vcpu.mask_address, 0)
    vcpu.blocked = not vcpu.wants_upcall
    return vcpu.blocked


def poll(vcpu: "Vcpu", ports: Sequence[int]) -> bool:
    """Wait until one of `ports` is pending, without timeout; tell whether the vCPU waits.

    With several ports, or none, any event of the domain ends the wait. do_poll
    """
    if len(ports) > MAX_POLLED:
        raise HypercallError(Errno.EINVAL)
    domain = vcpu.domain
    bit = 1 << vcpu.vcpu_id
    vcpu.blocked, vcpu.poll = False, NO_POLL
    domain.polling &= ~bit
    if vcpu.wants_upcall or any(_poll_port(domain, number) for number in ports):
        return False
    vcpu.blocked = True
    vcpu.poll = ports[0] if len(ports) == 1 else POLL_ANY
    domain.polling |= bit
    return True


def _poll_port(domain: "Domain", number: int) -> bool:
    """Tell whether a port is pending; EINVAL where it cannot be. evtchn_port_poll."""
    if domain.profile.poll_needs_usable:
        if not domain.table.existing(number).usable:
            raise HypercallError(Errno.EINVAL)
    elif number >= domain.form.limit:
        raise HypercallError(Errno.EINVAL)
    return domain.form.pending(number)
