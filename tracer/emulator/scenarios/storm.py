"""A storm of events (XSA-332): a front end that notifies without having anything to say."""

from typing import TYPE_CHECKING, Final

from evtrace.tracer.emulator.ring import Lane

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab, Mailbox
    from evtrace.tracer.emulator.linux import Linux
    from evtrace.tracer.emulator.steps import Task

_SENDS_PER_REQUEST: Final = 250
"""Now and then the front end does have something to say."""
_SERVE_NS: Final = 2_000


def storm(lab: "Lab", *, events: int = 500, gap: int = 200, lateeoi: bool = True) -> None:
    """Storm dom0 with events that bring no work; late EOI makes it look ever more rarely.

    events: how many it sends.
    gap: microseconds between two of them.
    lateeoi: no: an irq as before the fix, whose handler runs for every event.
    """
    dom0 = lab.domain("dom0", 0)
    dom_u = lab.domain("domU")
    offer, connected = lab.mailbox(), lab.mailbox()
    requests = Lane()
    lab.total = events
    lab.start(dom_u, _flood(dom_u, requests, offer, connected, events, gap))
    lab.start(dom0, _Back(dom0, requests, lateeoi=lateeoi).connect(offer, connected, dom_u.dom))


def _flood(
    linux: "Linux", requests: Lane, offer: "Mailbox", connected: "Mailbox", events: int, gap: int
) -> "Task":
    port = yield linux.alloc_unbound(0)
    offer.put(port)
    yield connected.get(linux)
    for number in range(1, events + 1):
        if not number % _SENDS_PER_REQUEST:
            requests.push(1)
        yield linux.send(port)
        linux.lab.done += 1
        yield gap * 1_000


class _Back:
    """The back end under attack: it looks for requests whenever it is notified."""

    def __init__(self, linux: "Linux", requests: Lane, *, lateeoi: bool) -> None:
        self._linux = linux
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
        yield _SERVE_NS * max(1, count)
        if self._lateeoi:
            yield self._linux.xen_irq_lateeoi(irq, spurious=not count)
