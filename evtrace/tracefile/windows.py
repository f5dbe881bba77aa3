"""The window index: where each window of a file lies, found by hopping from header to header.

A window is what xentrace copied from one pCPU's ring (tools/xentrace/xentrace.c): a 12-byte header
(TRC_TRACE_CPU_CHANGE, cpu, size) and whole records.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from evtrace.tracefile.damage import Damage, DamageKind
from evtrace.tracefile.records import WINDOW_HEADER, WINDOW_HEADER_BYTES
from evtrace.tracefile.walk import walk

MAGIC = struct.pack("<I", WINDOW_HEADER)
BIG_ENDIAN_MAGIC = struct.pack(">I", WINDOW_HEADER)


@dataclass(frozen=True, slots=True)
class Window:
    """The records of one window: `size` bytes at byte `offset`, of one pCPU or stream."""

    stream: int
    offset: int
    size: int
    whole: bool = True
    """It ends where its header says, so its records should, too."""


def index_windows(data: memoryview, damage: list[Damage]) -> list[Window]:
    """Find all windows of a file; what belongs to none goes into `damage`."""
    return [window for window in _hop(data, damage) if window.size]


def _hop(data: memoryview, damage: list[Damage]) -> Iterator[Window]:
    place = 0
    while place < len(data):
        if data[place : place + 4] != MAGIC:
            place = _skip_to_window(data, place, damage)
        elif len(data) - place < WINDOW_HEADER_BYTES:
            left = len(data) - place
            message = f"the file ends {left} bytes into a window header"
            damage.append(Damage(DamageKind.CUT_HEADER, place, left, message))
            return
        else:
            window = _window_at(data, place, damage)
            yield window
            place = window.offset + window.size
            place += _odd_bytes(data, place)


def _odd_bytes(data: memoryview, place: int) -> int:
    """Step over up to three bytes by which a window's size is no multiple of 4."""
    for odd in range(1, 4):
        if data[place : place + 4] != MAGIC and data[place + odd : place + odd + 4] == MAGIC:
            return odd
    return 0


def _skip_to_window(data: memoryview, place: int, damage: list[Damage]) -> int:
    following = _next_window(data, place + 1)
    count = following - place
    message = f"{count} bytes belong to no window"
    if data[place : place + 4] == BIG_ENDIAN_MAGIC:
        message += "; they look like those of a big-endian machine"
    damage.append(Damage(DamageKind.NO_WINDOW, place, count, message))
    return following


def _window_at(data: memoryview, place: int, damage: list[Damage]) -> Window:
    """Read a window header; where its size cannot be right, end the window at the next header."""
    stream, size = struct.unpack_from("<iI", data, place + 4)
    offset = place + WINDOW_HEADER_BYTES
    left = len(data) - offset
    if size == 0:
        damage.append(Damage(DamageKind.EMPTY_WINDOW, place, 0, "a window of no bytes"))
        return Window(stream, offset, 0)
    if size <= left and size % 4 == 0 and _is_credible(data, offset, size):
        return Window(stream, offset, size)
    following = _next_window(data, offset)
    found = following - offset
    whole = following < len(data)
    kind = DamageKind.ODD_WINDOW
    message = f"the header says {size} bytes, the next window begins after {found}"
    if not whole:
        kind = DamageKind.SHORT_WINDOW if size > left else DamageKind.ODD_WINDOW
        message = f"the header says {size} bytes, the file has {left}: {size - left} are missing"
        found = min(size, left)
    damage.append(Damage(kind, place, abs(size - found), message))
    return Window(stream, offset, found - found % 4, whole=whole and found % 4 == 0)


def _is_credible(data: memoryview, offset: int, size: int) -> bool:
    """Tell whether a window of this size can be: another follows it, or its records fill it."""
    end = offset + size
    if end == len(data) or data[end : end + 4] == MAGIC:
        return True
    return not walk(data[offset:end].cast("I")).skipped


def _next_window(data: memoryview, place: int) -> int:
    """Find the next header whose window fits into the file; the file's end if there is none."""
    raw = data.obj
    find = getattr(raw, "find", None)
    while True:
        place = find(MAGIC, place) if find else bytes(data).find(MAGIC, place)
        if place < 0 or len(data) - place < WINDOW_HEADER_BYTES:
            return len(data)
        size = int.from_bytes(data[place + 8 : place + 12], "little")
        end = place + WINDOW_HEADER_BYTES + size
        if end == len(data) or (end < len(data) and data[end : end + 4] == MAGIC):
            return place
        place += 1
