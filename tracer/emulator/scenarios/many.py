"""Many channels with unequal load: for measuring, and for reports on long traces."""

from itertools import accumulate
from typing import TYPE_CHECKING, Final

from evtrace.tracer.emulator.steps import Completion

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab
    from evtrace.tracer.emulator.linux import Linux
    from evtrace.tracer.emulator.steps import Task

_BURST: Final = 3
"""Notifies of a domU before it waits for an answer."""
_PAUSE_NS: Final = 5_000
"""The first domU goes on at once, each next one waits so much longer."""


def many(
    lab: "Lab", *, channels: int = 48, domains: int = 3, vcpus: int = 2, events: int = 12_000
) -> None:
    """Many channels of unequal load: the n-th one of a domU is used 1/n as often as its first.

    channels: between dom0 and the domUs together; over 1,024 ports the FIFO array grows. domains:
    domUs. vcpus: of dom0. events: about how many records are written.
    """
    dom0 = lab.domain("dom0", 0, vcpus=vcpus)
    domains = min(domains, channels)
    shares = [len(range(number, channels, domains)) for number in range(domains)]
    guests = [lab.domain(f"domU{number}") for number in range(1, domains + 1)]
    for number, (guest, share) in enumerate(zip(guests, shares, strict=True)):
        client = _Client(lab, guest, events, number * _PAUSE_NS)
        lab.start(dom0, _serve(lab, dom0, client, share))


def _serve(lab: "Lab", dom0: "Linux", client: "_Client", channels: int) -> "Task":
    """Bind a domU's channels, spread over dom0's vCPUs, and answer every event."""
    for number in range(channels):
        port = yield lab.ask(dom0, client.linux, client.open())
        irq = yield dom0.bind_interdomain_evtchn_to_irq(client.linux.dom, port)
        yield dom0.irq_set_affinity(irq, number % len(dom0.cpus))
        yield dom0.request_irq(irq, dom0.notify_remote_via_irq, f"back{client.linux.dom}")
    lab.start(client.linux, client.run())


class _Client:
    """A domU that notifies through its channels, the first ones most often."""

    def __init__(self, lab: "Lab", linux: "Linux", events: int, pause_ns: int) -> None:
        self.linux = linux
        self._lab = lab
        self._events = events
        self._pause_ns = pause_ns
        self._irqs: list[int] = []
        self._answered = Completion()

    def open(self) -> "Task":
        """Offer dom0 a port; gives it."""
        port = yield self.linux.alloc_unbound(0)
        irq = yield self.linux.bind_evtchn_to_irqhandler(port, self._handle, "front")
        self._irqs.append(irq)
        return port

    def _handle(self, irq: int) -> "Task":
        del irq
        if not self._answered.done:
            yield self.linux.complete(self._answered)

    def run(self) -> "Task":
        """Notify in bursts until enough is recorded."""
        linux, recorder, choices = self.linux, self._lab.recorder, self._lab.random.choices
        weights = list(accumulate(1 / rank for rank in range(1, len(self._irqs) + 1)))
        while recorder.records < self._events:
            for irq in choices(self._irqs, cum_weights=weights, k=_BURST):
                yield linux.notify_remote_via_irq(irq)
            yield linux.wait_for_completion(self._answered)
            yield self._pause_ns
