"""The window index: one hop a window, and the search for the next one after damage.

A window is three words (xentrace's CPU_CHANGE record: header, CPU, bytes that follow) and the
records of one CPU. There is no other framing in the file.
"""

import mmap
import struct
from array import array
from dataclasses import dataclass

from evtrace.tracefile.damage import Damage, DamageKind
from evtrace.tracefile.walk import WINDOW_HEADER, walk

HEADER_BYTES = 12
MAGIC = struct.pack("<I", WINDOW_HEADER)
BIG_ENDIAN_MAGIC = struct.pack(">I", WINDOW_HEADER)
STREAMS = 1 << 17
"""Streams are numbered below this: physical CPUs, then those of evtrace's own records."""

_HEADER = struct.Struct("<IiI")


@dataclass(frozen=True, slots=True)
class Window:
    """Records of one stream: `size` bytes, all of them in the file, after the header."""

    stream: int
    offset: int
    """Byte at which the header starts."""
    size: int

    @property
    def start(self) -> int:
        """Byte at which the records start."""
        return self.offset + HEADER_BYTES

    @property
    def end(self) -> int:
        """Byte behind the last record."""
        return self.start + self.size


class WindowIndex:
    """The windows of a file and the damage between them."""

    def __init__(self, data: mmap.mmap | bytes) -> None:
        """Hop over `data` from header to header."""
        self.windows: list[Window] = []
        self.damage: list[Damage] = []
        self._data = data
        self._size = len(data)
        at = 0
        while at < self._size:
            at = self._take(at)

    def _take(self, at: int) -> int:
        """Take what stands at byte `at`: a window or garbage; give where the next starts."""
        if self._size - at < HEADER_BYTES:
            return self._skip(DamageKind.HEADER_CUT, at, self._size, "window header cut short")
        magic, stream, size = _HEADER.unpack_from(self._data, at)
        window = Window(stream, at, size)
        if magic != WINDOW_HEADER:
            return self._without_magic(window)
        if size and size % 4 == 0 and self._leads_on(window) and not self._swallows(window):
            self.windows.append(window)
            return window.end
        return self._wrong_size(window)

    def _without_magic(self, window: Window) -> int:
        """Take a window whose header is broken but which lies where one must be, or garbage."""
        at = window.offset
        if (at == 0 or self.windows) and self._fits(window):
            self._report(DamageKind.HEADER_BROKEN, at, 4, "window header has a broken first word")
            self.windows.append(window)
            return window.end
        return self._skip(DamageKind.GARBAGE, at, self._next(at + 1), "no window header here")

    def _wrong_size(self, window: Window) -> int:
        """Take a window whose size does not lead to another one."""
        after = self._next(window.start)
        if not window.size and after == window.start:
            self._report(DamageKind.WINDOW_EMPTY, window.offset, 0, "window of size 0")
            return after
        if self._stands(window) and (
            self._header_fits(window.end) or not self._is_whole(window.start, after)
        ):
            self.windows.append(window)
            return window.end
        return self._resize(window, after)

    def _resize(self, window: Window, after: int) -> int:
        """Let a window end at the next one, at `after`, or where it says itself."""
        room = after - window.start
        if window.end > self._size and after == self._size:
            missing = window.end - self._size
            message = f"window cut short: {missing} of its {window.size} bytes are missing"
            self._report(DamageKind.WINDOW_CUT, window.offset, missing, message)
        else:
            wrong = abs(room - window.size)
            message = f"window size {window.size}, but the next window starts after {room} bytes"
            self._report(DamageKind.WINDOW_SIZE, window.offset, wrong, message)
            if window.size < room and not self._is_whole(window.start, after):
                room = window.size
        if room:
            self.windows.append(Window(window.stream, window.offset, room))
        return window.start + room

    def _stands(self, window: Window) -> bool:
        """Whether the window holds as many whole records as it says."""
        end = window.end
        return window.size > 0 and end <= self._size and self._is_whole(window.start, end)

    def _header_fits(self, at: int) -> bool:
        """Whether byte `at` starts a window, whatever its first word."""
        if at + HEADER_BYTES > self._size:
            return False
        _, stream, size = _HEADER.unpack_from(self._data, at)
        return self._fits(Window(stream, at, size))

    def _fits(self, window: Window) -> bool:
        """Whether stream, size and records are such as a window has."""
        is_stream = 0 <= window.stream < STREAMS
        return is_stream and self._leads_on(window) and self._stands(window)

    def _swallows(self, window: Window) -> bool:
        """Whether the window holds a header that leads on itself: the size is too large."""
        inner = self._data.find(MAGIC, window.start, window.end)
        return inner >= 0 and self._header_fits(inner) and self._is_whole(window.start, inner)

    def _leads_on(self, window: Window) -> bool:
        """Whether a header follows the window, or as much of one as fits, or the file ends."""
        end = window.end
        return end <= self._size and MAGIC.startswith(self._data[end : end + 4])

    def _is_whole(self, start: int, end: int) -> bool:
        """Whether the bytes are whole records of known classes."""
        if (end - start) % 4:
            return False
        words, odd = array("I", self._data[start:end]), list[int]()
        return walk(words, array("I"), odd, 0) == len(words) and not odd

    def _next(self, at: int) -> int:
        """Find the next window's header from byte `at` on; the end of the file if there is none."""
        while (at := self._data.find(MAGIC, at)) >= 0:
            if at + HEADER_BYTES > self._size:
                return at
            _, stream, _ = _HEADER.unpack_from(self._data, at)
            if 0 <= stream < STREAMS:
                return at
            at += 1
        return self._size

    def _skip(self, kind: DamageKind, at: int, to: int, message: str) -> int:
        self._report(kind, at, to - at, f"{message}, {to - at} bytes skipped")
        return to

    def _report(self, kind: DamageKind, offset: int, count: int, message: str) -> None:
        self.damage.append(Damage(offset, kind, count, message))
