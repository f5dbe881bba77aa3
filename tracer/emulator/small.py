"""Small kernels: one vCPU, the 2-level form, a table of handlers by port and no irqs.

Their habits differ (`evtrace.guest.profiles`): Zephyr masks nothing at first and does not look
again when it unmasks; Unikraft does both. Records name the port where others name an irq.
"""

from typing import TYPE_CHECKING

from evtrace.guest import bits
from evtrace.guest.unmask import unmask_memory
from evtrace.timeline import Kind
from evtrace.tracer.emulator.kernel import Kernel
from evtrace.xen.abi import EvtchnOp, Virq

if TYPE_CHECKING:
    from evtrace.guest.profiles import GuestProfile
    from evtrace.tracer.emulator.lab import Lab
    from evtrace.tracer.emulator.linux import Handler
    from evtrace.tracer.emulator.steps import Task
    from evtrace.tracer.emulator.vcpu import VirtualCpu
    from evtrace.xen.domain import Domain


class SmallKernel(Kernel):
    """A kernel with a table of handlers; what is in nobody's hands is counted as missed."""

    def __init__(self, lab: "Lab", domain: "Domain", habits: "GuestProfile") -> None:
        super().__init__(lab, domain, habits, habits.name)
        self.missed = 0
        """Events that came before their port had a handler."""
        self._handlers: dict[int, Handler] = {}

    def boot(self) -> "Task":
        """Start: mask all ports, if that is the kernel's habit, and bind the timer."""
        if self.habits.masked_at_start:
            bits.mask_all(self.domain)
        self.current.irqs_off = False
        port = yield self.demand(EvtchnOp.BIND_VIRQ, Virq.TIMER, 0)
        yield self.bind_event_channel(port, lambda _: self.timer_interrupt())

    def bind_interdomain_event_channel(
        self, remote_dom: int, remote_port: int, handler: "Handler"
    ) -> "Task":
        """Bind, then set the handler; gives the port."""
        port = yield self.demand(EvtchnOp.BIND_INTERDOMAIN, remote_dom, remote_port)
        yield self.bind_event_channel(port, handler)
        return port

    def bind_event_channel(self, port: int, handler: "Handler") -> "Task":
        """Set the handler of a port; one that is masked at first is unmasked now."""
        self._handlers[port] = handler
        if self.habits.masked_at_start:
            yield self.unmask_event_channel(port)

    def notify_evtchn(self, port: int) -> "Task":
        """EVTCHNOP_send."""
        return self.send(port)

    def mask_event_channel(self, port: int) -> "Task":
        """Mask a port."""
        self.mask(port)
        yield self.lab.costs.profile.memory

    def unmask_event_channel(self, port: int) -> "Task":
        """Unmask a port; unless the kernel looks again, what came meanwhile goes on waiting."""
        cpu, calls_xen = self.current, False
        cpu.emit(Kind.UNMASK, port)
        if self.habits.unmask_rechecks:
            calls_xen = bool(unmask_memory(cpu.model, port))
        else:
            bits.clear_mask(self.domain, port)
        yield self.lab.costs.profile.memory
        if calls_xen:
            yield self.hypercall(EvtchnOp.UNMASK, port)
        elif self.habits.unmask_rechecks and cpu.model.wants_upcall and not cpu.irqs_off:
            yield self.force_callback()

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
