"""Output files: written beside their name, and given it when they are whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

from evtrace.errors import CannotWriteError, OutputExistsError, UsageError


class PartialFile:
    """`PATH.partial` while it is written; a clean end of its `with` block names it `PATH`.

    After an exception the partial file stays. Raises `OutputExistsError` unless `force`,
    `CannotWriteError` when the system refuses.
    """

    def __init__(self, path: str | Path, *, force: bool = False) -> None:
        """Write nothing yet."""
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self._force = force
        self.refuse_existing()

    def __enter__(self) -> Self:
        """Give the file itself; what is written goes to `partial`."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Name the file if nothing was raised."""
        if kind is None:
            self.name_it()

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the partial file for writing; what the system refuses becomes `CannotWriteError`."""
        try:
            with self.partial.open("wb") as file:
                yield file
        except OSError as error:
            raise self.cannot(error) from error

    def name_it(self) -> None:
        """Give the whole file its name."""
        self.refuse_existing()
        try:
            self.partial.replace(self.path)
        except OSError as error:
            raise self.cannot(error) from error

    def refuse_existing(self) -> None:
        """Raise `OutputExistsError` if something has the name and may not be replaced."""
        if not self._force and self.path.exists():
            raise OutputExistsError(self.path)

    def refuse_as_source(self, source: str | Path) -> None:
        """Refuse to read `x.partial` while `x` is written: opening the output empties it."""
        read = Path(source)
        if self.partial.exists() and read.exists() and self.partial.samefile(read):
            message = (
                f"{self.path}: is written as {self.partial}, which is the trace; "
                "choose another name"
            )
            raise UsageError(message)

    def cannot(self, error: OSError) -> CannotWriteError:
        """Say that and why the file cannot be written."""
        reason = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
        return CannotWriteError(f"{self.path}: cannot write: {reason}")
