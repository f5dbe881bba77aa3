"""Profiles: how one Xen, or one imitation of Xen, differs from Xen's HEAD.

Each quirk is named for what HEAD does (its default here); the chain of `replace` walks back in time
from there, one step for each release that changed something. Where a change arrived between two
releases that were compared (4.5 and 4.9), the release is that of Xen's change history.
"""

from dataclasses import dataclass, replace
from typing import Final

from evtrace.errors import UsageError
from evtrace.xen.abi import Errno


@dataclass(frozen=True, slots=True)
class Profile:
    """Named quirks; the defaults are Xen HEAD (4.21 and later answer alike)."""

    name: str

    bind_virq_needs_handler: bool = True
    """bind_virq of a global VIRQ by a domain that does not handle it: EBUSY, else a deaf port."""
    virq_handover_spares_bound: bool = True
    """Handing over a global VIRQ that its handler has bound: EBUSY, else that port goes deaf."""
    virq_handover_refuses_dying: bool = True
    """Handing a global VIRQ to a dying domain: EINVAL, else success."""
    argo_virq_per_domain: bool = True
    """VIRQ_ARGO is a class of its own; before, one more global VIRQ."""
    pmu_virq_per_vcpu: bool = True
    """VIRQ_XENPMU is known to be per vCPU; before, a number like any other, so global."""

    status_hides_xen_ports: bool = False
    """status of a port that the hypervisor holds: EACCES, before permission is looked at."""
    unusable_ports_left_alone: bool = True
    """Free, reserved and hypervisor ports have their bits neither set nor cleared by Xen."""
    set_priority_needs_usable: bool = True
    """set_priority of such a port: EACCES, else accepted."""
    poll_needs_usable: bool = True
    """sched_poll on such a port: EINVAL, else only ports beyond the form's limit are refused."""
    bind_interdomain_pends: bool = True
    """The binder's own port is set pending, in case the peer sent while it was unbound."""
    bind_vcpu_reraises: bool = False
    """A pending port that moves to another vCPU makes an upcall there."""

    fifo_event_needs_control_block: bool = True
    """A FIFO event for a vCPU without control block is lost; before, PENDING was set all the same.
    """
    has_fifo: bool = True
    """The FIFO form exists; else its three operations are ENOSYS."""
    expand_array_errno: Errno = Errno.EOPNOTSUPP
    """expand_array in the 2-level form."""

    reset_can_stop: bool = True
    """reset can stop half way (ERESTART, reset_cont, EBUSY, EAGAIN); before, one pass, always 0."""
    foreign_reset_needs_pause: bool = True
    """reset of another domain: EINVAL unless its controller has paused it."""
    reset_always_leaves_fifo: bool = True
    """reset ends in the 2-level form; before, only if the caller wrote DOMID_SELF."""
    kill_can_stop: bool = True
    """Killing goes from the highest port down and can stop; before, one pass from the lowest up."""
    dead_keeps_ports: bool = True
    """A dead domain's ports read as closed; before, they did not exist."""
    table_step: int = 64
    """The port table grows by so many ports."""

    vcpu_info_makes_upcall: bool = True
    """Registering a vcpu_info goes through the upcall routine; before, flags were just written."""

    own_ports_only: bool = False
    """alloc_unbound for another domain: EPERM, whoever asks."""
    close_closed_errno: Errno = Errno.EINVAL
    """close of a port that is not open."""
    bind_pirq_again_errno: Errno = Errno.EEXIST
    """bind_pirq of a PIRQ that the caller has bound."""
    bind_nobody_errno: Errno = Errno.EINVAL
    """bind_interdomain where no port waits for the caller."""
    bind_taken_errno: Errno = Errno.EINVAL
    """bind_interdomain to a port of another domain that is connected already."""
    unmask_closed_errno: Errno | None = None
    """unmask of a free or reserved port; None: success."""


HEAD: Final = Profile("HEAD")

_4_20 = replace(
    HEAD,
    name="4.20",
    bind_virq_needs_handler=False,
    virq_handover_spares_bound=False,
    virq_handover_refuses_dying=False,
    argo_virq_per_domain=False,
)
_4_18 = replace(_4_20, name="4.18", status_hides_xen_ports=True)
_4_16 = replace(_4_18, name="4.16", fifo_event_needs_control_block=False)
_4_14 = replace(
    _4_16,
    name="4.14",
    status_hides_xen_ports=False,
    unusable_ports_left_alone=False,
    set_priority_needs_usable=False,
    poll_needs_usable=False,
    reset_can_stop=False,
    kill_can_stop=False,
)
_4_12 = replace(_4_14, name="4.12", vcpu_info_makes_upcall=False)
_4_7 = replace(_4_12, name="4.7", expand_array_errno=Errno.ENOSYS)
_4_6 = replace(
    _4_7,
    name="4.6",
    foreign_reset_needs_pause=False,
    reset_always_leaves_fifo=False,
)
_4_5 = replace(
    _4_6,
    name="4.5",
    pmu_virq_per_vcpu=False,
    dead_keeps_ports=False,
    table_step=128,
)

_LAST_RELEASE_WITH: Final = (
    ((4, 5), _4_5),
    ((4, 6), _4_6),
    ((4, 7), _4_7),
    ((4, 12), _4_12),
    ((4, 14), _4_14),
    ((4, 16), _4_16),
    ((4, 18), _4_18),
    ((4, 20), _4_20),
)

QEMU: Final = replace(
    HEAD,
    name="qemu",
    bind_interdomain_pends=False,
    bind_vcpu_reraises=True,
    has_fifo=False,
    own_ports_only=True,
    close_closed_errno=Errno.ENOENT,
    bind_pirq_again_errno=Errno.EBUSY,
    bind_nobody_errno=Errno.ENOENT,
    bind_taken_errno=Errno.EBUSY,
    unmask_closed_errno=Errno.EINVAL,
)
"""QEMU's emulation of Xen under KVM (hw/i386/kvm/xen_evtchn.c): 2-level form only."""


def profile_for_version(major: int, minor: int) -> Profile:
    """Find the quirks of a Xen release; older than 4.5 is taken as 4.5.

    Maintained stable branches received the security changes of 2020, so a late 4.14 resets and
    kills like 4.15.
    """
    for release, profile in _LAST_RELEASE_WITH:
        if (major, minor) <= release:
            return replace(profile, name=f"{major}.{minor}")
    return HEAD


PROFILES: Final[dict[str, Profile]] = {
    "HEAD": HEAD,
    "4.17": profile_for_version(4, 17),
    "4.9": profile_for_version(4, 9),
    "4.5": profile_for_version(4, 5),
    "qemu": QEMU,
}
"""Profiles that are held to recorded answers or, `qemu`, to a test for each difference."""


def find_profile(name: str) -> Profile:
    """Find a profile by a name of `PROFILES` or by any release, as `4.13`; else `UsageError`."""
    for known, profile in PROFILES.items():
        if name.lower() == known.lower():
            return profile
    major, _, minor = name.partition(".")
    if major.isdecimal() and minor.isdecimal():
        return profile_for_version(int(major), int(minor))
    choice = ", ".join(PROFILES)
    message = f"no Xen profile {name!r}; give one of {choice}, or a release such as 4.13"
    raise UsageError(message)
