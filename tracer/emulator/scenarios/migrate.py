"""An irq that moves from vCPU to vCPU while its events arrive."""

from typing import TYPE_CHECKING, Final

from evtrace.tracer.emulator.steps import Completion

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab
    from evtrace.tracer.emulator.linux import Linux
    from evtrace.tracer.emulator.steps import Task

_SLOW_NS: Final = 20_000
"""What the handler takes behind which the moved irq's events wait."""


def migrate(lab: "Lab", *, moves: int = 60, vcpus: int = 3, pin: bool = False) -> None:
    """dom0 moves an irq between its vCPUs, and an event may still come from the old queue.

    moves: how often. vcpus: of dom0, at least 3; the irq is on any but the first, from which it is
    moved. pin: with each move the vCPU that gets the irq goes to another pCPU.
    """
    dom0 = lab.domain("dom0", 0, vcpus=max(vcpus, 3))
    dom_u = lab.domain("domU")
    lab.start(dom0, _Balancer(lab, dom0, dom_u, pin=pin).run(moves))


class _Balancer:
    """Two channels of dom0, a slow one and one that is moved while the slow one keeps its vCPU."""

    def __init__(self, lab: "Lab", dom0: "Linux", dom_u: "Linux", *, pin: bool) -> None:
        self._lab = lab
        self._dom0 = dom0
        self._dom_u = dom_u
        self._pin = pin
        self._runs = True
        self._now_is_the_time = Completion()

    def run(self, moves: int) -> "Task":
        """Open the channels, and move one whenever the slow handler has begun."""
        dom0, lab = self._dom0, self._lab
        slow_port = yield lab.ask(dom0, self._dom_u, self._dom_u.alloc_unbound(0))
        moved_port = yield lab.ask(dom0, self._dom_u, self._dom_u.alloc_unbound(0))
        slow = yield dom0.bind_interdomain_evtchn_to_irqhandler(
            self._dom_u.dom, slow_port, self._handle_slowly, "slow"
        )
        moved = yield dom0.bind_interdomain_evtchn_to_irqhandler(
            self._dom_u.dom, moved_port, dom0.notify_remote_via_irq, "moved"
        )
        lab.start(self._dom_u, self._keep_sending(slow_port, moved_port))
        for move in range(moves):
            yield self._move(1 + move % (len(dom0.cpus) - 1), moved, slow)
            yield dom0.wait_for_completion(self._now_is_the_time)
        self._runs = False

    def _move(self, vcpu: int, *irqs: int) -> "Task":
        for irq in irqs:
            yield self._dom0.irq_set_affinity(irq, vcpu)
        if self._pin:
            cpu = self._dom0.cpus[vcpu]
            cpu.affinity = ((cpu.pcpu.number + 1) % self._lab.settings.pcpus,)

    def _handle_slowly(self, irq: int) -> "Task":
        del irq
        if self._now_is_the_time.threads:
            yield self._dom0.complete(self._now_is_the_time)
        yield _SLOW_NS

    def _keep_sending(self, slow_port: int, moved_port: int) -> "Task":
        """Notify through both channels, as soon as dom0 has answered on the one that is moved."""
        linux, answered = self._dom_u, Completion()

        def handle(irq: int) -> "Task":
            del irq
            if answered.threads or not answered.done:
                yield linux.complete(answered)

        slow = yield linux.bind_evtchn_to_irq(slow_port)
        moved = yield linux.bind_evtchn_to_irqhandler(moved_port, handle, "moved")
        while self._runs:
            yield linux.notify_remote_via_irq(slow)
            yield linux.notify_remote_via_irq(moved)
            yield linux.wait_for_completion(answered)
