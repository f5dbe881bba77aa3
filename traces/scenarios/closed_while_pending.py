"""A scenario of one's own: a port is closed with an event pending, and its number comes back."""

from typing import TYPE_CHECKING

from evtrace.tracer.emulator.linux import handler_of

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab
    from evtrace.tracer.emulator.steps import Task


def closed_while_pending(lab: "Lab") -> None:
    """Close a port with an event pending, and give its number to a new owner."""
    dom0, dom_u = lab.domain("dom0", 0), lab.domain("domU")

    def run() -> "Task":
        port = yield dom0.alloc_unbound(dom_u.dom)
        irq = yield dom0.bind_evtchn_to_irq(port)  # never requested, so it stays masked
        peer = yield lab.ask(dom0, dom_u, dom_u.bind_interdomain_evtchn_to_irq(0, port))
        yield lab.ask(dom0, dom_u, dom_u.notify_remote_via_irq(peer))
        yield lab.ask(dom0, dom_u, dom_u.unbind_from_irqhandler(peer))
        yield dom0.unbind_from_irqhandler(irq)
        port = yield dom0.alloc_unbound(dom_u.dom)
        yield dom0.bind_evtchn_to_irqhandler(port, handler_of(), "next")

    lab.start(dom0, run())
