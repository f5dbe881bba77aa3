"""Writes a trace: `NAME.partial` while it grows, readable at any moment, `NAME` when it is whole."""

import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

from evtrace.errors import CannotWriteError, OutputExistsError
from evtrace.tracefile.records import encode_window

WINDOW_BYTES = 65_536
"""Records of one stream are gathered into windows of about this size."""


class TraceWriter:
    """Use it as a context manager; on an exception the partial file stays, with what it holds.

    Raises `OutputExistsError` before anything is written and `CannotWriteError` when the disk is
    full or the folder refuses. `NAME.zst` is compressed.
    """

    def __init__(self, path: str | Path, *, force: bool = False) -> None:
        """Create `path` + `.partial` beside the file it will become."""
        self.path = Path(path)
        if self.path.exists() and not force:
            raise OutputExistsError(self.path)
        self._partial = self.path.with_name(self.path.name + ".partial")
        self._gathered: dict[int, bytearray] = {}
        try:
            raw = self._partial.open("wb")
        except OSError as error:
            raise self._failure(error) from error
        self._file = _compressed(raw) if self.path.suffix == ".zst" else raw

    def __enter__(self) -> Self:
        """Give the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file; after an exception leave it as the partial file."""
        if kind is None:
            self.finish()
        else:
            self._close()

    def write_window(self, stream: int, records: bytes) -> None:
        """Write one window as it is; nothing if it holds no record."""
        self._flush_stream(stream)
        if records:
            self._write(encode_window(stream, records))

    def append(self, stream: int, record: bytes) -> None:
        """Add one record to the stream's next window."""
        gathered = self._gathered.setdefault(stream, bytearray())
        gathered += record
        if len(gathered) >= WINDOW_BYTES:
            self._flush_stream(stream)

    def flush(self) -> None:
        """Write what was gathered, so that the partial file holds all."""
        for stream in list(self._gathered):
            self._flush_stream(stream)
        try:
            self._file.flush()
        except OSError as error:
            raise self._failure(error) from error

    def finish(self) -> None:
        """Write what is left and give the file its name."""
        self.flush()
        self._close()
        try:
            os.replace(self._partial, self.path)  # noqa: PTH105  replaces in one step
        except OSError as error:
            raise self._failure(error) from error

    def _flush_stream(self, stream: int) -> None:
        gathered = self._gathered.pop(stream, None)
        if gathered:
            self._write(encode_window(stream, bytes(gathered)))

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise self._failure(error) from error

    def _close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> CannotWriteError:
        why = error.strerror or str(error)
        return CannotWriteError(f"{self.path}: cannot write: {why}; what was written is kept")


def _compressed(raw: BinaryIO) -> BinaryIO:
    import zstandard  # noqa: PLC0415  only for .zst

    return cast("BinaryIO", zstandard.ZstdCompressor().stream_writer(raw, closefd=True))
