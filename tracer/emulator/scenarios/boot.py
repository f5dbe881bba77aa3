"""A host from nothing: dom0 boots, makes domUs one after the other, and they open devices."""

from typing import TYPE_CHECKING

from evtrace.tracer.emulator.linux import handler_of
from evtrace.tracer.emulator.steps import Completion
from evtrace.xen.abi import EvtchnOp

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab
    from evtrace.tracer.emulator.linux import Linux
    from evtrace.tracer.emulator.steps import Task

_SERVICES = ("xenstore", "console")


def boot(lab: "Lab", *, domains: int = 3, vcpus: int = 2, devices: int = 2) -> None:
    """Every port of a host from the first one on: no snapshot, all domains start in the trace.

    domains: domUs that dom0 makes. vcpus: of each domain. devices: that each domU opens.
    """
    lab.record_from_here()
    dom0 = lab.add_domain("dom0", 0, vcpus=vcpus)
    lab.start(dom0, _boot_host(lab, dom0, domains, vcpus, devices))


def _boot_host(lab: "Lab", dom0: "Linux", domains: int, vcpus: int, devices: int) -> "Task":
    """Boot dom0, and as its toolstack make the domUs."""
    yield dom0.boot()
    for number in range(1, domains + 1):
        dom_u = lab.add_domain(f"domU{number}", vcpus=vcpus)
        yield _make(lab, dom0, dom_u, devices)


def _make(lab: "Lab", dom0: "Linux", dom_u: "Linux", devices: int) -> "Task":
    """Give a new domain its ports for xenstore and console, let it boot, serve its devices."""
    offered = []
    for service in _SERVICES:
        port = yield dom0.alloc_unbound(0, dom_u.dom)
        offered.append(port)
        yield dom0.bind_interdomain_evtchn_to_irqhandler(
            dom_u.dom, port, dom0.notify_remote_via_irq, f"{service}{dom_u.dom}"
        )
    fronts = yield lab.ask(dom0, dom_u, _boot_guest(dom_u, offered, devices))
    for front in fronts:
        yield dom0.bind_interdomain_evtchn_to_irqhandler(
            dom_u.dom, front, dom0.notify_remote_via_irq, f"device{dom_u.dom}"
        )


def _boot_guest(linux: "Linux", offered: list[int], devices: int) -> "Task":
    """Boot, ask both services something, and offer dom0 the devices' ports; gives these."""
    yield linux.boot()
    for service, port in zip(_SERVICES, offered, strict=True):
        yield _ask_service(linux, port, service)
    fronts = []
    for number in range(devices):
        port = yield linux.alloc_unbound(0)
        yield linux.bind_evtchn_to_irqhandler(port, handler_of(), f"device{number}")
        fronts.append(port)
    return fronts


def _ask_service(linux: "Linux", port: int, name: str) -> "Task":
    """Bind a port that was there before the kernel; notify the service, await the answer."""
    answered = Completion()

    def handle(irq: int) -> "Task":
        del irq
        yield linux.complete(answered)

    irq = yield linux.bind_evtchn_to_irqhandler(port, handle, name)
    yield linux.notify_remote_via_irq(irq)
    yield linux.wait_for_completion(answered)
    yield linux.demand(EvtchnOp.STATUS, linux.dom, port)
