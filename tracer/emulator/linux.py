"""Linux as a guest: irqs on event channels, masked until requested, late EOI, affinity.

After drivers/xen/events/events_base.c. An irq's handler is a task: a generator function that takes
the irq and may return False for IRQ_NONE.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto, unique
from typing import TYPE_CHECKING, Final, TypeAlias

from evtrace.guest import bits
from evtrace.guest.profiles import LINUX
from evtrace.guest.unmask import unmask_memory
from evtrace.timeline import Kind
from evtrace.tracer.emulator.kernel import Kernel
from evtrace.tracer.emulator.steps import Task
from evtrace.verdicts import EoiDelay
from evtrace.xen.abi import DOMID_SELF, EvtchnOp, Virq

if TYPE_CHECKING:
    from evtrace.guest.profiles import GuestProfile
    from evtrace.tracer.emulator.lab import Lab
    from evtrace.tracer.emulator.vcpu import VirtualCpu
    from evtrace.xen.domain import Domain

Handler: TypeAlias = Callable[[int], Task]

HZ: Final = 250
"""Jiffies a second."""
SPURIOUS_THRESHOLD: Final = 1
"""Spurious events in a row that are not punished."""
LOOP_CHECK: Final = 256
"""Events of an upcall after which it looks how long it has lasted."""
LOOP_JIFFIES: Final = 2
"""An upcall that lasts longer puts the ends of further events off (event_loop_timeout)."""
DEFERRED_JIFFIES: Final = 10
"""By so much (event_eoi_delay)."""
EOI_SPURIOUS: Final = 1
"""XEN_EOI_FLAG_SPURIOUS."""

_RELAX_NS: Final = 1_000

TIMER_PRIORITY: Final = 0
_PER_CPU_IPIS = ("resched", "callfunc", "callfuncsingle", "irqwork")


@unique
class MaskReason(Enum):
    """Why a port is masked; it is unmasked when no reason is left (EVT_MASK_REASON_*)."""

    EXPLICIT = auto()
    TEMPORARY = auto()
    EOI_PENDING = auto()


@dataclass(slots=True)
class _EventLoop:
    """An upcall, as long as it lasts."""

    events: int = 0
    ends: int | None = None
    """TSC from which it has lasted too long."""
    defers: bool = False


@dataclass(slots=True)
class Irq:
    """An irq and the port behind it (struct irq_info)."""

    number: int
    port: int
    vcpu: int = 0
    name: str = ""
    handler: Handler | None = None
    late_eoi: bool = False
    masked_for: set[MaskReason] = field(default_factory=lambda: {MaskReason.EXPLICIT})
    is_active: bool = False
    in_progress: int = 0
    """Handlers of it that run now, by IRQD_IRQ_INPROGRESS."""
    spurious: int = 0
    """Events in a row in which the driver found no work."""
    deferred_in: _EventLoop | None = None
    """The upcall whose last events are to be ended late, if this was one of them."""


class Linux(Kernel):
    """A Linux kernel."""

    def __init__(
        self,
        lab: "Lab",
        domain: "Domain",
        habits: "GuestProfile" = LINUX,
        name: str = "linux",
        first_irq: int = 16,
    ) -> None:
        super().__init__(lab, domain, habits, name)
        self._first_irq = first_irq
        self._irqs: dict[int, Irq] = {}
        self._by_port: dict[int, Irq] = {}
        self._resched: dict[int, int] = {}  # vCPU -> irq of its reschedule IPI
        self._loops: dict[int, _EventLoop] = {}  # by vCPU
        self.clears = True
        self.unmasks = True
        self.guards_active = True
        """False: as before Linux 5.12, a port moved while handled may be handled twice."""
        self.handles_twice = False
        self.calls_on_free = False
        """CONFIG_DEBUG_SHIRQ: a handler is called once more when its irq is freed."""

    # Starting up

    def boot(self) -> Task:
        """Start: register with Xen, then bind what every vCPU has."""
        bits.mask_all(self.domain)
        self.current.irqs_off = False
        for cpu in self.cpus:
            yield self.register_vcpu_info(cpu.number)
        if self.domain.is_hvm:
            yield self.set_upcall_vector()
        yield self._set_up()

    def _set_up(self) -> Task:
        """Choose the form, bind what every vCPU has (timer, debug, IPIs)."""
        bits.mask_all(self.domain)
        for cpu in self.cpus:
            if self.habits.uses_fifo:
                yield self.enter_fifo(cpu.number)
        for cpu in self.cpus:
            yield self._boot_vcpu(cpu.number)
            if cpu is not self.current:
                yield self.bring_up(cpu.number)

    def _boot_vcpu(self, vcpu: int) -> Task:
        timer = yield self.bind_virq_to_irqhandler(Virq.TIMER, vcpu, self._timer, f"timer{vcpu}")
        if self.domain.fifo is not None:
            yield self.demand(EvtchnOp.SET_PRIORITY, self._irqs[timer].port, TIMER_PRIORITY)
        yield self.bind_virq_to_irqhandler(Virq.DEBUG, vcpu, handler_of(), f"debug{vcpu}")
        for purpose in _PER_CPU_IPIS:
            irq = yield self.bind_ipi_to_irqhandler(vcpu, handler_of(), f"{purpose}{vcpu}")
            if purpose == "resched":
                self._resched[vcpu] = irq
        yield self.bind_ipi_to_irq(vcpu, f"spinlock{vcpu}")

    def _timer(self, irq: int) -> Task:
        del irq
        return self.timer_interrupt()

    def kexec(self) -> Task:
        """Start a new kernel in place of this one: EVTCHNOP_reset closes all ports.

        The vCPUs keep what they registered. Call it on vCPU 0, while no other thread runs.
        """
        yield self.demand(EvtchnOp.RESET, DOMID_SELF)
        self._irqs.clear()
        self._by_port.clear()
        self._resched.clear()
        for cpu in self.cpus:
            cpu.timers.clear()
        yield self._set_up()

    # Binding

    def bind_evtchn_to_irq(self, port: int, *, late_eoi: bool = False) -> Task:
        """Tie a port to an irq; gives the irq. The port stays masked."""
        yield self.map_port(port)
        number = self._first_irq
        while number in self._irqs:
            number += 1
        irq = self._irqs[number] = self._by_port[port] = Irq(number, port, late_eoi=late_eoi)
        self.current.emit(Kind.IRQ_BOUND, number, port)
        irq.vcpu = self.domain.ports[port].notify_vcpu
        return number

    def request_irq(self, number: int, handler: Handler, name: str = "") -> Task:
        """Give an irq its handler and unmask its port: what is pending comes now."""
        irq = self._irqs[number]
        irq.handler, irq.name = handler, name
        if name:
            self.lab.name_irq(self.dom, number, name)
        yield self._unmask(irq, MaskReason.EXPLICIT)

    def bind_evtchn_to_irqhandler(
        self, port: int, handler: Handler, name: str = "", *, late_eoi: bool = False
    ) -> Task:
        """Tie a port to an irq and request it; gives the irq."""
        number = yield self.bind_evtchn_to_irq(port, late_eoi=late_eoi)
        yield self.request_irq(number, handler, name)
        return number

    def bind_interdomain_evtchn_to_irq(
        self, remote_dom: int, remote_port: int, *, late_eoi: bool = False
    ) -> Task:
        """EVTCHNOP_bind_interdomain, then tie the new port to an irq; gives the irq."""
        port = yield self.demand(EvtchnOp.BIND_INTERDOMAIN, remote_dom, remote_port)
        return (yield self.bind_evtchn_to_irq(port, late_eoi=late_eoi))

    def bind_interdomain_evtchn_to_irqhandler(
        self,
        remote_dom: int,
        remote_port: int,
        handler: Handler,
        name: str = "",
        *,
        late_eoi: bool = False,
    ) -> Task:
        """EVTCHNOP_bind_interdomain, then tie the new port to an irq and request it."""
        number = yield self.bind_interdomain_evtchn_to_irq(
            remote_dom, remote_port, late_eoi=late_eoi
        )
        yield self.request_irq(number, handler, name)
        return number

    def bind_virq_to_irqhandler(self, virq: Virq, vcpu: int, handler: Handler, name: str) -> Task:
        """EVTCHNOP_bind_virq, then tie the new port to an irq and request it."""
        port = yield self.demand(EvtchnOp.BIND_VIRQ, virq, vcpu)
        return (yield self.bind_evtchn_to_irqhandler(port, handler, name))

    def bind_pirq_to_irqhandler(self, pirq: int, handler: Handler, name: str) -> Task:
        """EVTCHNOP_bind_pirq, then tie the new port to an irq and request it."""
        port = yield self.demand(EvtchnOp.BIND_PIRQ, pirq, 0)
        return (yield self.bind_evtchn_to_irqhandler(port, handler, name))

    def bind_ipi_to_irq(self, vcpu: int, name: str) -> Task:
        """EVTCHNOP_bind_ipi without handler: for polling alone, as spinlocks do."""
        port = yield self.demand(EvtchnOp.BIND_IPI, vcpu)
        number = yield self.bind_evtchn_to_irq(port)
        self.lab.name_irq(self.dom, number, name)
        return number

    def bind_ipi_to_irqhandler(self, vcpu: int, handler: Handler, name: str) -> Task:
        """EVTCHNOP_bind_ipi, then tie the new port to an irq and request it."""
        port = yield self.demand(EvtchnOp.BIND_IPI, vcpu)
        return (yield self.bind_evtchn_to_irqhandler(port, handler, name))

    def unbind_from_irqhandler(self, number: int) -> Task:
        """Free an irq and close its port."""
        irq, cpu = self._irqs[number], self.current
        cpu.emit(Kind.IRQ_UNBOUND, number, irq.port)
        self.lab.hypervisor.truth.freeing(self.dom, irq.port, cpu.number)
        yield self._mask(irq, MaskReason.EXPLICIT)
        handler, irq.handler = irq.handler, None
        while irq.in_progress:  # synchronize_irq
            yield _RELAX_NS
        if self.calls_on_free and handler is not None:
            yield self.run_handler(cpu, number, irq.port, handler(number))
        del self._irqs[number], self._by_port[irq.port]
        yield self.close(irq.port)

    def port_of(self, number: int) -> int:
        """Give the port behind an irq."""
        return self._irqs[number].port

    def irq_of(self, port: int) -> int | None:
        """Give the irq of a port; None if it has none."""
        irq = self._by_port.get(port)
        return irq.number if irq else None

    # Using

    def notify_remote_via_irq(self, number: int) -> Task:
        """EVTCHNOP_send on the port of an irq."""
        return self.send(self._irqs[number].port)

    def disable_irq(self, number: int) -> Task:
        """Mask the port of an irq."""
        return self._mask(self._irqs[number], MaskReason.EXPLICIT)

    def enable_irq(self, number: int) -> Task:
        """Unmask the port of an irq."""
        return self._unmask(self._irqs[number], MaskReason.EXPLICIT)

    def irq_set_affinity(self, number: int, vcpu: int) -> Task:
        """Send the next events of an irq to another vCPU."""
        irq = self._irqs[number]
        yield self._mask(irq, MaskReason.TEMPORARY)
        yield self.demand(EvtchnOp.BIND_VCPU, irq.port, vcpu)
        irq.vcpu = vcpu
        yield self._unmask(irq, MaskReason.TEMPORARY)

    def retrigger(self, number: int) -> Task:
        """Set an irq's event pending by hand and let it come."""
        irq, cpu = self._irqs[number], self.current
        yield self._mask(irq, MaskReason.TEMPORARY)
        bits.set_pending(self.domain, irq.port)
        tsc = cpu.emit(Kind.SET, irq.port)
        self.lab.hypervisor.truth.retriggered(self.dom, cpu.number, irq.port, tsc)
        yield self._unmask(irq, MaskReason.TEMPORARY)

    def xen_irq_lateeoi(self, number: int, *, spurious: bool = False) -> Task:
        """End the handling of an event; a driver that found no work too often has to wait."""
        irq, cpu = self._irqs.get(number), self.current
        if irq is None:
            return
        cpu.emit(Kind.EOI, irq.port, EOI_SPURIOUS if spurious else 0)
        irq.spurious = irq.spurious + 1 if spurious else 0
        if spurious:
            self.lab.hypervisor.truth.no_work(self.dom, irq.port)
        jiffies = self._eoi_delay(cpu, irq)
        if jiffies:
            cpu.spawn(self._delayed_eoi(irq, jiffies))
        else:
            yield self._end_of_interrupt(irq)

    def _eoi_delay(self, cpu: "VirtualCpu", irq: Irq) -> int:
        """Give the jiffies by which the end of an event is put off."""
        truth = self.lab.hypervisor.truth
        excess = irq.spurious - 1 - SPURIOUS_THRESHOLD
        if excess >= 0:
            truth.delayed(self.dom, irq.port, EoiDelay.LATEEOI_DELAYED)
            return min(1 << excess, HZ)
        if irq.deferred_in is not None and irq.deferred_in is self._loops.get(cpu.number):
            truth.delayed(self.dom, irq.port, EoiDelay.LOOP_DEFERRED)
            return DEFERRED_JIFFIES
        return 0

    def _delayed_eoi(self, irq: Irq, jiffies: int) -> Task:
        yield self.sleep(jiffies / HZ)
        if self._by_port.get(irq.port) is irq:
            yield self._end_of_interrupt(irq)

    def _end_of_interrupt(self, irq: Irq) -> Task:
        irq.is_active = False
        yield self._unmask(irq, MaskReason.EOI_PENDING)

    # Masks

    def _mask(self, irq: Irq, reason: MaskReason) -> Task:
        if not irq.masked_for:
            self.mask(irq.port)
        irq.masked_for.add(reason)
        yield self.lab.costs.profile.memory

    def _unmask(self, irq: Irq, reason: MaskReason) -> Task:
        """Take back a reason; after the last one unmask the port, as its form demands."""
        irq.masked_for.discard(reason)
        if irq.masked_for or not self.unmasks:
            return
        cpu = self.current
        cpu.emit(Kind.UNMASK, irq.port)
        calls_xen = unmask_memory(cpu.model, irq.port)
        if not calls_xen:
            self.lab.hypervisor.announce_waiting(self.dom, irq.port)
        yield self.lab.costs.profile.memory
        if calls_xen:
            yield self.hypercall(EvtchnOp.UNMASK, irq.port)
        elif cpu.model.wants_upcall and not cpu.irqs_off:
            yield self.force_callback()

    # Upcalls

    def upcall(self, cpu: "VirtualCpu") -> Task:
        """Handle an upcall, and watch how long it lasts."""
        self._loops[cpu.number] = _EventLoop()
        yield super().upcall(cpu)
        del self._loops[cpu.number]

    def _watch_loop(self, cpu: "VirtualCpu", irq: Irq) -> None:
        """Count an event; after too long a time let its end, and those after it, be put off."""
        loop = self._loops[cpu.number]
        loop.events += 1
        if not loop.defers and not loop.events % LOOP_CHECK:
            if loop.ends is None:
                profile = self.lab.costs.profile
                loop.ends = cpu.now + profile.cycles(LOOP_JIFFIES * 1_000_000_000 // HZ)
            else:
                loop.defers = cpu.now > loop.ends
        irq.deferred_in = loop if loop.defers else None

    def handle_port(self, cpu: "VirtualCpu", port: int) -> Task:
        """Acknowledge an event and run its handler (handle_irq_for_port, then the irq's flow)."""
        irq = self._by_port.get(port)
        if irq is None or irq.handler is None:
            return
        if irq.is_active and self.guards_active:
            return
        self._watch_loop(cpu, irq)
        if irq.late_eoi:
            irq.is_active = True
            yield self._mask(irq, MaskReason.EOI_PENDING)
        if self.clears:
            self.clear(port)
        else:
            self._leave_set(port)
        yield self.lab.costs.profile.memory
        if irq.handler is None:
            return  # freed by another vCPU meanwhile
        irq.in_progress += 1
        yield self.run_handler(cpu, irq.number, port, irq.handler(irq.number))
        if self.handles_twice and irq.handler is not None:
            self.lab.hypervisor.truth.repeats(self.dom, port)
            yield self.run_handler(cpu, irq.number, port, irq.handler(irq.number))
        irq.in_progress -= 1

    def _leave_set(self, port: int) -> None:
        """Handle an event without clearing its bit; in the 2-level form no other one can follow."""
        self.lab.hypervisor.truth.left_set(self.dom, port)
        if self.domain.fifo is None:
            self.lab.hypervisor.cut_off.add((self.dom, port))

    def reschedule(self, cpu: "VirtualCpu") -> Task:
        """Interrupt another vCPU so that it looks for ready threads."""
        yield self.notify_remote_via_irq(self._resched[cpu.number])


def handler_of(value: object = None) -> Handler:
    """Make a handler that does nothing but return `value`."""

    def handler(irq: int) -> Task:
        del irq
        yield from ()
        return value

    return handler
