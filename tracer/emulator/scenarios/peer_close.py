"""A peer that goes: its last event, sends that nobody gets, and its return."""

from typing import TYPE_CHECKING

from evtrace.tracer.emulator.linux import handler_of
from evtrace.tracer.emulator.steps import Completion

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab
    from evtrace.tracer.emulator.linux import Linux
    from evtrace.tracer.emulator.steps import Task

_DOM_U = 1
_SENDS_TO_NOBODY = 2


def peer_close(lab: "Lab", *, rounds: int = 20, destroy: bool = False) -> None:
    """dom0's handler runs for a peer that has gone; what it sends then, nobody gets.

    rounds: how often the domU connects, notifies and closes, and comes back. destroy: its domain
    is destroyed instead, and a new one with its number comes back.
    """
    dom0 = lab.domain("dom0", 0)
    dom_u = lab.domain("domU", _DOM_U)
    lab.start(dom0, _toolstack(lab, dom0, dom_u, rounds, destroy=destroy))


def _toolstack(lab: "Lab", dom0: "Linux", dom_u: "Linux", rounds: int, *, destroy: bool) -> "Task":
    """Let the domU connect, go and come back, each time with a channel of its own."""
    for number in range(rounds):
        backend = _Backend(lab, dom0)
        yield backend.connect(dom_u)
        # With its irq disabled dom0 is sure to be late; without, it may win.
        if number % 2:
            yield dom0.disable_irq(backend.irq)
        yield lab.ask(dom0, dom_u, _leave(dom_u, backend.front_irq, closes=not destroy))
        if destroy:
            lab.destroy_domain(dom_u)
        if number % 2:
            yield dom0.enable_irq(backend.irq)
        yield dom0.wait_for_completion(backend.ran)
        for _ in range(_SENDS_TO_NOBODY):
            yield dom0.notify_remote_via_irq(backend.irq)
        if destroy:
            dom_u = lab.add_domain("domU", _DOM_U)
            yield lab.ask(dom0, dom_u, dom_u.boot())
        yield lab.ask(dom0, dom_u, _come_back(dom_u, dom0.port_of(backend.irq)))
        yield dom0.unbind_from_irqhandler(backend.irq)


class _Backend:
    """dom0's end of a channel: its handler answers every event."""

    def __init__(self, lab: "Lab", linux: "Linux") -> None:
        self.irq = 0
        self.front_irq = 0
        self.ran = Completion()
        self._lab = lab
        self._linux = linux

    def connect(self, dom_u: "Linux") -> "Task":
        """Bind a port that the domU offers; wait for the event that Xen sets at bind."""
        linux = self._linux
        self.front_irq = yield self._lab.ask(linux, dom_u, _offer(dom_u))
        self.irq = yield linux.bind_interdomain_evtchn_to_irqhandler(
            dom_u.dom, dom_u.port_of(self.front_irq), self._handle, "back"
        )
        yield linux.wait_for_completion(self.ran)

    def _handle(self, irq: int) -> "Task":
        yield self._linux.notify_remote_via_irq(irq)
        yield self._linux.complete(self.ran)


def _offer(linux: "Linux") -> "Task":
    """Open a port for dom0; gives its irq."""
    port = yield linux.alloc_unbound(0)
    return (yield linux.bind_evtchn_to_irqhandler(port, handler_of(), "front"))


def _leave(linux: "Linux", irq: int, *, closes: bool) -> "Task":
    """Notify dom0 a last time and close, unless the whole domain is to go."""
    yield linux.notify_remote_via_irq(irq)
    if closes:
        yield linux.unbind_from_irqhandler(irq)


def _come_back(linux: "Linux", remote_port: int) -> "Task":
    """Bind dom0's port, which still waits for this domain; notify, await the answer, and close."""
    answered = Completion()

    def handle(irq: int) -> "Task":
        del irq
        yield linux.complete(answered)

    irq = yield linux.bind_interdomain_evtchn_to_irqhandler(0, remote_port, handle, "front")
    yield linux.wait_for_completion(answered)
    yield linux.notify_remote_via_irq(irq)
    yield linux.wait_for_completion(answered)
    yield linux.unbind_from_irqhandler(irq)
