"""Findings: what is wrong with the hypervisor, a guest or the capture, and how bad it is."""

from dataclasses import dataclass
from enum import StrEnum, unique


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
