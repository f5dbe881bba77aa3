"""The bytes of a trace: a file, standard input or a `.zst`, all through one memory map."""

import io
import mmap
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

from evtrace.errors import CannotWriteError, NoInputError, NotATraceError

STDIN = "-"


def map_bytes(path: str | Path) -> mmap.mmap | bytes:
    """Map the file at `path`; `-` is standard input, `*.zst` is decompressed.

    Both go through a temporary file that has no name and vanishes with the map. Raises
    `NoInputError` if there is no such file, `NotATraceError` if it does not decompress.
    """
    if str(path) == STDIN:
        return _map_copy(sys.stdin.buffer, "standard input")
    try:
        with Path(path).open("rb") as file:
            if Path(path).suffix == ".zst":
                return _map_decompressed(file, path)
            if not _is_mappable(file):
                return _map_copy(file, path)
            return _map(file)
    except OSError as error:
        message = f"{path}: {error.strerror}"
        raise NoInputError(message) from error


def _is_mappable(file: BinaryIO) -> bool:
    return file.seekable() and os.fstat(file.fileno()).st_size > 0


def _map(file: BinaryIO) -> mmap.mmap | bytes:
    if not os.fstat(file.fileno()).st_size:
        return b""
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _map_copy(source: BinaryIO | io.BufferedIOBase, name: str | Path) -> mmap.mmap | bytes:
    with tempfile.TemporaryFile() as copy:
        try:
            shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
        except OSError as error:
            message = f"temporary copy of {name}: {error.strerror}"
            raise CannotWriteError(message) from error
        return _map(copy)


def _map_decompressed(file: BinaryIO, path: str | Path) -> mmap.mmap | bytes:
    import zstandard  # noqa: PLC0415  most traces are not compressed

    reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    try:
        with reader:
            return _map_copy(reader, path)
    except zstandard.ZstdError as error:
        raise NotATraceError(
            path,
            0,
            "zstandard frames",
            str(error),
            "check that the file was copied whole",
        ) from error
