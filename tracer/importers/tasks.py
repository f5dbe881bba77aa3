"""Tasks: what the kernel is in the midst of on behalf of one task, or of an interrupt on top of it.

Outside the handling of an event, a line that touches the shared memory belongs to the bind or
unbind in progress, or to the operation whose port a later line of the task names.
"""

import re
from dataclasses import dataclass, field

from evtrace.timeline import Kind
from evtrace.tracer.importers.events import GuestEvent
from evtrace.tracer.importers.irqs import IrqMap

_RETURN = re.compile(r"_ret(?:urn)?$")


def is_return(function: str) -> bool:
    """Tell whether a probe is named as the return of the function it is on."""
    return _RETURN.search(function) is not None


@dataclass(slots=True)
class Bind:
    """A binding function that has not returned."""

    function: str
    tsc: int
    port: int | None


@dataclass(slots=True)
class TaskContext:
    """One task's binds, unbinds, and accesses that wait for their port."""

    irqs: IrqMap
    """The domain's, which is told when an irq is given up."""
    binds: list[Bind] = field(default_factory=list)
    unbinding: tuple[int, int] | None = None
    """(irq, TSC) of an unbind that has not closed its port yet."""
    portless: list[GuestEvent] = field(default_factory=list)

    def access(self, event: GuestEvent) -> None:
        """Find the port of an access; it may be named later, or never."""
        if self.binds:
            event.port = self.binds[-1].port
        elif self.unbinding is not None:
            event.irq = self.unbinding[0]
            self.unbinding = (event.irq, event.tsc)
        elif event.kind is not Kind.CLEAR:
            self.portless.append(event)

    def name(self, port: int | None = None, irq: int | None = None) -> None:
        """Name the port, or the irq, of the accesses that wait."""
        for event in self.portless:
            event.port, event.irq = port, irq
        self.portless.clear()

    def start_bind(self, function: str, tsc: int, port: int | None) -> None:
        """Enter a function that binds."""
        self.settle_unbind()
        if self.binds and self.binds[-1].function == function:
            self.binds.pop()  # its return was lost, or is not probed
        self.binds.append(Bind(function, tsc, port))

    def end_bind(self, function: str) -> Bind | None:
        """Leave a function that binds, told by the probe on its return."""
        entered = _RETURN.sub("", function)
        while self.binds:
            bind = self.binds.pop()
            if bind.function == entered:
                return bind
        return None

    def made(self, port: int) -> None:
        """Note that a call gave the task a port; it is that of the bind in progress."""
        if self.binds and self.binds[-1].port is None:
            self.binds[-1].port = port

    def start_unbind(self, irq: int, tsc: int) -> None:
        """Enter a function that gives an irq up."""
        self.settle_unbind()
        self.binds.clear()
        self.unbinding = (irq, tsc)
        self.name(irq=irq)

    def closed(self, tsc: int) -> None:
        """Note that the task closed a port; an irq that it is giving up is no longer the port's."""
        if self.unbinding is not None:
            self.unbinding = (self.unbinding[0], tsc)
            self.settle_unbind()

    def settle_unbind(self) -> None:
        """End the time of an irq that the task gave up."""
        if self.unbinding is not None:
            self.irqs.unbind(*self.unbinding)
            self.unbinding = None
