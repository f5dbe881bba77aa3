"""Accounts of single events: a run, an upcall, a send, a move, a divergence, with its verdict."""

from dataclasses import dataclass, field

from evtrace.verdicts.sets import (
    Cause,
    ContributionKind,
    EoiDelay,
    Fate,
    Route,
    UpcallVerdict,
    WorkCause,
    WorkVerdict,
)


@dataclass(frozen=True, slots=True)
class Contribution:
    """One entry of a pending token; `tsc` in host cycles, `seq` of the record it stands on."""

    kind: ContributionKind
    seq: int
    tsc: int
    tsc_hi: int
    dom: int
    vcpu: int
    port: int
    """The port it went through: the sender's for a send, the port itself otherwise."""
    masked: bool = False
    inferred: str = ""
    """The rule, where no record shows it."""


@dataclass(slots=True)
class Run:
    """One run of a handler: an irq_handler_entry of a port."""

    seq: int
    dom: int
    vcpu: int
    port: int | None
    irq: int | None
    tsc: int
    tsc_hi: int
    exit_tsc: int | None = None
    upcall_tsc: int | None = None
    """Start of the upcall it ran in, where that was seen."""
    cleared_tsc: int | None = None
    """When its pending bit was cleared, where that was seen."""
    eoi_tsc: int | None = None
    """When the driver said that it was done (xen_irq_lateeoi), where that was seen."""
    unmask_tsc: int | None = None
    """When the port was unmasked next, where that was seen."""
    cause: Cause = Cause.UNKNOWN
    reason: str = ""
    routes: tuple[Route, ...] = ()
    evidence: str = "observed"
    """`observed` or `inferred(rule)`."""
    work: WorkVerdict | None = None
    work_cause: WorkCause | None = None
    work_evidence: str = ""
    """Of the work cause: `observed`, `inferred(rule)`, or why it is not known."""
    eoi_delay: EoiDelay | None = None
    eoi_delay_evidence: str = ""
    contributors: list[Contribution] = field(default_factory=list)
    excused: bool = False
    """Nobody provoked it, and that is the guest's doing, not Xen's."""


@dataclass(frozen=True, slots=True)
class EmptyUpcall:
    """An upcall in which no handler ran; `seq` of the record of its start, `tsc` in host cycles."""

    seq: int
    dom: int
    vcpu: int
    tsc: int
    exit_tsc: int
    """Its end; where that was not seen, the start of the next one."""
    verdict: UpcallVerdict
    reason: str
    evidence: str
    """`observed` or `inferred(rule)`."""


@dataclass(slots=True)
class Send:
    """One EVTCHNOP_send and its fate."""

    seq: int
    dom: int
    vcpu: int
    port: int
    to_dom: int | None
    to_port: int | None
    tsc: int
    tsc_hi: int
    rc: int | None
    fate: Fate = Fate.UNKNOWN
    reason: str = ""
    run_seq: int | None = None
    """The run that answered it."""
    entered_tsc: int | None = None
    """When the sender made the call; it takes effect at `tsc` or later."""
    polled_seq: int | None = None
    """The record in which a poller took it, and no handler ran."""
    routes: tuple[Route, ...] = ()
    """Of a send that no run answers; what a run answers has the run's."""

    @property
    def taken_seq(self) -> int | None:
        """The record that took it: the run's, or the poller's clearing."""
        return self.polled_seq if self.run_seq is None else self.run_seq


@dataclass(frozen=True, slots=True)
class Move:
    """One EVTCHNOP_bind_vcpu that Xen granted: from `tsc` on, new events of the port go there."""

    seq: int
    tsc: int
    dom: int
    port: int
    vcpu: int


@dataclass(frozen=True, slots=True)
class Divergence:
    """A place where Xen (or the guest) answered otherwise than the model."""

    seq: int
    tsc: int
    file_offset: int
    dom: int
    vcpu: int
    what: str
    """The call as text, e.g. `bind_interdomain(remote_dom=1, remote_port=8)`."""
    expected: str
    found: str
    around: list[str]
    """The records before and after it, one line each."""
