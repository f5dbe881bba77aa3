"""Stored traces: which there are at a path, and the expectations beside each."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evtrace.errors import EvtraceError, NoInputError
from evtrace.fields import read_toml

SUFFIXES: Final = (".bin.zst", ".bin", ".zst")
"""Endings of the name of a trace; the rest is what it is called."""


@dataclass(frozen=True, slots=True, order=True)
class Stored:
    """A trace at a path."""

    path: str

    @property
    def name(self) -> str:
        """What it is called, without folder and ending."""
        name = Path(self.path).name
        for suffix in SUFFIXES:
            if name.endswith(suffix):
                return name.removesuffix(suffix)
        return name

    @property
    def expectations(self) -> Path:
        """Where the expectations would be."""
        return Path(self.path).with_name(f"{self.name}.toml")


def find_traces(paths: Iterable[str]) -> list[Stored]:
    """Give the traces at each path, each once: a file, or what lies directly in a folder.

    Expectations in a folder without their trace stand for the trace that is missing. Raises
    `NoInputError` for a path that is not there and for a folder without traces.
    """
    found = [stored for path in paths for stored in _at(Path(path))]
    return list(dict.fromkeys(found))


def _at(path: Path) -> list[Stored]:
    if not path.is_dir():
        if not path.exists():
            message = f"{path}: no such file or folder"
            raise NoInputError(message)
        return [Stored(str(path))]
    traces = {
        Stored(str(file)) for file in path.iterdir() if file.name.endswith((".bin", ".bin.zst"))
    }
    traces |= set(_missing(path, {stored.expectations for stored in traces}))
    if not traces:
        message = f"{path}: no trace in it: NAME.bin or NAME.bin.zst"
        raise NoInputError(message)
    return sorted(traces)


def _missing(folder: Path, known: set[Path]) -> Iterator[Stored]:
    """Give the traces that expectations are there for, but not they themselves."""
    for file in sorted(folder.glob("*.toml")):
        if file not in known and _is_expectations(file):
            yield Stored(str(file.with_suffix(".bin")))


def _is_expectations(file: Path) -> bool:
    try:
        return read_toml(file).holds("expect")
    except EvtraceError:
        return False
