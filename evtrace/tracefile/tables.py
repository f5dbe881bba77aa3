"""Tables in files: frames written as they come, as Parquet, Arrow, CSV or JSON lines."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import polars as pl
from polars.io.plugins import register_io_source

from evtrace.errors import CannotWriteError
from evtrace.timeline import Kind, schema
from evtrace.tracefile.lines import described
from evtrace.tracefile.load import WORDS
from evtrace.tracefile.partial import PartialFile

KIND_NAMES = {int(kind): kind.name.lower() for kind in Kind}

_WHEN = ("seq", "tsc_lo", "tsc_hi", "clock", "pcpu", "stream", "dom", "vcpu")
_WHAT = ("event", "name", "kind", "op", "call_id", "port", "irq", "rc", "text")


def _schema(names: Iterable[str]) -> pl.Schema:
    """Give columns: the timeline's, raw words, and what is text in a table."""
    own = schema()
    types: dict[str, type[pl.DataType]] = {"stream": pl.Int32}
    types |= dict.fromkeys(WORDS, pl.UInt32)
    for name in ("event", "name", "kind", "text"):
        types[name] = pl.String
    return pl.Schema([(name, types.get(name) or own[name]) for name in names])


TIMELINE_TABLE = _schema(schema())
"""The timeline, its kinds by name."""

RECORD_TABLE = _schema([*_WHEN, *_WHAT, *WORDS, "file_offset"])
"""Every record; `w0`.. are the raw words, `event` is in hexadecimal."""


def timeline_table(batch: pl.DataFrame) -> pl.DataFrame:
    """Give rows of the timeline by `TIMELINE_TABLE`."""
    return batch.with_columns(_kind_name())


def record_table(batch: pl.DataFrame, wanted: Collection[str] = RECORD_TABLE) -> pl.DataFrame:
    """Give the `wanted` columns of annotated records (`rows.annotated`) by `RECORD_TABLE`."""
    numbers = batch["event"].unique().to_list()
    hexadecimal = [f"{number:08x}" for number in numbers]
    event = pl.col("event").replace_strict(numbers, hexadecimal, return_dtype=pl.String)
    table = described(batch) if {"name", "text"} & {*wanted} else batch
    columns = pl.Schema({name: RECORD_TABLE[name] for name in RECORD_TABLE if name in wanted})
    return table.with_columns(event, _kind_name()).select(columns.names()).cast(columns)


def _kind_name() -> pl.Expr:
    return pl.col("kind").replace_strict(KIND_NAMES, return_dtype=pl.String)


@dataclass(slots=True)
class Table:
    """A table on its way into a file: its columns, and its rows a frame at a time."""

    columns: pl.Schema
    frames: Iterable[pl.DataFrame]
    about: Mapping[str, str]
    """What the trace is; Parquet holds it as the file's metadata."""
    rows: int = 0
    """How many were given out so far."""

    def __iter__(self) -> Iterator[pl.DataFrame]:
        """Yield the frames, counting."""
        for frame in self.frames:
            self.rows += frame.height
            yield frame

    def lazy(self) -> pl.LazyFrame:
        """Give a frame that is read a batch at a time; it can be collected once."""
        return lazy_frame(self.columns, lambda _: self)


def lazy_frame(
    columns: pl.Schema, read: Callable[[Collection[str]], Iterable[pl.DataFrame]]
) -> pl.LazyFrame:
    """Give a frame that is read a batch at a time, anew whenever it is collected.

    `read` gives the frames; it is told which columns are looked at, and may leave out the others.
    Rows that a filter drops are dropped from each batch; after the rows of a `head` nothing more
    is read.
    """

    def scan(
        names: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        shown = columns.names() if names is None else names
        asked = [] if predicate is None else predicate.meta.root_names()
        for frame in _first(read({*shown, *asked}), n_rows):
            kept = frame if predicate is None else frame.filter(predicate)
            yield kept.select(shown)

    return register_io_source(scan, schema=dict(columns), is_pure=True)


def _first(frames: Iterable[pl.DataFrame], rows: int | None) -> Iterator[pl.DataFrame]:
    """Yield frames up to a number of rows; None: all of them."""
    if rows is None:
        yield from frames
        return
    for frame in frames:
        yield frame.head(rows)
        rows -= frame.height
        if rows <= 0:
            return


def write_table(table: Table, output: Path, *, force: bool = False) -> None:
    """Write `table` in the format that `output` is named for (`TABLE_SUFFIXES`).

    No more than some batches are held in memory. Raises `OutputExistsError`, `CannotWriteError`.
    """
    write = _WRITERS[output.suffix]
    with PartialFile(output, force=force) as target:
        try:
            with target.open() as file:
                write(table, file)
        except pl.exceptions.ComputeError as error:
            message = f"{output}: cannot write: {error}"
            raise CannotWriteError(message) from error


def _write_parquet(table: Table, file: IO[bytes]) -> None:
    table.lazy().sink_parquet(file, metadata=dict(table.about))


def _write_arrow(table: Table, file: IO[bytes]) -> None:
    table.lazy().sink_ipc(file, compression="zstd")


def _write_csv(table: Table, file: IO[bytes]) -> None:
    file.write(flat(table.columns.to_frame()).write_csv().encode())
    for frame in table:
        flat(frame).write_csv(file, include_header=False)


def _write_json_lines(table: Table, file: IO[bytes]) -> None:
    for frame in table:
        frame.write_ndjson(file)


_WRITERS: dict[str, Callable[[Table, IO[bytes]], None]] = {
    ".parquet": _write_parquet,
    ".arrow": _write_arrow,
    ".csv": _write_csv,
    ".jsonl": _write_json_lines,
}
TABLE_SUFFIXES = tuple(_WRITERS)


def flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Turn lists into text, which is all that CSV has: names joined by +, objects as JSON."""
    return frame.with_columns(
        _joined(name, dtype.inner)
        for name, dtype in frame.schema.items()
        if isinstance(dtype, pl.List)
    )


def _joined(name: str, inner: object) -> pl.Expr:
    if inner == pl.String:
        return pl.col(name).list.join("+")
    objects = pl.col(name).list.eval(pl.element().struct.json_encode())
    return pl.format("[{}]", objects.list.join(",")).alias(name)
