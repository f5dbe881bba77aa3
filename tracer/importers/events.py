"""Events of a guest's kernel, as its text tells them."""

from dataclasses import dataclass, field

from evtrace.timeline import Kind, RecordClass
from evtrace.tracer.importers.calls import CallPairs, ProbedCall
from evtrace.tracer.importers.dispatch import Dispatch
from evtrace.tracer.importers.ftrace import FtraceText
from evtrace.tracer.importers.irqs import IrqMap

_NOTHING = RecordClass(0)


@dataclass(slots=True)
class GuestEvent:
    """One event of a domain, in its own TSC."""

    tsc: int
    vcpu: int
    kind: Kind
    port: int | None = None
    irq: int | None = None
    words: tuple[int, ...] = ()
    """Words that are neither port nor irq."""
    call: ProbedCall | None = None
    dispatch: Dispatch | None = None
    """The event being handled, which tells the port if nothing else does."""


@dataclass(slots=True)
class GuestTrace:
    """Everything one domain's text tells."""

    text: FtraceText
    events: list[GuestEvent] = field(default_factory=list)
    calls: CallPairs = field(default_factory=CallPairs)
    irqs: IrqMap = field(default_factory=IrqMap)
    classes: RecordClass = _NOTHING
    fifo: bool | None = None
    """The form whose functions were seen."""
    is_hvm: bool | None = None
    """How upcalls reach it: by vector (HVM, PVH) or by callback (PV)."""
    other_irqs: int = 0
    """Handler entries of irqs that are no event channels."""
    listing_span: tuple[int, int] | None = None
    """First and last TSC of the time in which the channels were listed, if the text tells."""
    listing: list[GuestEvent] = field(default_factory=list)
    """What happened in that time; it is not among `events`."""

    @property
    def vcpus(self) -> int:
        """Number of vCPUs that the text shows."""
        return max((line.cpu for line in self.text.lines), default=-1) + 1

    @property
    def runs(self) -> int:
        """Number of handler runs."""
        return sum(event.kind is Kind.HANDLER_ENTER for event in self.events)
