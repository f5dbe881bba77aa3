"""FIFO queues of different priority into one busy vCPU, and a port that moves between them."""

from typing import TYPE_CHECKING, Final

from evtrace.tracer.emulator.steps import Completion
from evtrace.xen.abi import Errno, EvtchnOp

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab, Mailbox
    from evtrace.tracer.emulator.linux import Handler, Linux
    from evtrace.tracer.emulator.steps import Task

_MOST_URGENT: Final = 1
_LEAST_URGENT: Final = 14
_COMPUTE_NS: Final = 5_000
_REST_NS: Final = 100_000
"""Between two rounds."""
_PATIENCE_NS: Final = 200_000_000
"""So long the domU computes without an event: then one was lost, and no round will be over."""


def fifo_priority(lab: "Lab", *, rounds: int = 25, channels: int = 5, work: int = 20) -> None:
    """Urgent events overtake those that wait; one changes its priority while it is linked.

    rounds: how often all channels are notified, the least urgent one first.
    channels: how many there are.
    work: microseconds that each handler takes.
    """
    dom0 = lab.domain("dom0", 0)
    dom_u = lab.domain("domU")
    offer = lab.mailbox()
    receiver = _Receiver(dom_u, max(1, channels), rounds, work)
    lab.total = rounds
    lab.start(dom_u, receiver.run(offer))
    lab.start(dom0, _notify_all(dom0, receiver, offer))


class _Receiver:
    """The domU: its only vCPU computes all the time."""

    def __init__(self, linux: "Linux", channels: int, rounds: int, work: int) -> None:
        self.dom = linux.dom
        self.rounds = rounds
        self.finished = 0
        """Rounds of which every event was handled."""
        self._linux = linux
        self._work_ns = work * 1_000
        self._irqs = [0] * channels
        self._order: list[int] = []
        """Channels handled in this round."""
        self._handled = 0
        self._overtakings = 0
        self._mover = channels // 2
        self._has_priorities = True

    def run(self, offer: "Mailbox") -> "Task":
        """Offer a port for each channel, compute until all rounds are over, and sum up."""
        linux = self._linux
        for channel in range(len(self._irqs)):
            yield self._open(channel)
        offer.put([linux.port_of(irq) for irq in self._irqs])
        handled, quiet_ns = 0, 0
        while self.finished < self.rounds and quiet_ns < _PATIENCE_NS:
            yield _COMPUTE_NS
            quiet_ns = quiet_ns + _COMPUTE_NS if self._handled == handled else 0
            handled = self._handled
        overtakings, rounds = self._overtakings, self.rounds
        yield linux.log(f"the urgent channel overtook others in {overtakings} of {rounds} rounds")

    def _open(self, channel: int) -> "Task":
        linux = self._linux
        port = yield linux.alloc_unbound(0)
        irq = yield linux.bind_evtchn_to_irqhandler(port, self._handler(channel), f"q{channel}")
        self._irqs[channel] = irq
        yield self._set_priority(channel, self._priority_of(channel))

    def _priority_of(self, channel: int) -> int:
        """Give the last channel the most urgent queue, the first one the least."""
        last = max(1, len(self._irqs) - 1)
        return _LEAST_URGENT - channel * (_LEAST_URGENT - _MOST_URGENT) // last

    def _set_priority(self, channel: int, priority: int) -> "Task":
        """EVTCHNOP_set_priority; what has no FIFO queues refuses that, and is not asked again."""
        if not self._has_priorities:
            return
        port = self._linux.port_of(self._irqs[channel])
        answer = yield self._linux.hypercall(EvtchnOp.SET_PRIORITY, port, priority)
        if answer.ret < 0:
            self._has_priorities = False
            error = Errno(-answer.ret).name
            yield self._linux.log(f"set_priority of port {port}: {error}; going on without")

    def _handler(self, channel: int) -> "Handler":
        def handle(irq: int) -> "Task":
            del irq
            yield self._work_ns
            if not self._order:
                yield self._move()
            self._order.append(channel)
            self._handled += 1
            if len(self._order) == len(self._irqs):
                yield self._finish_round()

        return handle

    def _move(self) -> "Task":
        """Change the mover's priority while its event waits: it comes from its old queue yet."""
        is_back = self.finished % 2
        priority = self._priority_of(self._mover) if is_back else _LEAST_URGENT + 1
        yield self._set_priority(self._mover, priority)

    def _finish_round(self) -> "Task":
        urgent = len(self._irqs) - 1
        self._overtakings += self._order[-1] != urgent
        self._order.clear()
        self.finished += 1
        self._linux.lab.done += 1
        yield self._linux.notify_remote_via_irq(self._irqs[0])


def _notify_all(linux: "Linux", receiver: _Receiver, offer: "Mailbox") -> "Task":
    """Notify the channels one after another, round by round."""
    ports = yield offer.get(linux)
    told = Completion()

    def handle(irq: int) -> "Task":
        del irq
        yield linux.complete(told)

    bind = linux.bind_interdomain_evtchn_to_irqhandler
    irqs: dict[int, int] = {}
    for port in ports:
        irqs[port] = yield bind(receiver.dom, port, handle, "q")
    for number in range(1, receiver.rounds + 1):
        yield _REST_NS
        for irq in irqs.values():
            yield linux.notify_remote_via_irq(irq)
        while receiver.finished < number:  # told at bind, too
            yield linux.wait_for_completion(told)
