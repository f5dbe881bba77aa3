"""A small kernel after Zephyr's: ports are not masked at first, unmasking does not look again.

2-level only. A port without handler has a default one, which counts the event as missed; there are
no irqs, so records name the port twice.
"""

from typing import TYPE_CHECKING

from evtrace.guest import bits
from evtrace.guest.profiles import GUESTS
from evtrace.timeline import Kind
from evtrace.tracer.emulator.kernel import Kernel
from evtrace.xen.abi import EvtchnOp, Virq

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab
    from evtrace.tracer.emulator.linux import Handler
    from evtrace.tracer.emulator.steps import Task
    from evtrace.tracer.emulator.vcpu import VirtualCpu
    from evtrace.xen.domain import Domain


class SmallKernel(Kernel):
    """One vCPU, one table of handlers by port."""

    def __init__(self, lab: "Lab", domain: "Domain", name: str = "zephyr") -> None:
        super().__init__(lab, domain, GUESTS["zephyr"], name)
        self.missed = 0
        """Events that came before their port had a handler."""
        self._handlers: dict[int, Handler] = {}

    def boot(self) -> "Task":
        """Start: bind the timer."""
        port = yield self.demand(EvtchnOp.BIND_VIRQ, Virq.TIMER, 0)
        self._handlers[port] = lambda _: self.timer_interrupt()

    def bind_interdomain_event_channel(
        self, remote_dom: int, remote_port: int, handler: "Handler"
    ) -> "Task":
        """Bind, then set the handler: the event of the bind comes in between. Gives the port."""
        port = yield self.demand(EvtchnOp.BIND_INTERDOMAIN, remote_dom, remote_port)
        self._handlers[port] = handler
        return port

    def bind_event_channel(self, port: int, handler: "Handler") -> None:
        """Set the handler of a port."""
        self._handlers[port] = handler

    def notify_evtchn(self, port: int) -> "Task":
        """EVTCHNOP_send."""
        return self.send(port)

    def mask_event_channel(self, port: int) -> "Task":
        """Mask a port."""
        self.mask(port)
        yield self.lab.costs.profile.memory

    def unmask_event_channel(self, port: int) -> "Task":
        """Clear the mask and nothing else: what came meanwhile waits for the next event."""
        bits.clear_mask(self.domain, port)
        self.current.emit(Kind.UNMASK, port)
        yield self.lab.costs.profile.memory

    def handle_port(self, cpu: "VirtualCpu", port: int) -> "Task":
        """Take the event and run its handler, or count it as missed."""
        self.clear(port)
        yield self.lab.costs.profile.memory
        handler = self._handlers.get(port, self._miss)
        yield self.run_handler(cpu, port, port, handler(port))

    def _miss(self, port: int) -> "Task":
        del port
        self.missed += 1
        yield from ()
        return False

    def reschedule(self, cpu: "VirtualCpu") -> "Task":
        """Do nothing: there is one vCPU."""
        del cpu
        yield from ()
