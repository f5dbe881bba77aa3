"""A new kernel in an old domain: EVTCHNOP_reset, and everything bound again."""

from typing import TYPE_CHECKING, Final

from evtrace.tracer.emulator.linux import handler_of
from evtrace.tracer.emulator.steps import Completion

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab
    from evtrace.tracer.emulator.linux import Linux
    from evtrace.tracer.emulator.steps import Task

_NOTIFIES: Final = 2


def reset(lab: "Lab", *, rounds: int = 8, devices: int = 4, vcpus: int = 1) -> None:
    """EVTCHNOP_reset closes all ports of a domU for its new kernel, whatever is pending.

    rounds: how often a new kernel starts. devices: channels with dom0. vcpus: of the domU.
    """
    dom0 = lab.domain("dom0", 0)
    dom_u = lab.domain("domU", vcpus=vcpus)
    lab.start(dom0, _toolstack(lab, dom0, dom_u, rounds, devices))


def _toolstack(lab: "Lab", dom0: "Linux", dom_u: "Linux", rounds: int, devices: int) -> "Task":
    """Bind the devices of one kernel after the other; notify each one to its end and beyond."""
    for _ in range(rounds):
        front = yield lab.ask(dom0, dom_u, _open_devices(dom_u, devices))
        back = []
        for irq in front:
            port = dom_u.port_of(irq)
            back.append((yield _bind(dom0, dom_u, port)))
        yield lab.ask(dom0, dom_u, _shut_down(dom_u, front))
        yield _notify_all(dom0, back)
        yield lab.ask(dom0, dom_u, dom_u.kexec())
        yield _notify_all(dom0, back)
        for irq in back:
            yield dom0.unbind_from_irqhandler(irq)


def _open_devices(linux: "Linux", devices: int) -> "Task":
    """Open a port for each device; gives their irqs."""
    irqs = []
    for _ in range(devices):
        port = yield linux.alloc_unbound(0)
        irqs.append((yield linux.bind_evtchn_to_irqhandler(port, handler_of(), "front")))
    return irqs


def _bind(dom0: "Linux", dom_u: "Linux", remote_port: int) -> "Task":
    """Bind a device; wait for the event that Xen sets at bind, and answer that and all others."""
    ran = Completion()

    def handle(irq: int) -> "Task":
        yield dom0.notify_remote_via_irq(irq)
        yield dom0.complete(ran)

    irq = yield dom0.bind_interdomain_evtchn_to_irqhandler(dom_u.dom, remote_port, handle, "back")
    yield dom0.wait_for_completion(ran)
    return irq


def _shut_down(linux: "Linux", irqs: list[int]) -> "Task":
    """Disable every other device, as a kernel does that is about to go; notify dom0 of all."""
    for irq in irqs[::2]:
        yield linux.disable_irq(irq)
    for irq in irqs:
        yield linux.notify_remote_via_irq(irq)


def _notify_all(linux: "Linux", irqs: list[int]) -> "Task":
    for irq in irqs * _NOTIFIES:
        yield linux.notify_remote_via_irq(irq)
