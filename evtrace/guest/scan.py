"""Upcalls: how guest kernels find the ports to handle, in the order in which they handle them.

2-level scans follow Linux (drivers/xen/events/events_2l.c) or the simple loop of small kernels;
the FIFO scan is Linux's (events_fifo.c).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from evtrace.guest import bits, queue
from evtrace.xen.abi import Virq
from evtrace.xen.memory import MASK_BASE, PENDING_BASE

if TYPE_CHECKING:
    from evtrace.xen.vcpu import Vcpu


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRules:
    """How a kernel scans and what it does to a port before its handler runs."""

    round_robin: bool = True
    """2-level: go on behind the port handled last; else from the lowest port up."""
    bound_only: bool = False
    """2-level: leave out ports that are bound to another vCPU."""
    masks: bool = False
    clears: bool = True
    force: bool = False
    """Scan even if no upcall is due."""
    limit: int | None = None
    """FIFO: stop after so many words."""


@dataclass(slots=True)
class Upcall:
    """What an upcall came to: ports handled in order; FIFO heads that lay outside the array."""

    handled: list[int] = field(default_factory=list)
    bad_heads: int = 0


DEFAULT_RULES: Final = ScanRules()


def run_upcall(vcpu: "Vcpu", rules: ScanRules = DEFAULT_RULES) -> Upcall | None:
    """Run the event handler of a vCPU until its upcall flag stays clear; None: none is due."""
    if not (vcpu.wants_upcall or rules.force):
        return None
    upcall = Upcall()
    while True:
        bits.clear_upcall_pending(vcpu)
        _scan_once(vcpu, rules, upcall)
        if not vcpu.upcall_pending:
            return upcall


def _scan_once(vcpu: "Vcpu", rules: ScanRules, upcall: Upcall) -> None:
    domain = vcpu.domain

    def handle(port: int) -> None:
        upcall.handled.append(port)
        if rules.masks:
            bits.mask(domain, port)
        if rules.clears:
            bits.clear_pending(domain, port)

    if domain.fifo:
        upcall.bad_heads += queue.scan(vcpu, handle, rules.limit)
        return
    for port in find_active(vcpu, rules):
        handle(port)


def find_active(vcpu: "Vcpu", rules: ScanRules) -> Iterator[int]:
    """Find the ports to handle, 2-level; each is looked for when the one before is done with."""
    scan = _scan_round_robin if rules.round_robin else _scan_ascending
    return scan(vcpu, bound_only=rules.bound_only)


def _active_bits(vcpu: "Vcpu", word: int, *, bound_only: bool) -> int:
    """Find what is pending and not masked and, if asked, this vCPU's. active_evtchns."""
    domain = vcpu.domain
    read = domain.memory.read
    active = read(PENDING_BASE + word) & ~read(MASK_BASE + word)
    if bound_only and active:
        first = word * domain.word_bits
        for port in domain.ports[first : first + domain.word_bits]:
            if port.notify_vcpu != vcpu.vcpu_id:
                active &= ~(1 << (port.number - first))
    return active


def _take_selector(vcpu: "Vcpu") -> int:
    selector = vcpu.selector
    vcpu.domain.memory.write(vcpu.selector_address, 0)
    return selector


def _scan_round_robin(vcpu: "Vcpu", *, bound_only: bool) -> Iterator[int]:
    """Scan as evtchn_2l_handle_events: the timer first, then onwards from the last port handled."""
    word_bits = vcpu.domain.word_bits
    timer = vcpu.virqs.get(Virq.TIMER)
    if timer is not None:
        word, bit = divmod(timer, word_bits)
        if _active_bits(vcpu, word, bound_only=bound_only) >> bit & 1:
            yield timer
    selector = _take_selector(vcpu)
    start_word, start_bit = vcpu.notes.word, vcpu.notes.bit
    words = _set_bits_from(selector, start_word, word_bits)
    for visit, word in enumerate(words):
        active = _active_bits(vcpu, word, bound_only=bound_only)
        if visit == 0 and word == start_word:
            active &= -1 << start_bit
            # Only its upper part is looked at now: it comes again at the end, as a whole.
            words.append(word)
        yield from _take_word(vcpu, word, active)


def _set_bits_from(value: int, start: int, width: int) -> list[int]:
    """List the bits set in `value`, ascending from `start` and around."""
    around = [*range(start, width), *range(start)] if value else []
    return [bit for bit in around if value >> bit & 1]


def _take_word(vcpu: "Vcpu", word: int, active: int) -> Iterator[int]:
    """Take the active bits of a word in ascending order; the next scan starts behind the last."""
    word_bits = vcpu.domain.word_bits
    while active:
        lowest = active & -active
        active ^= lowest
        bit = lowest.bit_length() - 1
        yield word * word_bits + bit
        next_word, vcpu.notes.bit = divmod(bit + 1, word_bits)
        vcpu.notes.word = (word + next_word) % word_bits


def _scan_ascending(vcpu: "Vcpu", *, bound_only: bool) -> Iterator[int]:
    """Scan from the lowest word up; take a word's lowest active bit until there is none.

    A handler that leaves its port active would be called for ever: then the word is left.
    """
    word_bits = vcpu.domain.word_bits
    for word in _set_bits_from(_take_selector(vcpu), 0, word_bits):
        last = -1
        while active := _active_bits(vcpu, word, bound_only=bound_only):
            bit = (active & -active).bit_length() - 1
            if bit == last:
                break
            yield word * word_bits + bit
            last = bit
