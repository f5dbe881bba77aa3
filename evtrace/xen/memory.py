"""Memory that a domain shares with Xen: a sparse map of words, and what was in them before.

One address space holds the event bit maps of shared_info, the vcpu_info of each vCPU, and the
pages that the guest lends for the FIFO form. The journal keeps the first old value of every word
written, so the difference an operation made is known without comparing all memory.
"""

from collections.abc import Mapping
from typing import Final

from evtrace.xen.abi import PAGE_WORDS

PENDING_BASE: Final = 0
"""First word of evtchn_pending."""
MASK_BASE: Final = 64
"""First word of evtchn_mask."""
VCPU_BASE: Final = 128
VCPU_WORDS: Final = 3
SELECTOR: Final = 0
UPCALL_PENDING: Final = 1
UPCALL_MASK: Final = 2
"""Words of one vcpu_info behind its base."""
PAGE_BASE: Final = 1 << 20
"""First word of guest page 0; the vCPUs before it are more than Xen allows."""


class SharedMemory:
    """Words by address; a word never written is 0."""

    __slots__ = ("journal", "words")

    def __init__(self) -> None:
        self.words: dict[int, int] = {}
        self.journal: dict[int, int] = {}

    def read(self, address: int) -> int:
        """Read a word."""
        return self.words.get(address, 0)

    def write(self, address: int, value: int) -> None:
        """Write a word."""
        words = self.words
        if address not in self.journal:
            self.journal[address] = words.get(address, 0)
        words[address] = value

    def write_many(self, values: Mapping[int, int]) -> None:
        """Write words by address; those that Xen does not look at may be written to `words`."""
        read = self.words.get
        changed = {
            address: old for address, value in values.items() if (old := read(address, 0)) != value
        }
        # What the journal holds already is older, and wins.
        self.journal = changed | self.journal
        self.words.update(values)

    def set_bits(self, address: int, bits: int) -> bool:
        """Set `bits` of a word; tell whether any of them was set before."""
        old = self.words.get(address, 0)
        if old & bits != bits:
            self.write(address, old | bits)
        return old & bits != 0

    def clear_bits(self, address: int, bits: int) -> bool:
        """Clear `bits` of a word; tell whether any of them was set before."""
        old = self.words.get(address, 0)
        if old & bits == 0:
            return False
        self.write(address, old & ~bits)
        return True

    def take_changes(self) -> list[tuple[int, int, int]]:
        """List (address, old, new) of the words that differ since the last call, by address."""
        words = self.words
        changes = [
            (address, old, words[address])
            for address, old in sorted(self.journal.items())
            if words[address] != old
        ]
        self.journal.clear()
        return changes

    def clone(self) -> "SharedMemory":
        """Copy the words; the copy's journal is empty."""
        copy = SharedMemory()
        copy.words = self.words.copy()
        return copy


def page_address(gfn: int) -> int:
    """Address of the first word of the guest page `gfn`."""
    return PAGE_BASE + gfn * PAGE_WORDS
