"""The verdicts: closed sets that are never mixed, and the tables that carry them.

Cause says who provoked a handler run, Route how the event came to be delivered, WorkVerdict what
the driver found, Fate what became of a send. Three kinds of "spurious" have different judges and
are never added together: upcalls in which no handler ran (L1), runs that nobody provoked (L2), and
runs in which the driver found no work (L3).
"""

from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


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


@unique
class Severity(StrEnum):
    """How bad a finding is, the worst first."""

    ERROR = "error"
    """Events are lost, or stuck: of a snapshot, in every one of several."""
    WARNING = "warning"
    """Something is done that must not be, or looks stuck in the one snapshot there is."""
    NOTICE = "notice"
    """Worth knowing; or what cannot be settled."""
    NORMAL = "normal"
    """Looks odd and is not."""

    @property
    def is_trouble(self) -> bool:
        """Severe enough for exit code 1."""
        return self in {Severity.ERROR, Severity.WARNING}


@unique
class Blame(StrEnum):
    """Whose doing a finding is."""

    HYPERVISOR = "hypervisor"
    GUEST = "guest"
    CAPTURE = "capture"
    """The machine may be in order; what was recorded of it is not."""


@unique
class FindingCode(StrEnum):
    """What is wrong; docs/faults.md says what shows it.

    Numbers are never used twice: EVT2xx is the hypervisor's doing, EVT3xx a guest's, EVT4xx the
    capture's. EVT1xx are those of `evtrace doctor`.
    """

    NO_PENDING_AT_BIND = "EVT201"
    """bind_interdomain did not set the binder's port pending."""
    LOST_SEND = "EVT202"
    """A send returned 0 and set nothing pending."""
    LOST_EVENT = "EVT203"
    """A VIRQ or PIRQ was raised and set nothing pending."""
    LOST_UPCALL = "EVT204"
    """An event was pending and its vCPU was not told."""
    NOT_DELIVERED = "EVT205"
    """The event or its upcall was lost; which one, the trace does not tell."""
    WRONG_PORT = "EVT206"
    """A send reached another port of the receiver."""
    SET_FOR_NOBODY = "EVT207"
    """A port was set pending, and nobody had sent."""
    PENDING_KEPT_OVER_CLOSE = "EVT208"
    """A close left the pending bit to the port's next owner."""
    UNMASK_WITHOUT_RERAISE = "EVT209"
    """EVTCHNOP_unmask did not raise the event that waited."""
    NOT_CLEARED = "EVT301"
    """A guest handled an event and left its pending bit set."""
    NEVER_UNMASKED = "EVT302"
    """A guest was done with a port and left it masked; an event waits."""
    WRONG_VCPU = "EVT303"
    """A guest handled a port on a vCPU that is not the port's."""
    DOUBLE_HANDLE = "EVT304"
    """A guest ran a handler twice for one event."""
    RECORDS_LOST = "EVT401"
    """Records were dropped: what rests on them is withheld."""
    CLOCKS_DISAGREE = "EVT402"
    """The TSCs of two pCPUs disagree: what rests on the order of their records is withheld."""

    @property
    def blame(self) -> Blame:
        """Whose doing it is, by the number's hundreds."""
        return _BLAMES[self.value[3]]

    @property
    def severity(self) -> Severity:
        """How bad it is: an event is lost or stuck, or a handler runs that must not."""
        if self.blame is Blame.CAPTURE:
            return Severity.NOTICE
        return Severity.WARNING if self in _NEEDLESS_RUNS else Severity.ERROR


_BLAMES = {"2": Blame.HYPERVISOR, "3": Blame.GUEST, "4": Blame.CAPTURE}

_NEEDLESS_RUNS = frozenset(
    {
        FindingCode.SET_FOR_NOBODY,
        FindingCode.PENDING_KEPT_OVER_CLOSE,
        FindingCode.WRONG_VCPU,
        FindingCode.DOUBLE_HANDLE,
    },
)
"""What makes a handler run that must not, and loses nothing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong; `seq` is the record at which it happened."""

    code: FindingCode
    seq: int
    tsc: int
    dom: int
    port: int | None
    sentence: str

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return self.code.severity

    @property
    def blame(self) -> Blame:
        """Whose doing it is."""
        return self.code.blame

    def as_json(self) -> dict[str, object]:
        """Give it as `schemas/replay.schema.json` and `schemas/report.schema.json` have it."""
        return {
            "severity": self.severity.value,
            "code": self.code.value,
            "name": self.code.name,
            "blame": self.blame.value,
            "seq": self.seq,
            "tsc": self.tsc,
            "dom": self.dom,
            "port": self.port,
            "sentence": self.sentence,
        }


def runs_schema() -> "pl.Schema":
    """Columns of the table of runs; one row a `Run`."""
    import polars as pl  # noqa: PLC0415  polars costs 0.3 s and `evtrace --help` needs none

    contribution = pl.Struct(
        {
            "kind": pl.String,
            "seq": pl.UInt64,
            "tsc": pl.Int64,
            "tsc_hi": pl.Int64,
            "dom": pl.UInt16,
            "vcpu": pl.UInt16,
            "port": pl.UInt32,
            "masked": pl.Boolean,
            "inferred": pl.String,
        },
    )
    columns: dict[str, pl.DataType | type[pl.DataType]] = {
        "seq": pl.UInt64,
        "dom": pl.UInt16,
        "vcpu": pl.UInt16,
        "port": pl.UInt32,
        "irq": pl.Int32,
        "tsc": pl.Int64,
        "tsc_hi": pl.Int64,
        "exit_tsc": pl.Int64,
        "upcall_tsc": pl.Int64,
        "cleared_tsc": pl.Int64,
        "eoi_tsc": pl.Int64,
        "unmask_tsc": pl.Int64,
        "cause": pl.String,
        "reason": pl.String,
        "routes": pl.List(pl.String),
        "evidence": pl.String,
        "work": pl.String,
        "work_cause": pl.String,
        "work_evidence": pl.String,
        "eoi_delay": pl.String,
        "eoi_delay_evidence": pl.String,
        "contributors": pl.List(contribution),
    }
    return pl.Schema(columns)


def moves_schema() -> "pl.Schema":
    """Columns of the table of moves; one row a `Move`."""
    import polars as pl  # noqa: PLC0415  polars costs 0.3 s and `evtrace --help` needs none

    numbers = {"dom": pl.UInt16, "port": pl.UInt32, "vcpu": pl.UInt32}
    return pl.Schema({"seq": pl.UInt64, "tsc": pl.Int64, **numbers})


def sends_schema() -> "pl.Schema":
    """Columns of the table of sends; one row a `Send`."""
    import polars as pl  # noqa: PLC0415  polars costs 0.3 s and `evtrace --help` needs none

    columns: dict[str, pl.DataType | type[pl.DataType]] = {
        "seq": pl.UInt64,
        "dom": pl.UInt16,
        "vcpu": pl.UInt16,
        "port": pl.UInt32,
        "to_dom": pl.UInt16,
        "to_port": pl.UInt32,
        "tsc": pl.Int64,
        "tsc_hi": pl.Int64,
        "rc": pl.Int32,
        "fate": pl.String,
        "reason": pl.String,
        "run_seq": pl.UInt64,
        "entered_tsc": pl.Int64,
        "routes": pl.List(pl.String),
    }
    return pl.Schema(columns)


def upcalls_schema() -> "pl.Schema":
    """Columns of the table of empty upcalls; one row an `EmptyUpcall`."""
    import polars as pl  # noqa: PLC0415  polars costs 0.3 s and `evtrace --help` needs none

    return pl.Schema(
        {
            "seq": pl.UInt64,
            "dom": pl.UInt16,
            "vcpu": pl.UInt16,
            "tsc": pl.Int64,
            "exit_tsc": pl.Int64,
            "verdict": pl.String,
            "reason": pl.String,
            "evidence": pl.String,
        },
    )
