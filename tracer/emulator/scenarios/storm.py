"""A storm of events (XSA-332): a front end that notifies without having anything to say."""

from typing import TYPE_CHECKING, NamedTuple

from evtrace.tracer.emulator.ring import Lane

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab, Mailbox
    from evtrace.tracer.emulator.linux import Linux
    from evtrace.tracer.emulator.steps import Task


def storm(
    lab: "Lab",
    *,
    events: int = 500,
    gap: int = 200,
    every: int = 250,
    serve: int = 2,
    lateeoi: bool = True,
) -> None:
    """Storm dom0 with events that bring no work; late EOI makes it look ever more rarely.

    events: how many it sends.
    gap: microseconds between two of them.
    every: so many sends bring one request; 1: there is always work.
    serve: microseconds that dom0 takes whenever it looks.
    lateeoi: no: an irq as before the fix, whose handler runs for every event.
    """
    dom0 = lab.domain("dom0", 0)
    dom_u = lab.domain("domU")
    offer, connected = lab.mailbox(), lab.mailbox()
    requests = Lane()
    lab.total = events
    flood = _Flood(events, gap * 1_000, max(1, every))
    back = _Back(dom0, requests, serve * 1_000, lateeoi=lateeoi)
    lab.start(dom_u, _send(dom_u, requests, offer, connected, flood))
    lab.start(dom0, back.connect(offer, connected, dom_u.dom))


class _Flood(NamedTuple):
    """What the front end sends."""

    events: int
    gap_ns: int
    every: int


def _send(
    linux: "Linux", requests: Lane, offer: "Mailbox", connected: "Mailbox", flood: _Flood
) -> "Task":
    port = yield linux.alloc_unbound(0)
    offer.put(port)
    yield connected.get(linux)
    for number in range(1, flood.events + 1):
        if not number % flood.every:
            requests.push(1)
        yield linux.send(port)
        linux.lab.done += 1
        yield flood.gap_ns


class _Back:
    """The back end under attack: it looks for requests whenever it is notified."""

    def __init__(self, linux: "Linux", requests: Lane, serve_ns: int, *, lateeoi: bool) -> None:
        self._linux = linux
        self._serve_ns = serve_ns
        self._requests = requests
        self._lateeoi = lateeoi

    def connect(self, offer: "Mailbox", connected: "Mailbox", domid: int) -> "Task":
        """Bind the front end's port."""
        port = yield offer.get(self._linux)
        yield self._linux.bind_interdomain_evtchn_to_irqhandler(
            domid, port, self._handle, "vif-backend", late_eoi=self._lateeoi
        )
        connected.put(None)

    def _handle(self, irq: int) -> "Task":
        count = self._requests.take()
        yield self._serve_ns
        if self._lateeoi:
            yield self._linux.xen_irq_lateeoi(irq, spurious=not count)
