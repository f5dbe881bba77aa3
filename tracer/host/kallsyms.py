"""kallsyms: the kernel's own table of symbols, as /proc shows it and as an image holds it.

A stripped vmlinux holds the table all the same (Linux: scripts/kallsyms.c). Its parts have no names
there; each is found by what it must look like, and checked against the others.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

_TEXT_TYPES = frozenset("tTwW")
_DIGITS = b"".join(b"%d\0" % digit for digit in range(10))
"""Ten neighbours in the table of tokens: what a symbol's name holds unchanged stands for itself."""
_TOKENS = 256
_TABLE_BYTES = 1 << 14
_PER_MARKER = 256
_MAX_PADDING = 64
_MAX_ORDER_BYTES = 1 << 23
"""What may lie between markers and tokens."""
_MAX_NAME_BYTES = 64
"""More than a name takes on the average."""
_FALSE_MARKERS = 8
"""More words than chance makes rise."""


class Symbol(NamedTuple):
    """A symbol of code or data. A kernel has a hundred thousand."""

    name: str
    address: int
    kind: str
    """As nm(1) shows it: t and T are text."""
    module: str = ""
    """Empty for the kernel itself."""

    @property
    def is_code(self) -> bool:
        """Whether it may name a function."""
        return self.kind in _TEXT_TYPES


def parse_kallsyms(lines: Iterable[str]) -> Iterator[Symbol]:
    """Read /proc/kallsyms, or a System.map; lines of another form are skipped."""
    for line in lines:
        parts = line.split()
        if len(parts) in {3, 4} and len(parts[1]) == 1:
            module = parts[3].strip("[]") if len(parts) == 4 else ""
            yield Symbol(parts[2], int(parts[0], 16), parts[1], module)


def decode_kallsyms(image: bytes) -> list[Symbol]:
    """Give the symbols in an image of a 64-bit kernel; none if it holds no table that is known."""
    for digits in re.finditer(re.escape(_DIGITS), image):
        tokens = _read_tokens(image, digits.start())
        if tokens is not None:
            symbols = _Table(image, tokens).symbols()
            if symbols:
                return symbols
    return []


@dataclass(frozen=True, slots=True)
class _Tokens:
    start: int
    end: int
    """Behind the index that follows the table."""
    texts: list[bytes]


def _read_tokens(image: bytes, digits: int) -> _Tokens | None:
    """Find the table of tokens around its digits; the index behind it must agree."""
    start = digits
    for _ in range(ord("0")):
        start = image.rfind(b"\0", max(0, start - _TABLE_BYTES), start - 1) + 1
        if start <= 0:
            return None
    # the first token begins behind padding, which looks like the end of a token before it
    texts = image[start : start + _TABLE_BYTES].split(b"\0")[:_TOKENS]
    if len(texts) < _TOKENS:
        return None
    offsets = [0]
    for text in texts:
        offsets.append(offsets[-1] + len(text) + 1)
    behind = start + offsets.pop()
    index = struct.pack(f"<{_TOKENS}H", *offsets) if offsets[-1] < 1 << 16 else None
    found = image.find(index, behind, behind + len(index) + _MAX_PADDING) if index else -1
    return None if found < 0 else _Tokens(start, found + 2 * _TOKENS, texts)


class _Table:
    """The parts of the table around its tokens: Linux 4.20 to 6.x."""

    def __init__(self, image: bytes, tokens: _Tokens) -> None:
        self._image = image
        self._tokens = tokens

    def symbols(self) -> list[Symbol]:
        for markers_start, markers in self._markers():
            for names_start, count in self._names(markers_start, markers):
                entries = list(self._entries(names_start, count))
                for addresses in self._addresses(names_start, count):
                    return [
                        Symbol(text[1:].decode("ascii", "replace"), address, chr(text[0]))
                        for text, address in zip(entries, addresses, strict=True)
                    ]
        return []

    def _u32(self, at: int) -> int:
        return int(struct.unpack_from("<I", self._image, at)[0])

    def _markers(self) -> Iterator[tuple[int, list[int]]]:
        """Find the offsets of every 256th name: words that rise from 0, in front of the tokens.

        Some kernels have the order of the names in between (6.1 to 6.3), which may seem to go on
        rising: words that are none may be at the end of what is given.
        """
        first = max(0, self._tokens.start % 4, self._tokens.start - _MAX_ORDER_BYTES)
        first += (self._tokens.start - first) % 4
        words = struct.unpack_from(f"<{(self._tokens.start - first) // 4}I", self._image, first)
        last = len(words) - 1
        while last > 0:
            at = last
            while at > 0 and words[at - 1] < words[at]:
                at -= 1
            if words[at] == 0 and last > at:
                yield first + 4 * at, list(words[at : last + 1])
            last = at - 1

    def _names(self, markers_start: int, markers: list[int]) -> Iterator[tuple[int, int]]:
        """Find the names, in front of the markers, and their number, in front of them."""
        sure = markers[max(1, len(markers) - _FALSE_MARKERS)]
        highest = markers_start - sure
        lowest = max(8, highest - _MAX_NAME_BYTES * _PER_MARKER * _FALSE_MARKERS)
        for start in range(highest - highest % 8, lowest, -8):
            count = self._u32(start - 8) or self._u32(start - 4)
            needed = -(-count // _PER_MARKER)
            if not max(1, len(markers) - _FALSE_MARKERS) <= needed <= len(markers):
                continue
            if self._skip(start, _PER_MARKER) == start + markers[1]:
                yield start, count

    def _skip(self, at: int, entries: int) -> int:
        for _ in range(entries):
            length, at = self._length(at)
            at += length
        return at

    def _length(self, at: int) -> tuple[int, int]:
        """Give the length of a name, and where it begins: two bytes for a long one (Linux 6.1)."""
        length = self._image[at]
        if length & 0x80:
            return length & 0x7F | self._image[at + 1] << 7, at + 2
        return length, at + 1

    def _entries(self, at: int, count: int) -> Iterator[bytes]:
        for _ in range(count):
            length, at = self._length(at)
            yield b"".join(self._tokens.texts[token] for token in self._image[at : at + length])
            at += length

    def _addresses(self, names_start: int, count: int) -> Iterator[list[int]]:
        """Find the addresses: before the names (until Linux 6.3), or behind the tokens."""
        before = names_start - 16
        yield from self._relative(before - (4 * count + 7) // 8 * 8, before, count)
        behind = (self._tokens.end + 7) // 8 * 8
        yield from self._relative(behind, behind + (4 * count + 7) // 8 * 8, count)

    def _relative(self, offsets: int, base: int, count: int) -> Iterator[list[int]]:
        if offsets < 0 or base + 8 > len(self._image):
            return
        origin = int(struct.unpack_from("<Q", self._image, base)[0])
        if origin >> 32 != 0xFFFFFFFF:
            return
        values = struct.unpack_from(f"<{count}i", self._image, offsets)
        if any(value < 0 for value in values):  # those of the CPUs' own areas are absolute
            yield [value if value >= 0 else origin - 1 - value for value in values]
        else:
            yield [origin + value for value in values]
