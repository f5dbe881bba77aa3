"""Writes trace files that are readable at any moment and get their name when they are whole."""

from pathlib import Path
from typing import BinaryIO, Self

from evtrace.tracefile.partial import PartialFile
from evtrace.tracefile.records import encode_window

WINDOW_BYTES = 1 << 16
"""A buffered window is written before it grows beyond this, if the next record has a TSC."""

_FLAGS_BYTE = 3
_CYCLES = 0x80
"""Of a record's header: it carries a TSC."""


class TraceWriter:
    """Writes windows into `PATH.partial`; a clean end of its `with` block names it `PATH`.

    `*.zst` is compressed. Raises `OutputExistsError` unless `force`, `CannotWriteError` when the
    system refuses. After an exception the partial file stays, with all that was appended.
    """

    def __init__(self, path: str | Path, *, force: bool = False) -> None:
        """Open the partial file beside `path`."""
        self._target = PartialFile(path, force=force)
        self.path, self.partial = self._target.path, self._target.partial
        self._buffers: dict[int, bytearray] = {}
        try:
            self._file = _open(self.partial, compress=self.path.suffix == ".zst")
        except OSError as error:
            raise self._target.cannot(error) from error

    def __enter__(self) -> Self:
        """Give the writer itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Name the file if nothing was raised, else leave it partial."""
        self.close(whole=kind is None)

    def append(self, stream: int, record: bytes) -> None:
        """Append one record (or several whole ones) to `stream`, in windows of about 64 KiB.

        As xentrace does, all streams are written when one is full: readers rely on windows being
        in some order of time. A window begins with a TSC, so that all its records have a time.
        """
        buffer = self._buffers.setdefault(stream, bytearray())
        if buffer and len(buffer) + len(record) > WINDOW_BYTES and record[_FLAGS_BYTE] & _CYCLES:
            self._flush_streams()
        buffer += record

    def write_window(self, stream: int, records: bytes) -> None:
        """Write one window of whole `records` as it is, after what `append` holds of `stream`."""
        self._flush_stream(stream)
        self._write_window(stream, records)

    def flush(self) -> None:
        """Write what is buffered: a reader then sees every record appended so far."""
        self._flush_streams()
        try:
            self._file.flush()
        except OSError as error:
            raise self._target.cannot(error) from error

    def close(self, *, whole: bool = True) -> None:
        """Write what is buffered, close, and if `whole` give the file its name."""
        try:
            try:
                self.flush()
            finally:
                self._file.close()
        except OSError as error:
            raise self._target.cannot(error) from error
        if whole:
            self._target.name_it()

    def _flush_streams(self) -> None:
        for stream in sorted(self._buffers):
            self._flush_stream(stream)

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
            raise self._target.cannot(error) from error


def _open(path: Path, *, compress: bool) -> BinaryIO:
    file = path.open("wb")
    if not compress:
        return file
    import zstandard  # noqa: PLC0415  most traces are not compressed

    return zstandard.ZstdCompressor(level=9).stream_writer(file)
