"""The closed sets of what is said of runs, upcalls and sends; they are never mixed.

Cause says who provoked a handler run, Route how the event came to be delivered, WorkVerdict what
the driver found, Fate what became of a send. Three kinds of "spurious" have different judges and
are never added together: upcalls in which no handler ran (L1), runs that nobody provoked (L2), and
runs in which the driver found no work (L3).
"""

from enum import StrEnum, unique


@unique
class Cause(StrEnum):
    """Why a handler ran."""

    SEND = "SEND"
    """The peer's EVTCHNOP_send."""
    IPI = "IPI"
    """EVTCHNOP_send on the domain's own IPI port."""
    VIRQ = "VIRQ"
    """Xen raised a virtual interrupt."""
    PIRQ = "PIRQ"
    """A physical interrupt."""
    BIND_CONSERVATIVE = "BIND_CONSERVATIVE"
    """Nobody sent: bind_interdomain sets the binder's own port pending, always."""
    BIND_MERGED = "BIND_MERGED"
    """One run answers both the event set at bind and a send of the peer."""
    RETRIGGER_LOCAL = "RETRIGGER_LOCAL"
    """The guest set the pending bit itself."""
    DOUBLE_HANDLE = "DOUBLE_HANDLE"
    """A second handler for an event that another vCPU was handling already."""
    STALE_PENDING_REUSE = "STALE_PENDING_REUSE"
    """Pending was left by an earlier owner of the port."""
    PEER_CLOSE_RESIDUE = "PEER_CLOSE_RESIDUE"
    """The peer had sent and closed before the handler ran."""
    UNBIND_LAST_CALL = "UNBIND_LAST_CALL"
    """Called once more while the irq was being freed, outside any upcall."""
    UNPROVOKED = "UNPROVOKED"
    """Everything needed was captured and nothing set the port pending."""
    UNKNOWN = "UNKNOWN"
    """A record that the verdict needs was not captured; the reason says which."""


UNPROVOKED_CAUSES = frozenset(
    {
        Cause.BIND_CONSERVATIVE,
        Cause.DOUBLE_HANDLE,
        Cause.STALE_PENDING_REUSE,
        Cause.PEER_CLOSE_RESIDUE,
        Cause.RETRIGGER_LOCAL,
        Cause.UNBIND_LAST_CALL,
        Cause.UNPROVOKED,
    },
)
"""Causes of level L2: a delivery without a new provocation."""


@unique
class Route(StrEnum):
    """How an event reached its handler, or its poller, whatever its cause."""

    UNMASK_RESEND = "UNMASK_RESEND"
    """It was set while the port was masked and delivered by the unmask."""
    FIFO_OLD_QUEUE = "FIFO_OLD_QUEUE"
    """It was linked on a vCPU's queue before bind_vcpu moved the port, and delivered from there."""
    UPCALL_COALESCED = "UPCALL_COALESCED"
    """It came while its vCPU was in an upcall, which took it, too: it has none of its own."""
    POLL_WAKE = "POLL_WAKE"
    """It woke a vCPU that slept in SCHEDOP_poll: no upcall, no handler. A send has it, no run."""


@unique
class UpcallVerdict(StrEnum):
    """Why an upcall was empty: no handler ran in it (L1)."""

    EMPTY_UPCALL = "EMPTY_UPCALL"
    """Nothing was pending any more: another vCPU, an upcall before or a close had taken it."""
    PASSED_OVER = "PASSED_OVER"
    """What announced it is pending still; the guest did not handle it, or must not."""
    VCPU_INFO_REGISTER = "VCPU_INFO_REGISTER"
    """Xen makes an upcall when a vCPU's vcpu_info is registered."""
    CALLBACK_SET = "CALLBACK_SET"
    """HVM: Xen asserts the callback once when the guest sets it."""
    UNKNOWN = "UNKNOWN"
    """A record that the verdict needs was not captured; the reason says which."""


@unique
class WorkVerdict(StrEnum):
    """What the driver found (L3); only the driver can know."""

    NO_WORK = "NO_WORK"
    """The driver declared XEN_EOI_FLAG_SPURIOUS."""


@unique
class WorkCause(StrEnum):
    """Who made a run find no work, where a send is behind it; all but the split are inferred."""

    WORK_STOLEN = "WORK_STOLEN"
    """Another path of the same guest took the work first."""
    TAKEN_BY_LAST_RUN = "TAKEN_BY_LAST_RUN"
    """The run before was not done yet when it was sent, and took it, too."""
    OVER_NOTIFY = "OVER_NOTIFY"
    """The peer notified, and there was nothing to do."""
    SHARED_PORT_SPLIT = "SHARED_PORT_SPLIT"
    """Two halves of a driver share the port, and only one of them found work."""
    UNKNOWN = "UNKNOWN"
    """A record that the verdict needs was not captured; the evidence says which."""


@unique
class EoiDelay(StrEnum):
    """Why a port was unmasked only some time after its driver was done; inferred."""

    LATEEOI_DELAYED = "LATEEOI_DELAYED"
    """Too many events in a row had brought no work."""
    LOOP_DEFERRED = "LOOP_DEFERRED"
    """The upcall had lasted too long."""


@unique
class Fate(StrEnum):
    """What became of an EVTCHNOP_send."""

    DELIVERED = "DELIVERED"
    COALESCED = "COALESCED"
    """The port was pending already; one run answers several sends."""
    DROP_UNBOUND = "DROP_UNBOUND"
    """Xen accepts a send on an unbound port and drops it."""
    SEND_INVALID = "SEND_INVALID"
    """Refused with an error."""
    DROP_NO_CONTROL_BLOCK = "DROP_NO_CONTROL_BLOCK"
    """FIFO: the port's vCPU has given no control block; Xen drops its events."""
    XEN_CONSUMER = "XEN_CONSUMER"
    """The hypervisor itself took it; no guest is called."""
    CLOSED = "CLOSED"
    """The receiver closed its port before it handled the event."""
    HELD_MASKED = "HELD_MASKED"
    """Pending and masked when the capture ended."""
    HELD_NO_WORD = "HELD_NO_WORD"
    """FIFO: the guest has given no event word for the port; Xen keeps the event until it does."""
    NOT_ANNOUNCED = "NOT_ANNOUNCED"
    """Pending and unmasked, and neither selected nor on a queue: no upcall looks for it."""
    LOST = "LOST"
    """Pending and unmasked, and the target vCPU finished later upcalls without handling it."""
    PENDING_AT_END = "PENDING_AT_END"
    UNKNOWN = "UNKNOWN"


@unique
class ContributionKind(StrEnum):
    """What set a pending bit, or would have had it not been set."""

    SEND = "SEND"
    IPI = "IPI"
    BIND = "BIND"
    VIRQ = "VIRQ"
    PIRQ = "PIRQ"
    GUEST_SET = "GUEST_SET"
    BEFORE = "BEFORE"
    """Pending already when the port was first seen."""
