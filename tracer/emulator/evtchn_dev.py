"""/dev/xen/evtchn: event channels of user-space processes (drivers/xen/evtchn.c).

The handler in the kernel leaves the port masked (late EOI) and puts it into the file's ring; the
process reads it there, does its work, and writes the port back to have it unmasked.
"""

from collections import deque
from typing import TYPE_CHECKING

from evtrace.tracer.emulator.steps import Completion

if TYPE_CHECKING:
    from evtrace.tracer.emulator.linux import Linux
    from evtrace.tracer.emulator.steps import Task

RING_PORTS = 1024
"""Ports that a ring holds; an event beyond is dropped and its port stays masked."""
_SYSCALL_NS = 200


class EvtchnFile:
    """An open /dev/xen/evtchn. Its methods are tasks; they stand for libxenevtchn's."""

    def __init__(self, linux: "Linux") -> None:
        self._linux = linux
        self._irqs: dict[int, int] = {}  # port -> irq
        self._ring: deque[int] = deque()
        self._arrived = Completion()
        self.overflows = 0
        """Events that found the ring full (read() would give EFBIG)."""

    def bind_unbound_port(self, remote_dom: int) -> "Task":
        """IOCTL_EVTCHN_BIND_UNBOUND_PORT; gives the port."""
        port = yield self._linux.alloc_unbound(remote_dom)
        yield self._bind(port)
        return port

    def bind_interdomain(self, remote_dom: int, remote_port: int) -> "Task":
        """IOCTL_EVTCHN_BIND_INTERDOMAIN; gives the local port."""
        linux = self._linux
        irq = yield linux.bind_interdomain_evtchn_to_irq(remote_dom, remote_port, late_eoi=True)
        port = linux.port_of(irq)
        yield self._request(irq, port)
        return port

    def _bind(self, port: int) -> "Task":
        irq = yield self._linux.bind_evtchn_to_irq(port, late_eoi=True)
        yield self._request(irq, port)

    def _request(self, irq: int, port: int) -> "Task":
        self._irqs[port] = irq
        yield self._linux.request_irq(irq, self._interrupt, f"evtchn:{port}")

    def _interrupt(self, irq: int) -> "Task":
        """Put the port into the ring and wake the reader (evtchn_interrupt)."""
        if len(self._ring) >= RING_PORTS:
            self.overflows += 1
            return
        self._ring.append(self._linux.port_of(irq))
        yield self._linux.complete(self._arrived)

    def notify(self, port: int) -> "Task":
        """IOCTL_EVTCHN_NOTIFY."""
        yield _SYSCALL_NS
        yield self._linux.notify_remote_via_irq(self._irqs[port])

    def read(self) -> "Task":
        """Wait for an event; gives its port."""
        yield _SYSCALL_NS
        while not self._ring:
            yield self._linux.wait_for_completion(self._arrived)
        return self._ring.popleft()

    def write(self, port: int) -> "Task":
        """Give a port back: its next event may come."""
        yield _SYSCALL_NS
        yield self._linux.xen_irq_lateeoi(self._irqs[port])

    def unbind(self, port: int) -> "Task":
        """IOCTL_EVTCHN_UNBIND."""
        yield self._linux.unbind_from_irqhandler(self._irqs.pop(port))
