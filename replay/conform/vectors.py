"""Vector files: recorded programs for the model, one JSON object per line (`.jsonl`, `.jsonl.gz`).

A line names an operation, who calls it and the arguments; whatever else it holds is the recorded
answer. `{"op": "new"}` starts a program with an empty machine.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from evtrace.errors import EvtraceError, NoInputError
from evtrace.xen.dump import Json

SUFFIXES: Final = (".jsonl", ".jsonl.gz")


class BadVectorError(EvtraceError):
    """A line that is no vector: `path`, `number` (from 1) and why."""

    def __init__(self, path: Path, number: int, reason: str) -> None:
        """Name the line and the `reason`."""
        super().__init__(f"{path}: line {number}: {reason}")
        self.path = path
        self.number = number
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Line:
    """One operation with its recorded answer."""

    path: Path
    number: int
    text: str
    op: str
    dom: int
    """The caller; -1 where nobody calls."""
    vcpu: int
    numbers: dict[str, int]
    """Arguments that are numbers."""
    lists: dict[str, list[int]]
    words: dict[str, str]
    fault: int
    recorded: dict[str, Json]


@dataclass(slots=True)
class Program:
    """Lines from one `new` to the next; `fault` is set if one of them cannot be read."""

    path: Path
    number: int
    """Line of its `new`, from 1."""
    name: str
    lines: list[Line] = field(default_factory=list)
    fault: BadVectorError | None = None


def find_vector_files(paths: list[Path]) -> list[Path]:
    """List the vector files among `paths`, folders searched; `NoInputError` if there is none."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(
                file for file in path.rglob("*") if file.is_file() and file.name.endswith(SUFFIXES)
            )
        elif path.is_file():
            found.append(path)
        else:
            message = f"{path}: no such file or folder"
            raise NoInputError(message)
    if not found:
        message = f"no vector files ({', '.join(SUFFIXES)}) in {', '.join(map(str, paths))}"
        raise NoInputError(message)
    return found


def read_programs(path: Path) -> Iterator[Program]:
    """Read the programs of a file; one that holds a malformed line comes with its fault."""
    program: Program | None = None
    for number, text in _read_lines(path):
        try:
            line = _parse_line(path, number, text)
        except BadVectorError as fault:
            # Where the line stood before the first program, it is a program of its own.
            program = program or Program(path, number, "")
            program.fault = program.fault or fault
            continue
        if line.op == "new":
            if program:
                yield program
            program = Program(path, number, _program_name(line))
        elif program is None:
            early = BadVectorError(path, number, "stands before the first 'new'")
            program = Program(path, number, "", fault=early)
        else:
            program.lines.append(line)
    if program:
        yield program


def _read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Give the lines that are not empty, numbered from 1; a damaged file ends as a bad line."""
    number = 0
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            for number, raw in enumerate(file, start=1):
                if raw.strip():
                    yield number, raw.decode("utf-8", errors="replace")
        except (EOFError, gzip.BadGzipFile) as error:
            yield number + 1, f"<{error}>"


def _parse_line(path: Path, number: int, text: str) -> Line:
    try:
        value: Json = json.loads(text)
    except ValueError as error:
        raise BadVectorError(path, number, f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadVectorError(path, number, "not a JSON object")
    op = value.get("op")
    if not isinstance(op, str):
        raise BadVectorError(path, number, "no operation 'op'")
    args = value.get("args", {})
    if not isinstance(args, dict):
        raise BadVectorError(path, number, "'args' is not an object")
    return Line(
        path,
        number,
        text.strip(),
        op,
        _number_of(path, number, value, "dom", -1),
        _number_of(path, number, value, "vcpu", 0),
        {name: arg for name, arg in args.items() if isinstance(arg, int)},
        {name: _numbers(arg) for name, arg in args.items() if isinstance(arg, list)},
        {name: arg for name, arg in args.items() if isinstance(arg, str)},
        _number_of(path, number, value, "fault", 0),
        value,
    )


def _number_of(path: Path, number: int, value: dict[str, Json], key: str, default: int) -> int:
    found = value.get(key, default)
    if not isinstance(found, int):
        raise BadVectorError(path, number, f"{key!r} is not a number")
    return found


def _numbers(values: list[Json]) -> list[int]:
    return [value for value in values if isinstance(value, int)]


def _program_name(line: Line) -> str:
    """Name a program as its `new` does: a scenario's name, or tier, form and seed."""
    if "name" in line.words:
        return line.words["name"]
    parts = [line.words.get("tier"), line.words.get("abi"), line.numbers.get("seed")]
    return "-".join(str(part) for part in parts if part is not None)
