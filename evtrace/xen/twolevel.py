"""The 2-level form: bit maps for pending and mask, one selector word per vCPU (event_2l.c)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from evtrace.xen.abi import FormName
from evtrace.xen.effects import EffectKind
from evtrace.xen.form import Bit, Form
from evtrace.xen.memory import MASK_BASE, PENDING_BASE

if TYPE_CHECKING:
    from evtrace.xen.port import Port
    from evtrace.xen.vcpu import Vcpu

_SET_PENDING = EffectKind.SET_PENDING


class TwoLevel(Form):
    """A bit is announced by the selector bit of its word; only a new one makes an upcall."""

    __slots__ = ()

    name = FormName.TWO_LEVEL

    @property
    def limit(self) -> int:
        """4096 ports, for a 32-bit guest 1024: the selector has one bit for each word."""
        return self.domain.word_bits * self.domain.word_bits

    def init_port(self, port: "Port") -> None:
        """Leave it: mask and pending are as the guest left them."""

    def set_pending(self, port: "Port", vcpu: "Vcpu") -> None:
        """Set the pending bit; if new, tell the vCPU unless masked, and wake pollers in any case.

        evtchn_2l_set_pending
        """
        domain = self.domain
        memory = domain.memory
        word, shift = divmod(port.number, domain.word_bits)
        bit = 1 << shift
        was = memory.read(PENDING_BASE + word) & bit != 0
        masked = memory.read(MASK_BASE + word) & bit != 0
        domain.effects.append(
            (_SET_PENDING, domain.domid, vcpu.vcpu_id, port.number, int(was), int(masked))
        )
        if was:
            return
        memory.set_bits(PENDING_BASE + word, bit)
        if not masked:
            self.select(vcpu, word)
        domain.wake_pollers(port.number)

    def clear_pending(self, number: int) -> None:
        """Clear the pending bit; selector and upcall flag stay. evtchn_2l_clear_pending."""
        self.domain.memory.clear_bits(*self.pending_bit(number))

    def unmask(self, port: "Port") -> None:
        """Act only if the bit was masked: then a pending one is announced. evtchn_2l_unmask."""
        memory = self.domain.memory
        if memory.clear_bits(*self.mask_bit(port.number)) and self.pending(port.number):
            self.select(self.domain.vcpus[port.notify_vcpu], port.number // self.domain.word_bits)

    def select(self, vcpu: "Vcpu", word: int) -> None:
        """Set the selector bit of a word; a new one makes an upcall."""
        if not self.domain.memory.set_bits(vcpu.selector_address, 1 << word):
            vcpu.mark_events_pending()

    def pending_bit(self, number: int) -> Bit:
        """Find the bit in evtchn_pending; every port of the form has one."""
        word, shift = divmod(number, self.domain.word_bits)
        return PENDING_BASE + word, 1 << shift

    def pending_ports(self) -> Iterator[int]:
        """Name all ports whose pending bit is set, whether they exist or not."""
        word_bits = self.domain.word_bits
        for word in range(word_bits):
            bits = self.domain.memory.read(PENDING_BASE + word)
            while bits:
                lowest = bits & -bits
                bits ^= lowest
                yield word * word_bits + lowest.bit_length() - 1

    def mask_bit(self, number: int) -> Bit:
        """Find the bit in evtchn_mask; every port of the form has one."""
        word, shift = divmod(number, self.domain.word_bits)
        return MASK_BASE + word, 1 << shift

    def linked(self, number: int) -> bool:
        """Say no: there are no queues."""
        del number
        return False
