"""The FIFO form: an array of event words, linked into a queue per vCPU and priority (event_fifo.c).

Array and control blocks lie in pages that the guest lends; a page may serve twice, as the guest
likes. Only the tails of the queues are Xen's own.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from evtrace.xen.abi import (
    CONTROL_BLOCK_BYTES,
    FIFO_BUSY,
    FIFO_DEFAULT_PRIORITY,
    FIFO_LIMIT,
    FIFO_LINK_MASK,
    FIFO_LINKED,
    FIFO_MASKED,
    FIFO_PENDING,
    FIFO_QUEUES,
    PAGE_BYTES,
    PAGE_WORDS,
    Errno,
    FormName,
    HypercallError,
)
from evtrace.xen.effects import EffectKind
from evtrace.xen.form import Bit, Form
from evtrace.xen.memory import page_address

if TYPE_CHECKING:
    from evtrace.xen.domain import Domain
    from evtrace.xen.port import Port
    from evtrace.xen.vcpu import Vcpu

_SET_PENDING = EffectKind.SET_PENDING

_MASKED_OR_LINKED: Final = FIFO_MASKED | FIFO_LINKED

READY: Final = 0
HEADS: Final = 2
"""Words of a control block: ready bits, padding, a head for each priority."""
_CONTROL_WORDS: Final = (READY, *range(HEADS, HEADS + FIFO_QUEUES))

_SEEDED_CONTROL_GFN: Final = 1 << 60
_SEEDED_ARRAY_GFN: Final = 1 << 61
"""Guest pages of seeded domains, beyond any that a guest can name."""


class VcpuQueues:
    """The queues of one vCPU: where its control block lies, and their tails."""

    __slots__ = ("control_block", "tails")

    def __init__(self) -> None:
        self.control_block: int | None = None
        """Address of `ready`; None: the guest has not given one."""
        self.tails = [0] * FIFO_QUEUES

    def clone(self) -> "VcpuQueues":
        """Copy them."""
        copy = VcpuQueues()
        copy.control_block, copy.tails = self.control_block, self.tails.copy()
        return copy


class Fifo(Form):
    """An event is linked behind the tail of its queue; only a queue's first makes an upcall."""

    __slots__ = ("array", "queues")

    name = FormName.FIFO

    def __init__(self, domain: "Domain") -> None:
        super().__init__(domain)
        self.array: list[int] = []
        """Addresses of the array's pages, in order."""
        self.queues = [VcpuQueues() for _ in domain.vcpus]

    @property
    def limit(self) -> int:
        """As many ports as a link can name."""
        return FIFO_LIMIT

    def clone(self, domain: "Domain") -> "Fifo":
        """Copy it into the clone of its domain."""
        copy = Fifo(domain)
        copy.array = self.array.copy()
        copy.queues = [queues.clone() for queues in self.queues]
        return copy

    # Words and bits

    def word_address(self, number: int) -> int | None:
        """Find the event word of a port; None: its page is not there (yet)."""
        page, index = divmod(number, PAGE_WORDS)
        return self.array[page] + index if page < len(self.array) else None

    def pending_bit(self, number: int) -> Bit | None:
        """Find PENDING of the port's word."""
        address = self.word_address(number)
        return None if address is None else (address, FIFO_PENDING)

    def mask_bit(self, number: int) -> Bit | None:
        """Find MASKED of the port's word."""
        address = self.word_address(number)
        return None if address is None else (address, FIFO_MASKED)

    def linked(self, number: int) -> bool:
        """Read LINKED of the port's word. evtchn_fifo_is_busy."""
        address = self.word_address(number)
        return address is not None and self.domain.memory.read(address) & FIFO_LINKED != 0

    # Operations

    def init_port(self, port: "Port") -> None:
        """Start at the default priority; a link from before is left as it is. evtchn_fifo_init."""
        port.priority = FIFO_DEFAULT_PRIORITY

    def set_pending(self, port: "Port", vcpu: "Vcpu") -> None:
        """Raise an event; without a word for it, it is saved until there is one.

        evtchn_fifo_set_pending
        """
        domain = self.domain
        number = port.number
        address = self.word_address(number)
        word = FIFO_MASKED if address is None else domain.memory.read(address)
        was, masked = int(word & FIFO_PENDING != 0), int(word & FIFO_MASKED != 0)
        domain.effects.append((_SET_PENDING, domain.domid, vcpu.vcpu_id, number, was, masked))
        if address is None:
            port.saved_pending = True
        else:
            self._raise(port, vcpu, address)

    def drops(self, number: int, vcpu_id: int) -> bool:
        """Tell whether an event is lost: the vCPU has no control block, and there is a word."""
        if self.queues[vcpu_id].control_block is not None:
            return False
        needed = self.domain.profile.fifo_event_needs_control_block
        return needed and self.word_address(number) is not None

    def _raise(self, port: "Port", vcpu: "Vcpu", address: int) -> None:
        """Set PENDING and, unless masked or linked, queue the port; a new event wakes pollers."""
        domain = self.domain
        if self.drops(port.number, vcpu.vcpu_id):
            return
        control_block = self.queues[vcpu.vcpu_id].control_block
        was_pending = domain.memory.set_bits(address, FIFO_PENDING)
        if control_block is not None and not domain.memory.read(address) & _MASKED_OR_LINKED:
            domain.memory.set_bits(address, FIFO_LINKED)
            if self._enqueue(port, vcpu, control_block):
                vcpu.mark_events_pending()
        if not was_pending:
            domain.wake_pollers(port.number)

    def _enqueue(self, port: "Port", vcpu: "Vcpu", control_block: int) -> bool:
        """Put a port that was just marked LINKED on its queue; tell whether that became ready."""
        number, priority = port.number, port.priority
        queues = self.queues[vcpu.vcpu_id]
        # A queue whose tail moves away is empty; a new event must not be linked behind that tail.
        former = self.queues[port.last_vcpu]
        if former.tails[port.last_priority] == number:
            former.tails[port.last_priority] = 0
        port.last_vcpu, port.last_priority = vcpu.vcpu_id, priority

        tail = queues.tails[priority]
        queues.tails[priority] = number
        if tail and self._link_behind(tail, number):
            return False
        memory = self.domain.memory
        memory.write(control_block + HEADS + priority, number)
        return not memory.set_bits(control_block + READY, 1 << priority)

    def _link_behind(self, tail: int, number: int) -> bool:
        """Write the tail's link, if it is still LINKED; else the guest has taken it: empty queue.

        evtchn_fifo_set_link
        """
        address = self.word_address(tail)
        if address is None:
            return False
        word = self.domain.memory.read(address)
        if not word & FIFO_LINKED:
            return False
        self.domain.memory.write(address, word & ~(FIFO_BUSY | FIFO_LINK_MASK) | number)
        return True

    def clear_pending(self, number: int) -> None:
        """Clear PENDING; the guest unlinks, and ignores what is not pending."""
        address = self.word_address(number)
        if address is not None:
            self.domain.memory.clear_bits(address, FIFO_PENDING)

    def unmask(self, port: "Port") -> None:
        """Clear MASKED; if PENDING, raise the event again. evtchn_fifo_unmask."""
        address = self.word_address(port.number)
        if address is None:
            return
        memory = self.domain.memory
        memory.clear_bits(address, FIFO_MASKED)
        if memory.read(address) & FIFO_PENDING:
            self._raise(port, self.domain.vcpus[port.notify_vcpu], address)

    def set_priority(self, port: "Port", priority: int) -> None:
        """Choose the queue for the next time the port is linked. evtchn_fifo_set_priority."""
        if priority >= FIFO_QUEUES:
            raise HypercallError(Errno.EINVAL)
        port.priority = priority

    # Seeding

    def seed_vcpu(self, vcpu_id: int) -> None:
        """Give a vCPU a control block in a page of its own, as a guest did before a capture."""
        while len(self.queues) <= vcpu_id:
            self.queues.append(VcpuQueues())
        self.queues[vcpu_id].control_block = page_address(_SEEDED_CONTROL_GFN + vcpu_id)

    def seed_port(self, port: "Port", word: int) -> None:
        """Store a port's event word, array pages included; if LINKED, at the end of its queue."""
        while self.word_address(port.number) is None:
            self.array.append(page_address(_SEEDED_ARRAY_GFN + len(self.array)))
        address = page_address(_SEEDED_ARRAY_GFN) + port.number
        self.domain.memory.words[address] = word
        control_block = self.queues[port.notify_vcpu].control_block
        if word & FIFO_LINKED and control_block is not None:
            self._enqueue(port, self.domain.vcpus[port.notify_vcpu], control_block)

    # Pages

    def map_control_block(self, vcpu: "Vcpu", gfn: int, offset: int) -> None:
        """Take the control block of a vCPU, once. map_control_block."""
        queues = self.queues[vcpu.vcpu_id]
        if queues.control_block is not None:
            raise HypercallError(Errno.EINVAL)
        queues.control_block = self.domain.map_guest_page(gfn) + offset // 4

    def add_array_page(self, gfn: int) -> None:
        """Append a page of event words and raise what waited for it. add_page_to_event_array."""
        first = len(self.array) * PAGE_WORDS
        if first >= FIFO_LIMIT:
            raise HypercallError(Errno.ENOSPC)
        self.array.append(self.domain.map_guest_page(gfn))
        for port in self.domain.ports[first : first + PAGE_WORDS]:
            if port.saved_pending:
                self.set_pending(port, self.domain.vcpus[port.notify_vcpu])

    def uses_page(self, page: int) -> bool:
        """Tell whether the array or a control block lies in the page."""
        return bool(self.ports_in_page(page)) or any(self.control_words_in_page(page))

    def ports_in_page(self, page: int) -> list[int]:
        """First ports whose event words lie in the page; several, if the guest lent it twice."""
        return [n * PAGE_WORDS for n, start in enumerate(self.array) if start == page]

    def control_words_in_page(self, page: int) -> Iterator[tuple[int, int, int]]:
        """Name (vCPU, word of its control block, word of the page), the padding left out."""
        for vcpu_id, queues in enumerate(self.queues):
            block = queues.control_block
            if block is not None and page <= block < page + PAGE_WORDS:
                for slot in _CONTROL_WORDS:
                    yield vcpu_id, slot, block - page + slot


def check_control_block_offset(offset: int) -> None:
    """Refuse a control block that crosses its page or is not 8-byte aligned."""
    if offset > PAGE_BYTES - CONTROL_BLOCK_BYTES or offset % 8:
        raise HypercallError(Errno.EINVAL)
