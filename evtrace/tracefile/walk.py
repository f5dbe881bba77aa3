"""The record walk: the only loop over records, and how it finds its way after damage.

A record is a header word, two TSC words if bit 31 of the header is set, and as many payload words
as bits 28-30 say (xen/include/public/trace.h, struct t_rec). Its length is therefore a matter of
the header's top four bits. Plain typed Python: Cython or mypyc can compile it.
"""

from array import array
from dataclasses import dataclass

WINDOW_HEADER = 0x2001F003
"""First word of a window: TRC_TRACE_CPU_CHANGE with two words and no TSC."""

LENGTHS = tuple(1 + (bits & 7) + 2 * (bits >> 3) for bits in range(16))
"""Length of a record in words, by the top four bits of its header."""

CLASSES = (0x001, 0x002, 0x004, 0x008, 0x010, 0x020, 0x040, 0x080, 0x800)
"""Bits 16-27 of an event: GEN SCHED DOM0OP HVM MEM PV SHADOW HW GUEST, one of them at a time."""


def _known_classes() -> bytes:
    known = bytearray(1 << 16)
    for cls in CLASSES:
        for subclass in range(1, 16):
            known[cls << 4 | subclass] = 1
    return bytes(known)


KNOWN = _known_classes()
"""1 where bits 12-27 of an event are one known class with at least one bit of sub-class.

Xen's filter lets no other event into a buffer.
"""

_CHAIN = 4
"""So many plausible records in a row are taken for records."""
_TO_END = 1 << 30
"""Added to the length of a chain that ends exactly where the window ends."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Words of a window that are not records."""

    at: int
    words: int
    cut: bool
    """The record that starts here is longer than what is left of the window."""


def walk(words: "array[int]", starts: "array[int]", odd: list[int], at: int) -> int:
    """Append the start of every record from word `at` to the end of `words` to `starts`.

    Starts of records of no known class go to `odd` as well. Gives the word at which the last
    whole record ends: less than `len(words)` if the next one is longer than what is left.
    """
    end = len(words)
    lengths = LENGTHS
    known = KNOWN
    append = starts.append
    here = at
    while at < end:
        here = at
        header = words[at]
        append(at)
        if not known[header >> 12 & 0xFFFF]:
            odd.append(at)
        at += lengths[header >> 28]
    if at == end:
        return end
    starts.pop()
    if odd and odd[-1] == here:
        odd.pop()
    return here


def mend(words: "array[int]", begin: int) -> "tuple[array[int], list[int], list[Gap]]":
    """Walk from word `begin` to the end of `words`, where a plain `walk` met damage.

    Gives the starts of the records, those of them that are framed well but of no known class,
    and the gaps. Every record before the damage is kept; after it the walk goes on where
    plausible headers follow each other, at best exactly to the end.
    """
    end = len(words)
    chains = _chains(words, begin)
    starts, odd, gaps = array("I"), list[int](), list[Gap]()
    at = begin
    while at < end:
        if chains[at - begin]:
            starts.append(at)
            at += LENGTHS[words[at] >> 28]
            continue
        missized = _first_chain(chains, begin, starts[-1] + 1 if starts else at, at)
        if missized < at:
            at = starts.pop()
            resume = missized
        else:
            framed = _framed(words, chains, begin, at)
            if framed:
                starts.extend(framed)
                odd.extend(framed)
                at = framed[-1] + LENGTHS[words[framed[-1]] >> 28]
                continue
            resume = _first_chain(chains, begin, at + 1, end)
        cut = resume == end and at + LENGTHS[words[at] >> 28] > end
        gaps.append(Gap(at, resume - at, cut))
        at = resume
    return starts, odd, gaps


def _chains(words: "array[int]", begin: int) -> list[int]:
    """Count for every word the plausible records in a row that start there; 0 for none."""
    end = len(words)
    chains = [0] * (end - begin) + [_TO_END]
    for at in range(end - 1, begin - 1, -1):
        header = words[at]
        after = at + LENGTHS[header >> 28]
        if after <= end and KNOWN[header >> 12 & 0xFFFF]:
            chains[at - begin] = chains[after - begin] + 1
    return chains


def _first_chain(chains: list[int], begin: int, at: int, stop: int) -> int:
    """Give the first word from `at` on where a trustworthy chain starts, `stop` if none does."""
    for here in range(at, stop):
        chain = chains[here - begin]
        if _CHAIN <= chain < _TO_END or chain >= _TO_END + 2:
            return here
    return stop


def _framed(words: "array[int]", chains: list[int], begin: int, at: int) -> list[int]:
    """Give the records of no known class from `at` on, if they lead to one of a known class.

    They do not if trustworthy ones start earlier: then the lengths of these are no lengths.
    """
    end, here = len(words), at
    framed = []
    while here < end and not KNOWN[words[here] >> 12 & 0xFFFF]:
        framed.append(here)
        here += LENGTHS[words[here] >> 28]
    if here > end:
        return []
    return framed if _first_chain(chains, begin, at + 1, here) == here else []
