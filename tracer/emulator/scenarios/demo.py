"""The demonstration of 2017: two kernel modules, one event channel, one handler run too many."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab, Mailbox
    from evtrace.tracer.emulator.linux import Linux
    from evtrace.tracer.emulator.steps import Task


def demo(lab: "Lab", *, domid: int = 6, pause: float = 0.05) -> None:
    """dom0 binds a domU's port and notifies it once; its own handler runs twice.

    domid: number of the domU. pause: seconds until dom0's module is loaded.
    """
    dom0 = lab.domain("dom0", 0, vcpus=4, first_irq=67)
    dom_u = lab.domain("domU", domid, vcpus=4, first_irq=41)
    lab.fill_ports(dom_u, 31)
    offer = lab.mailbox()
    lab.start(dom_u, _offer(dom_u, offer))
    lab.start(dom0, _bind(dom0, offer, domid, pause))


def _offer(linux: "Linux", offer: "Mailbox") -> "Task":
    """Load the domU's module: offer a port and answer whoever notifies it."""
    port = yield linux.alloc_unbound(0)
    yield linux.until("domU new evtchn")
    yield linux.log(f"new evtchn {port}")
    irq = yield linux.bind_evtchn_to_irq(port)

    def answer(irq: int) -> "Task":
        yield linux.until("domU handled")
        yield linux.log(f"Handled irq {irq}, evtchn {port}")
        yield linux.notify_remote_via_irq(irq)

    yield linux.request_irq(irq, answer, "alice_dev")
    yield linux.until("domU bound")
    yield linux.log(f"bound local irq {irq} to evtchn {port}")
    offer.put(port)


def _bind(linux: "Linux", offer: "Mailbox", domid: int, pause: float) -> "Task":
    """Load dom0's module: bind the port that is offered, and notify it."""
    remote_port = yield offer.get(linux)
    yield linux.sleep(pause)
    yield linux.until("dom0 init")
    yield linux.log(f"init with domid {domid}, evtchn {remote_port}")
    handled = 0

    def handle(irq: int) -> "Task":
        nonlocal handled
        handled += 1
        yield linux.until(f"dom0 handled {handled}")
        yield linux.log(f"Handled irq {irq}, domid {domid}, evtchn {remote_port}")

    irq = yield linux.bind_interdomain_evtchn_to_irq(domid, remote_port)
    yield linux.until("dom0 requests")
    yield linux.request_irq(irq, handle, "alice_dev")
    yield linux.until("dom0 bound")
    yield linux.log(f"bound local irq {irq} to domid {domid}, evtchn {remote_port}")
    yield linux.notify_remote_via_irq(irq)
