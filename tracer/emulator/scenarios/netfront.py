"""A network front end and back end: who finds the work that an event announces."""

from typing import TYPE_CHECKING, Final

from evtrace.tracer.emulator.ring import Lane
from evtrace.tracer.emulator.steps import Completion

if TYPE_CHECKING:
    from collections.abc import Callable

    from evtrace.tracer.emulator.lab import Lab, Mailbox
    from evtrace.tracer.emulator.linux import Handler, Linux
    from evtrace.tracer.emulator.steps import Task

_RING_SIZE: Final = 256
_PACKETS_PER_ACK: Final = 64
_QUEUE_NS: Final = 900
"""What the front end takes to put a packet on the ring."""
_COPY_NS: Final = 1_200
"""What the back end takes for a packet."""
_FREE_NS: Final = 100
"""What the front end takes for a response."""


def netfront(
    lab: "Lab",
    *,
    packets: int = 1200,
    burst: int = 20,
    rate: int = 50_000,
    split: bool = False,
    fixed: bool = False,
    halves: bool = False,
) -> None:
    """Half of the interrupts find no work: the transmit path has taken the responses itself.

    packets: how many are sent.
    burst: so many go one after another.
    rate: packets a second, at most.
    split: receiving has a channel of its own.
    fixed: only the interrupt takes responses.
    halves: of one channel, each direction says by itself whether there was work.
    """
    dom0 = lab.domain("dom0", 0)
    dom_u = lab.domain("domU", vcpus=2)
    offer, connected = lab.mailbox(), lab.mailbox()
    device = _Device()
    burst, rate = max(1, burst), max(1, rate)
    front = _Front(dom_u, device, polls=not fixed, halves=halves)
    lab.total = packets
    lab.start(dom_u, front.connect(offer, split=split))
    lab.start(dom0, _Back(dom0, device).connect(offer, connected, dom_u.dom))
    # Interrupts come on vCPU 0. The sender runs on the other one, so it is not held up by them.
    lab.start(dom_u, front.send(connected, packets, burst, burst / rate), vcpu=1)


class _Device:
    """The rings of one network device."""

    def __init__(self) -> None:
        self.requests = Lane()
        self.responses = Lane()
        self.received = Lane()
        """Packets for the guest; it always has buffers enough."""

    @property
    def is_full(self) -> bool:
        return self.requests.prod - self.responses.cons >= _RING_SIZE


def _serving(linux: "Linux", *parts: "Callable[[], Task]", halves: bool = False) -> "Handler":
    """Make a late-EOI handler of parts that each give how much work they have found.

    `halves`: each of them ends the event, as netback's two did before the fix of 2021.
    """

    def handle(irq: int) -> "Task":
        found = 0
        for part in parts:
            count = yield part()
            found += count
            if halves:
                yield linux.xen_irq_lateeoi(irq, spurious=not count)
        if not halves:
            yield linux.xen_irq_lateeoi(irq, spurious=not found)

    return handle


class _Front:
    """The front end, after drivers/net/xen-netfront.c before and after its fix of 2025."""

    def __init__(self, linux: "Linux", device: _Device, *, polls: bool, halves: bool) -> None:
        self._linux = linux
        self._device = device
        self._polls = polls
        self._halves = halves
        self._irq = 0
        self._is_stopped = False
        self._has_room = Completion()

    def connect(self, offer: "Mailbox", *, split: bool) -> "Task":
        """Offer a port for both directions, or one for each."""
        if split:
            transmit = yield self._open("eth0-q0-tx", self._collect)
            receive = yield self._open("eth0-q0-rx", self._receive)
        else:
            transmit = receive = yield self._open("eth0-q0", self._collect, self._receive)
        self._irq = transmit
        offer.put((self._linux.port_of(transmit), self._linux.port_of(receive)))

    def _open(self, name: str, *parts: "Callable[[], Task]") -> "Task":
        port = yield self._linux.alloc_unbound(0)
        handler = _serving(self._linux, *parts, halves=self._halves)
        return (yield self._linux.bind_evtchn_to_irqhandler(port, handler, name, late_eoi=True))

    def send(self, connected: "Mailbox", packets: int, burst: int, pause: float) -> "Task":
        """Send packets in bursts."""
        yield connected.get(self._linux)
        for number in range(1, packets + 1):
            yield self._transmit()
            self._linux.lab.done += 1
            if not number % burst:
                yield self._linux.sleep(pause)

    def _transmit(self) -> "Task":
        yield _QUEUE_NS
        while self._device.is_full:
            self._is_stopped = True
            yield self._linux.wait_for_completion(self._has_room)
        if self._device.requests.push(1):
            yield self._linux.notify_remote_via_irq(self._irq)
        if self._polls:
            yield self._collect()

    def _collect(self) -> "Task":
        """Take the responses, and let the sender go on if it has waited for them."""
        found = 0
        while count := self._device.responses.take():
            found += count
            yield count * _FREE_NS
        if self._is_stopped and not self._device.is_full:
            self._is_stopped = False
            yield self._linux.complete(self._has_room)
        return found

    def _receive(self) -> "Task":
        found = 0
        while count := self._device.received.take():
            found += count
            yield count * _COPY_NS
        return found


class _Back:
    """The back end: copies packets, responds, and sends now and then an acknowledgement back."""

    def __init__(self, linux: "Linux", device: _Device) -> None:
        self._linux = linux
        self._device = device
        self._transmit_irq = self._receive_irq = 0

    def connect(self, offer: "Mailbox", connected: "Mailbox", domid: int) -> "Task":
        """Bind what the front end offers; it sends nothing before it is told."""
        transmit, receive = yield offer.get(self._linux)
        irq = yield self._bind(domid, transmit, f"vif{domid}.0-q0-tx", self._serve)
        self._transmit_irq = self._receive_irq = irq
        if receive != transmit:
            self._receive_irq = yield self._bind(domid, receive, f"vif{domid}.0-q0-rx")
        connected.put(None)

    def _bind(self, domid: int, port: int, name: str, *parts: "Callable[[], Task]") -> "Task":
        handler = _serving(self._linux, *parts)
        return self._linux.bind_interdomain_evtchn_to_irqhandler(
            domid, port, handler, name, late_eoi=True
        )

    def _serve(self) -> "Task":
        found = 0
        while count := self._device.requests.take():
            found += count
            yield count * _COPY_NS
            yield self._respond(count)
        return found

    def _respond(self, count: int) -> "Task":
        device = self._device
        acks = device.requests.cons // _PACKETS_PER_ACK - device.received.prod
        irqs = set()
        if device.responses.push(count):
            irqs.add(self._transmit_irq)
        if device.received.push(acks):
            irqs.add(self._receive_irq)
        for irq in sorted(irqs):
            yield self._linux.notify_remote_via_irq(irq)
