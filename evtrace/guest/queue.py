"""FIFO queues from the guest's side (drivers/xen/events/events_fifo.c).

The guest takes the ready bits, then words off the head of the most urgent queue: it clears LINKED
and the link, and handles the port if it is pending and not masked.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from evtrace.xen.abi import FIFO_LINK_MASK, FIFO_LINKED, FIFO_MASKED, FIFO_PENDING, FIFO_QUEUES
from evtrace.xen.fifo import HEADS, READY

if TYPE_CHECKING:
    from evtrace.xen.fifo import Fifo
    from evtrace.xen.machine import Machine
    from evtrace.xen.vcpu import Vcpu


class Taken(NamedTuple):
    """What `consume_until` did: was the port on a queue, and which ports stood before it."""

    was_linked: bool
    passed_over: list[int]


def scan(vcpu: "Vcpu", handle: Callable[[int], None], limit: int | None = None) -> int:
    """Take words, most urgent queue first, until none is ready; count heads outside the array.

    With `limit`, stop after so many words; the queues not served stay in the guest's notes.
    """
    bad_heads = 0
    for port, word in islice(take_words(vcpu), limit):
        if word is None:
            bad_heads += 1
        elif word & FIFO_PENDING and not word & FIFO_MASKED:
            handle(port)
    control_block = _control_block(vcpu)
    if limit is not None and control_block is not None:
        take_ready(vcpu, control_block)
    return bad_heads


def take_words(vcpu: "Vcpu") -> Iterator[tuple[int, int | None]]:
    """Unlink words, most urgent queue first: (port, word as it was; None: outside the array).

    Each is taken when the one before is done with; ready bits that came meanwhile count.
    """
    fifo, control_block = vcpu.domain.fifo, _control_block(vcpu)
    if fifo is None or control_block is None:
        return
    notes = vcpu.notes
    take_ready(vcpu, control_block)
    while notes.ready:
        priority = (notes.ready & -notes.ready).bit_length() - 1
        port = _head(vcpu, control_block, priority)
        yield port, unlink(vcpu, fifo, priority, port)
        take_ready(vcpu, control_block)


def _control_block(vcpu: "Vcpu") -> int | None:
    fifo = vcpu.domain.fifo
    return fifo.queues[vcpu.vcpu_id].control_block if fifo else None


def take_ready(vcpu: "Vcpu", control_block: int) -> None:
    """Move the ready bits from the control block into the guest's notes."""
    memory = vcpu.domain.memory
    ready = memory.read(control_block + READY)
    if ready:
        memory.write(control_block + READY, 0)
        vcpu.notes.ready |= ready & (1 << FIFO_QUEUES) - 1


def _head(vcpu: "Vcpu", control_block: int, priority: int) -> int:
    """Find the next port of a queue: where the guest stands in it, else the shared head."""
    return vcpu.notes.heads.get(priority) or vcpu.domain.memory.read(
        control_block + HEADS + priority
    )


def unlink(vcpu: "Vcpu", fifo: "Fifo", priority: int, port: int) -> int | None:
    """Take the head `port` off a queue and return its word as it was; None: outside the array."""
    notes = vcpu.notes
    address = fifo.word_address(port)
    word = None if address is None else vcpu.domain.memory.read(address)
    link = 0
    if address is not None and word is not None:
        link = word & FIFO_LINK_MASK
        vcpu.domain.memory.write(address, word & ~(FIFO_LINKED | FIFO_LINK_MASK))
    notes.heads[priority] = link
    if not link:
        notes.ready &= ~(1 << priority)
    return word


def queued_ports(vcpu: "Vcpu", priority: int) -> Iterator[int]:
    """Walk a queue from where the guest stands; ends where a link is broken or goes round."""
    fifo, control_block = vcpu.domain.fifo, _control_block(vcpu)
    if fifo is None or control_block is None:
        return
    port = _head(vcpu, control_block, priority)
    seen: set[int] = set()
    while port and port not in seen and fifo.linked(port):
        yield port
        seen.add(port)
        address = fifo.word_address(port)
        port = vcpu.domain.memory.read(address) & FIFO_LINK_MASK if address is not None else 0


def consume_until(machine: "Machine", domid: int, vcpu_id: int, port: int) -> Taken:
    """Follow a guest that was seen to take `port`: unlink its queue up to and including it.

    If the port is on no queue of the vCPU, nothing happens.
    """
    vcpu = machine.domains[domid].vcpus[vcpu_id]
    fifo, control_block = vcpu.domain.fifo, _control_block(vcpu)
    if fifo is None or control_block is None:
        return Taken(was_linked=False, passed_over=[])
    take_ready(vcpu, control_block)
    for priority in range(FIFO_QUEUES):
        # The head of a queue that is not ready is a leftover; its port may be on another queue.
        queued = list(queued_ports(vcpu, priority)) if vcpu.notes.ready >> priority & 1 else []
        if port in queued:
            passed_over = queued[: queued.index(port)]
            for taken in [*passed_over, port]:
                unlink(vcpu, fifo, priority, taken)
            return Taken(was_linked=True, passed_over=passed_over)
    return Taken(was_linked=False, passed_over=[])


def forget_heads(vcpu: "Vcpu") -> None:
    """Forget where the guest stands in its queues, as a kernel that starts again."""
    vcpu.notes.heads.clear()
    vcpu.notes.ready = 0
