"""Writes trace files that are readable at any moment and get their name when they are whole."""

import os
from pathlib import Path
from typing import BinaryIO, Self

from evtrace.errors import CannotWriteError, OutputExistsError
from evtrace.tracefile.records import encode_window

WINDOW_BYTES = 1 << 16
"""A buffered window is written before it grows beyond this."""


class TraceWriter:
    """Writes windows into `PATH.partial`; a clean end of its `with` block names it `PATH`.

    `*.zst` is compressed. Raises `OutputExistsError` unless `force`, `CannotWriteError` when the
    system refuses. After an exception the partial file stays, with all that was appended.
    """

    def __init__(self, path: str | Path, *, force: bool = False) -> None:
        """Open the partial file beside `path`."""
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self._force = force
        self._buffers: dict[int, bytearray] = {}
        self._refuse_existing()
        try:
            self._file = _open(self.partial, compress=self.path.suffix == ".zst")
        except OSError as error:
            raise self._cannot(error) from error

    def __enter__(self) -> Self:
        """Give the writer itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Name the file if nothing was raised, else leave it partial."""
        self.close(whole=kind is None)

    def append(self, stream: int, record: bytes) -> None:
        """Append one record (or several whole ones) to `stream`, in windows of at most 64 KiB."""
        buffer = self._buffers.setdefault(stream, bytearray())
        if buffer and len(buffer) + len(record) > WINDOW_BYTES:
            self._flush_stream(stream)
        buffer += record

    def write_window(self, stream: int, records: bytes) -> None:
        """Write one window of whole `records` as it is, after what `append` holds of `stream`."""
        self._flush_stream(stream)
        self._write_window(stream, records)

    def flush(self) -> None:
        """Write what is buffered: a reader then sees every record appended so far."""
        for stream in self._buffers:
            self._flush_stream(stream)
        try:
            self._file.flush()
        except OSError as error:
            raise self._cannot(error) from error

    def close(self, *, whole: bool = True) -> None:
        """Write what is buffered, close, and if `whole` give the file its name."""
        try:
            try:
                self.flush()
            finally:
                self._file.close()
            if whole:
                self._refuse_existing()
                self.partial.replace(self.path)
        except OSError as error:
            raise self._cannot(error) from error

    def _flush_stream(self, stream: int) -> None:
        buffer = self._buffers.get(stream)
        if buffer:
            self._write_window(stream, bytes(buffer))
            buffer.clear()

    def _write_window(self, stream: int, records: bytes) -> None:
        if not records:
            return
        try:
            self._file.write(encode_window(stream, len(records)) + records)
        except OSError as error:
            raise self._cannot(error) from error

    def _refuse_existing(self) -> None:
        if not self._force and self.path.exists():
            raise OutputExistsError(self.path)

    def _cannot(self, error: OSError) -> CannotWriteError:
        reason = error.strerror or os.strerror(error.errno or 0)
        return CannotWriteError(f"{self.path}: cannot write: {reason}")


def _open(path: Path, *, compress: bool) -> BinaryIO:
    file = path.open("wb")
    if not compress:
        return file
    import zstandard  # noqa: PLC0415  most traces are not compressed

    return zstandard.ZstdCompressor(level=9).stream_writer(file)
