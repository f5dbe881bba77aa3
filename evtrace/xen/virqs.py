"""VIRQs: which kinds there are, and who is told when one fires."""

from enum import Enum, auto, unique
from typing import TYPE_CHECKING, Final

from evtrace.xen.abi import NR_VIRQS, Errno, HypercallError, Virq

if TYPE_CHECKING:
    from evtrace.xen.domain import Domain
    from evtrace.xen.machine import Machine
    from evtrace.xen.profiles import Profile

HARDWARE_DOMAIN: Final = 0
"""Handles every global VIRQ that was not handed to another domain."""


@unique
class VirqClass(Enum):
    """What a VIRQ is raised for (get_virq_type)."""

    VCPU = auto()
    DOMAIN = auto()
    GLOBAL = auto()


_PER_VCPU = frozenset({Virq.TIMER, Virq.DEBUG, Virq.XENOPROF})


def classify_virq(virq: int, profile: "Profile") -> VirqClass:
    """Tell whether a VIRQ is raised for one vCPU, for one domain, or for the handling domain."""
    if virq in _PER_VCPU or (virq == Virq.XENPMU and profile.pmu_virq_per_vcpu):
        return VirqClass.VCPU
    if virq == Virq.ARGO and profile.argo_virq_per_domain:
        return VirqClass.DOMAIN
    return VirqClass.GLOBAL


def check_virq_class(virq: int, profile: "Profile", *allowed: VirqClass) -> None:
    """Refuse a VIRQ that does not exist or is not of the `allowed` classes."""
    if virq >= NR_VIRQS or classify_virq(virq, profile) not in allowed:
        raise HypercallError(Errno.EINVAL)


def find_handler(machine: "Machine", virq: int) -> int:
    """Name the domain that a global VIRQ goes to. get_global_virq_handler."""
    return machine.virq_handlers.get(virq, HARDWARE_DOMAIN)


def hand_over(machine: "Machine", virq: int, domain: "Domain") -> None:
    """Let `domain` handle a global VIRQ from now on. set_global_virq_handler."""
    profile = machine.profile
    check_virq_class(virq, profile, VirqClass.GLOBAL)
    if domain.dying and profile.virq_handover_refuses_dying:
        raise HypercallError(Errno.EINVAL)
    present = machine.domains.get(find_handler(machine, virq))
    if present is domain:
        return
    is_bound = present is not None and virq in present.vcpus[0].virqs
    if is_bound and profile.virq_handover_spares_bound:
        raise HypercallError(Errno.EBUSY)
    machine.virq_handlers[virq] = domain.domid


def raise_on_vcpu(domain: "Domain", vcpu_id: int, virq: int) -> None:
    """Raise a per-vCPU VIRQ where it is bound. send_guest_vcpu_virq."""
    number = domain.vcpus[vcpu_id].virqs.get(virq)
    if number is not None:
        domain.set_pending(domain.ports[number], vcpu_id)


def raise_on_domain(domain: "Domain", virq: int) -> None:
    """Raise a VIRQ on the vCPU that its port is bound to, if any. send_guest_domain_virq."""
    number = domain.vcpus[0].virqs.get(virq)
    if number is not None:
        port = domain.ports[number]
        domain.set_pending(port, port.notify_vcpu)
