"""Findings: a closed set of codes, each with its severity; docs/doctor.md explains them."""

from dataclasses import dataclass
from enum import StrEnum, unique

from evtrace.verdicts import Severity


@unique
class Code(StrEnum):
    """What was found; numbers are never used twice."""

    UNLINKED = "EVT101"
    UNSELECTED = "EVT102"
    HELD_MASKED = "EVT103"
    NOT_TAKEN = "EVT104"
    PENDING_UNTOLD = "EVT105"
    POLLING = "EVT106"
    KICKED_POLLER = "EVT107"
    NO_EVENT_WORD = "EVT108"
    MASKED_IPIS = "EVT109"
    WAITS_FOR_NOBODY = "EVT111"
    PEER_DOMAIN_GONE = "EVT112"
    PEER_PORT_CLOSED = "EVT113"
    PEER_UNCONNECTED = "EVT114"
    PEER_ELSEWHERE = "EVT115"
    PEER_CLOSED = "EVT116"
    DUPLICATE_VIRQ = "EVT121"
    NO_SUCH_VCPU = "EVT122"
    SOURCES_DISAGREE = "EVT131"
    UNSETTLED = "EVT141"
    KICK_IPI = "EVT151"
    DIAGNOSTIC_VIRQ = "EVT152"
    STALE_LINK = "EVT153"
    XEN_CONSUMER = "EVT154"
    WAITING = "EVT155"
    ALIVE = "EVT156"


@unique
class Trouble(StrEnum):
    """The kind of trouble that a code stands for."""

    STUCK = "stuck"
    HALF_OPEN = "half-open"
    ODD = "odd"


def trouble_of(code: Code) -> Trouble:
    """Tell stuck ports from half-open ones by the code's tens."""
    tens = int(code.value[-2])
    return {0: Trouble.STUCK, 1: Trouble.HALF_OPEN}.get(tens, Trouble.ODD)


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: a port or a vCPU, why it is listed, and what to look at next."""

    severity: Severity
    code: Code
    where: str
    """The channel as d0:33, or the vCPU as d0v2."""
    reason: str
    look: str = ""
    """Empty where there is nothing to do."""
    peer: str | None = None
    """The other end as d1:8, where there is one."""

    @property
    def is_trouble(self) -> bool:
        """Severe enough for exit code 1."""
        return self.severity.is_trouble
