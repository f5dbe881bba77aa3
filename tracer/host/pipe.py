"""The text of the probes: trace_pipe, copied to a file as it comes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evtrace.errors import CannotRecordError, CannotWriteError
from evtrace.tracer.host.tracefs import Tracefs

_READ_BYTES = 1 << 16


class PipeCopy:
    """What copies the pipe to its file."""

    def __init__(self, source: int, path: Path) -> None:
        """Copy from the descriptor `source`, which does not wait."""
        self._source = source
        self._path = path
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise self._cannot(error) from error

    def copy(self) -> None:
        """Copy what is there. Raises `CannotWriteError`."""
        while True:
            try:
                content = os.read(self._source, _READ_BYTES)
            except BlockingIOError:
                return
            if not content:
                return
            self.write(content)

    def write(self, content: bytes) -> None:
        """Write to the file, whole. Raises `CannotWriteError`."""
        try:
            while content:
                content = content[self._file.write(content) :]
        except OSError as error:
            raise self._cannot(error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _cannot(self, error: OSError) -> CannotWriteError:
        return CannotWriteError(f"{self._path}: cannot write: {error.strerror or error}")


@contextmanager
def copied(tracefs: Tracefs, path: Path, heading: str) -> Iterator[PipeCopy]:
    """Record into the ring, and give what copies it; at the end the ring is read empty.

    Raises `CannotRecordError` if the kernel refuses, `CannotWriteError`.
    """
    try:
        source = os.open(tracefs.instance / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        message = f"{tracefs.instance}/trace_pipe: cannot read: {error.strerror or error}"
        raise CannotRecordError(message) from error
    try:
        pipe = PipeCopy(source, path)
        try:
            pipe.write(heading.encode())
            tracefs.set("tracing_on", "1")
            yield pipe
            tracefs.set("tracing_on", "0")
            pipe.copy()
        finally:
            pipe.close()
    finally:
        os.close(source)
