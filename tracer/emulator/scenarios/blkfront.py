"""A block front end and back end: requests, a disk with its interrupt, responses."""

from typing import TYPE_CHECKING, Final

from evtrace.tracer.emulator.ring import Lane
from evtrace.tracer.emulator.steps import Completion

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab, Mailbox
    from evtrace.tracer.emulator.linux import Linux
    from evtrace.tracer.emulator.steps import Task

_PIRQ: Final = 30
_SEEK_NS: Final = 60_000
"""What the disk takes for a request; it works on all that it has at once."""
_MAP_NS: Final = 1_500
"""What the back end takes to map the pages of a request."""
_BUILD_NS: Final = 800
"""What the front end takes to put a request on the ring."""


def blkfront(lab: "Lab", *, requests: int = 200, depth: int = 8) -> None:
    """Follow disk requests: front end, back end, the disk's physical interrupt, and back.

    requests: how many are made.
    depth: so many may be under way at once.
    """
    dom0 = lab.domain("dom0", 0)
    dom_u = lab.domain("domU")
    offer, connected = lab.mailbox(), lab.mailbox()
    ring = _Ring()
    lab.total = requests
    lab.start(dom0, _Back(dom0, ring, _Disk(lab, dom0)).run(offer, connected, dom_u.dom))
    lab.start(dom_u, _Front(dom_u, ring).run(offer, connected, requests, max(1, depth)))


class _Ring:
    """The ring that front end and back end share."""

    def __init__(self) -> None:
        self.requests = Lane()
        self.responses = Lane()


class _Disk:
    """A disk of dom0's."""

    def __init__(self, lab: "Lab", owner: "Linux") -> None:
        self._lab = lab
        self._owner = owner
        self._finished = 0

    def submit(self) -> None:
        """Take a request; an interrupt follows."""
        self._lab.engine.after(self._lab.costs.draw(_SEEK_NS), self._finish)

    def take_finished(self) -> int:
        """Tell how many requests are finished that nobody was told of yet."""
        count, self._finished = self._finished, 0
        return count

    def _finish(self) -> None:
        self._finished += 1
        where = self._owner.cpus[0].pcpu
        self._lab.hypervisor.raise_pirq(self._owner.dom, _PIRQ, where)


class _Front:
    """The front end, after drivers/block/xen-blkfront.c: its handler ends requests itself."""

    def __init__(self, linux: "Linux", ring: _Ring) -> None:
        self._linux = linux
        self._ring = ring
        self._tags = Completion()
        """One told for each request that ends."""

    def run(self, offer: "Mailbox", connected: "Mailbox", requests: int, depth: int) -> "Task":
        """Make requests, up to `depth` at once, and wait for all of them."""
        linux = self._linux
        port = yield linux.alloc_unbound(0)
        irq = yield linux.bind_evtchn_to_irqhandler(port, self._interrupt, "blkif", late_eoi=True)
        offer.put(port)
        yield connected.get(linux)
        for number in range(requests):
            if number >= depth:
                yield linux.wait_for_completion(self._tags)
            yield _BUILD_NS
            if self._ring.requests.push(1):
                yield linux.notify_remote_via_irq(irq)
        for _ in range(min(requests, depth)):
            yield linux.wait_for_completion(self._tags)

    def _interrupt(self, irq: int) -> "Task":
        found = 0
        while count := self._ring.responses.take():
            found += count
            for _ in range(count):
                self._linux.lab.done += 1
                yield self._linux.complete(self._tags)
        yield self._linux.xen_irq_lateeoi(irq, spurious=not found)


class _Back:
    """The back end, after drivers/block/xen-blkback: its handler only wakes a thread."""

    def __init__(self, linux: "Linux", ring: _Ring, disk: _Disk) -> None:
        self._linux = linux
        self._ring = ring
        self._disk = disk
        self._irq = 0
        self._woken = Completion()

    def run(self, offer: "Mailbox", connected: "Mailbox", domid: int) -> "Task":
        """Connect, then serve requests for ever."""
        linux = self._linux
        yield linux.bind_pirq_to_irqhandler(_PIRQ, self._disk_interrupt, "ahci")
        port = yield offer.get(linux)
        self._irq = yield linux.bind_interdomain_evtchn_to_irqhandler(
            domid, port, self._wake, "blkif-backend", late_eoi=True
        )
        connected.put(None)
        while True:
            irq = yield linux.wait_for_completion(self._woken)
            found = yield self._submit_all()
            yield linux.xen_irq_lateeoi(irq, spurious=not found)

    def _wake(self, irq: int) -> "Task":
        # The event stays masked until the thread has looked: it is told at most once at a time.
        yield self._linux.complete(self._woken, irq)

    def _submit_all(self) -> "Task":
        found = 0
        while count := self._ring.requests.take():
            found += count
            for _ in range(count):
                yield _MAP_NS
                self._disk.submit()
        return found

    def _disk_interrupt(self, irq: int) -> "Task":
        del irq
        while count := self._disk.take_finished():
            yield count * _BUILD_NS
            if self._ring.responses.push(count):
                yield self._linux.notify_remote_via_irq(self._irq)
