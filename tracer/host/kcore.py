"""/proc/kcore: the memory of the running kernel as an ELF core file (Linux: fs/proc/kcore.c)."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_PT_LOAD = 1
_HEADER = struct.Struct("<4x12xHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")


@dataclass(frozen=True, slots=True)
class Kcore:
    """The memory; addresses that no segment holds read as nothing."""

    file: BinaryIO
    segments: tuple[tuple[int, int, int], ...]
    """(address, bytes, offset in the file)."""

    def read(self, address: int, length: int) -> bytes:
        """Give up to `length` bytes at `address`. Raises OSError."""
        for start, size, offset in self.segments:
            if start <= address < start + size:
                self.file.seek(offset + address - start)
                return self.file.read(min(length, start + size - address))
        return b""


@contextmanager
def open_kcore(path: Path) -> Iterator[Kcore]:
    """Open it. Raises OSError: it takes root, and a kernel that is not locked down."""
    with path.open("rb", buffering=0) as file:
        header = _HEADER.unpack(file.read(_HEADER.size))
        offset, entry_size, entries = header[4], header[8], header[9]
        file.seek(offset)
        table = file.read(entry_size * entries)
        segments = []
        for start in range(0, len(table) - _PROGRAM_HEADER.size + 1, entry_size):
            kind, _, at, address, _, size, *_ = _PROGRAM_HEADER.unpack_from(table, start)
            if kind == _PT_LOAD:
                segments.append((address, size, at))
        yield Kcore(file, tuple(segments))
