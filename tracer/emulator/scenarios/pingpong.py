"""Two domains that notify each other in turn."""

from typing import TYPE_CHECKING

from evtrace.tracer.emulator.steps import Completion

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab, Mailbox
    from evtrace.tracer.emulator.linux import Linux
    from evtrace.tracer.emulator.steps import Task


def pingpong(lab: "Lab", *, rounds: int = 100) -> None:
    """Two domains notify each other in turn.

    rounds: how often the first one begins.
    """
    dom0 = lab.domain("dom0", 0)
    dom_u = lab.domain("domU")
    offer = lab.mailbox()
    lab.start(dom_u, _pong(dom_u, offer))
    lab.start(dom0, _ping(dom0, offer, dom_u.dom, rounds))


def _pong(linux: "Linux", offer: "Mailbox") -> "Task":
    port = yield linux.alloc_unbound(0)
    yield linux.bind_evtchn_to_irqhandler(port, linux.notify_remote_via_irq, "pong")
    offer.put(port)


def _ping(linux: "Linux", offer: "Mailbox", domid: int, rounds: int) -> "Task":
    remote_port = yield offer.get(linux)
    answered = Completion()

    def handle(irq: int) -> "Task":
        del irq
        yield linux.complete(answered)

    irq = yield linux.bind_interdomain_evtchn_to_irqhandler(domid, remote_port, handle, "ping")
    linux.lab.total = rounds
    for _ in range(rounds):
        yield linux.notify_remote_via_irq(irq)
        yield linux.wait_for_completion(answered)
        linux.lab.done += 1
