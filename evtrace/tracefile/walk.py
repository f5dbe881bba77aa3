"""The record walk: one window in, the places of its records out.

The only loop over records. It finds where each record begins and nothing else: the length of a
record is told by the four highest bits of its header (xen/include/public/trace.h: cycles flag and
number of extra words). Every other column is gathered from these places at once by polars.
"""

from array import array
from dataclasses import dataclass

LENGTHS = tuple(1 + (top & 7) + (2 if top & 8 else 0) for top in range(16))
"""Words of a record by the four highest bits of its header."""

EVENT_MASK = 0x0FFF_FFFF
CLASS_SHIFT = 16
CLASS_MASK = 0xFFF


@dataclass(frozen=True, slots=True)
class Skipped:
    """Words of a window that are no records: first word and how many."""

    first: int
    words: int


@dataclass(frozen=True, slots=True)
class Walked:
    """Word indexes at which the records of a window begin, and what could not be read."""

    starts: "array[int]"
    skipped: list[Skipped]


def walk(words: "memoryview[int]", *, whole: bool = True) -> Walked:
    """Find the records in `words`, the 32-bit words of one window.

    A window that is not `whole` was cut by the end of the file: what is left of its last record
    is skipped. In a whole window records that do not end where the window ends have lost step
    somewhere; those before the first implausible header are kept, and those after the next place
    from which plausible records reach the end.
    """
    starts = array("I")
    end = _step(words, 0, starts)
    if end == len(words):
        return Walked(starts, [])
    if not whole:
        return Walked(starts, [_drop_last(starts, len(words))])
    return _resynchronise(words, starts)


def _step(words: "memoryview[int]", place: int, starts: "array[int]") -> int:
    """Step from record to record; give the word behind the last one, which may lie outside."""
    count = len(words)
    lengths = LENGTHS
    append = starts.append
    while place < count:
        append(place)
        place += lengths[words[place] >> 28]
    return place


def _drop_last(starts: "array[int]", end: int) -> Skipped:
    first = starts.pop()
    return Skipped(first, end - first)


def is_plausible(header: int) -> bool:
    """Tell whether a header's event belongs to exactly one class."""
    classes = header >> CLASS_SHIFT & CLASS_MASK
    return classes != 0 and classes & (classes - 1) == 0


def _resynchronise(words: "memoryview[int]", starts: "array[int]") -> Walked:
    wrong = next((i for i, start in enumerate(starts) if not is_plausible(words[start])), None)
    if wrong is None:  # every header looks right: only the last record leaves the window
        return Walked(starts, [_drop_last(starts, len(words))])
    first = starts[wrong]
    kept = starts[:wrong]
    resumed = _resume(words, first + 1)
    _step(words, resumed, kept)
    return Walked(kept, [Skipped(first, resumed - first)])


def _resume(words: "memoryview[int]", earliest: int) -> int:
    """Find the first word from which plausible records reach the end of the window exactly."""
    count = len(words)
    reaches = bytearray(count + max(LENGTHS))
    reaches[count] = 1
    resumed = count
    for place in range(count - 1, earliest - 1, -1):
        header = words[place]
        if reaches[place + LENGTHS[header >> 28]] and is_plausible(header):
            reaches[place] = 1
            resumed = place
    return resumed
