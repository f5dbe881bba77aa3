"""Effects: what an operation did that somebody else can see, as plain tuples.

An effect is `(EffectKind, ...)` with the fields of `EFFECT_FIELDS` behind the kind. Events come
first, in the order in which they happened; then the difference in shared memory by ascending
domain: runs of pending and mask bits, the vcpu_info of each vCPU, runs of FIFO event words, then
ready bits and queue heads.
"""

from collections.abc import Mapping
from enum import IntEnum, unique
from typing import TYPE_CHECKING, Final, TypeAlias

from evtrace.xen.abi import PAGE_WORDS
from evtrace.xen.memory import MASK_BASE, PAGE_BASE, VCPU_BASE, VCPU_WORDS

if TYPE_CHECKING:
    from evtrace.xen.domain import Domain

Effect: TypeAlias = tuple[int, ...]


@unique
class EffectKind(IntEnum):
    """What happened; from PENDING on: a word or a run of bits in shared memory that changed."""

    SET_PENDING = 0
    UPCALL = 1
    WAKE = 2
    XEN_NOTIFY = 3
    PIRQ_AFFINITY = 4
    CONTINUATION = 5
    PENDING = 6
    MASK = 7
    SEL = 8
    UPCALL_PENDING = 9
    UPCALL_MASK = 10
    WORD = 11
    READY = 12
    HEAD = 13


EFFECT_FIELDS: Final[dict[EffectKind, tuple[str, ...]]] = {
    EffectKind.SET_PENDING: ("dom", "vcpu", "port", "was", "masked"),
    EffectKind.UPCALL: ("dom", "vcpu", "new"),
    EffectKind.WAKE: ("dom", "vcpu"),
    EffectKind.XEN_NOTIFY: ("dom", "vcpu", "port"),
    EffectKind.PIRQ_AFFINITY: ("dom", "pirq", "vcpu"),
    EffectKind.CONTINUATION: ("op",),
    EffectKind.PENDING: ("dom", "port", "n", "v"),
    EffectKind.MASK: ("dom", "port", "n", "v"),
    EffectKind.SEL: ("dom", "vcpu", "v"),
    EffectKind.UPCALL_PENDING: ("dom", "vcpu", "v"),
    EffectKind.UPCALL_MASK: ("dom", "vcpu", "v"),
    EffectKind.WORD: ("dom", "port", "n", "v"),
    EffectKind.READY: ("dom", "vcpu", "v"),
    EffectKind.HEAD: ("dom", "vcpu", "prio", "v"),
}
"""Fields behind the kind: `n` ports from `port` on have the new value `v`."""

_PENDING: Final = EffectKind.PENDING
_MASK: Final = EffectKind.MASK
_VCPU_INFO: Final = (EffectKind.SEL, EffectKind.UPCALL_PENDING, EffectKind.UPCALL_MASK)
"""Kinds of the words of a vcpu_info, in their order in memory."""


def memory_effects(domain: "Domain") -> list[Effect]:
    """Take the difference in the shared memory of `domain` since it was last taken."""
    domid, word_bits = domain.domid, domain.word_bits
    maps: dict[EffectKind, list[tuple[int, int, int]]] = {}
    infos: list[Effect] = []
    pages: dict[int, dict[int, int]] = {}
    for address, old, new in domain.memory.take_changes():
        if address >= PAGE_BASE:
            index = (address - PAGE_BASE) % PAGE_WORDS
            pages.setdefault(address - index, {})[index] = new
        elif address >= VCPU_BASE:
            vcpu, word = divmod(address - VCPU_BASE, VCPU_WORDS)
            infos.append((_VCPU_INFO[word], domid, vcpu, new))
        else:
            kind = _PENDING if address < MASK_BASE else _MASK
            runs = _bit_runs(address % MASK_BASE * word_bits, old, new)
            maps[kind] = _joined(maps[kind], runs) if kind in maps else runs
    effects: list[Effect] = [(kind, domid, *run) for kind, runs in maps.items() for run in runs]
    effects += infos
    return effects + _page_effects(domain, pages) if pages else effects


def _bit_runs(first_port: int, old: int, new: int) -> list[tuple[int, int, int]]:
    """Find the runs of adjacent bits that changed to one value, as (port, n, value)."""
    runs: list[tuple[int, int, int]] = []
    differing = old ^ new
    while differing:
        lowest = differing & -differing
        shift = lowest.bit_length() - 1
        value = new >> shift & 1
        alike = (differing & (new if value else old)) >> shift
        count = (~alike & alike + 1).bit_length() - 1
        differing &= ~((1 << count) - 1 << shift)
        runs.append((first_port + shift, count, value))
    return runs


def _joined(
    runs: list[tuple[int, int, int]], more: list[tuple[int, int, int]]
) -> list[tuple[int, int, int]]:
    """Append runs of the next word; the first may go on where the last one ends."""
    port, count, value = runs[-1]
    next_port, next_count, next_value = more[0]
    if next_port == port + count and next_value == value:
        return [*runs[:-1], (port, count + next_count, value), *more[1:]]
    return [*runs, *more]


def _page_effects(domain: "Domain", pages: Mapping[int, Mapping[int, int]]) -> list[Effect]:
    """Tell changes of guest pages, by word, as whatever Xen uses the pages for, if anything."""
    words: dict[int, int] = {}
    blocks: dict[tuple[int, EffectKind, int], int] = {}
    for view in domain.page_views():
        for page, changes in pages.items():
            for first_port in view.ports_in_page(page):
                words.update((first_port + index, new) for index, new in changes.items())
            for vcpu, slot, index in view.control_words_in_page(page):
                if index in changes:
                    kind = EffectKind.HEAD if slot else EffectKind.READY
                    blocks[vcpu, kind, slot] = changes[index]
    domid = domain.domid
    effects: list[Effect] = [(EffectKind.WORD, domid, *run) for run in _word_runs(words)]
    for (vcpu, kind, slot), new in sorted(blocks.items()):
        where = (vcpu, slot - 2) if slot else (vcpu,)
        effects.append((kind, domid, *where, new))
    return effects


def _word_runs(words: Mapping[int, int]) -> list[tuple[int, int, int]]:
    """Join adjacent ports whose event words are alike into (port, n, word)."""
    runs: list[tuple[int, int, int]] = []
    first = count = value = 0
    for port, word in sorted(words.items()):
        if count and word == value and port == first + count:
            count += 1
            continue
        if count:
            runs.append((first, count, value))
        first, count, value = port, 1, word
    return [*runs, (first, count, value)] if count else runs
