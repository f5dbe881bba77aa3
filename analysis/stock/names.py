"""Names of what a stock capture shows: vCPUs, hypercalls, and what woke somebody."""

from evtrace.tracefile.lines import IDLE_DOMAIN
from evtrace.xen.abi import HYPERCALL_NAMES

IDLE = "idle"
XEN = "xen"
NOT_KNOWN = "not known"
"""Where records were lost, or before the first one."""

VM_EXIT = 0x10000
"""In `by`: a VM exit; the low half is its reason."""


def vcpu_name(vcpu: int | None) -> str:
    """Name a vCPU packed as in runstate records (domain in the high half)."""
    if vcpu is None:
        return NOT_KNOWN
    dom, number = divmod(vcpu, 1 << 16)
    return IDLE if dom == IDLE_DOMAIN else f"d{dom}v{number}"


def is_idle(vcpu: int) -> bool:
    """Tell whether a packed vCPU is one of Xen's idle ones."""
    return vcpu >> 16 == IDLE_DOMAIN


def hypercall_name(number: int | None) -> str:
    """Name a hypercall by its number."""
    return "-" if number is None else HYPERCALL_NAMES.get(number, str(number))


def means_name(by: int | None) -> str:
    """Name by what means somebody was woken: a hypercall's number, or a VM exit with its reason."""
    if by is None:
        return "nothing visible"
    return f"VM exit {by - VM_EXIT:#x}" if by >= VM_EXIT else hypercall_name(by)
