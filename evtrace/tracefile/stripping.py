"""A trace as xentrace itself would have written it: evtrace's own records taken out, nothing moved.

Xen's readers of such files stop at a record of the guest class and at a stream whose number no
physical CPU can have.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import polars as pl

from evtrace.errors import UsageError
from evtrace.tracefile.checks import RecordChecks
from evtrace.tracefile.damage import Damage
from evtrace.tracefile.family import FACTS_STREAM, FAMILY_EVENT, FAMILY_MASK
from evtrace.tracefile.partial import PartialFile
from evtrace.tracefile.reader import TraceReader
from evtrace.tracefile.walk import CLASSES
from evtrace.tracefile.writer import TraceWriter


@dataclass(slots=True)
class Stripped:
    """What was kept of a trace and what was not; and what is wrong with the trace."""

    kept: int = 0
    family: int = 0
    """Records of evtrace's family, left out."""
    strays: int = 0
    """Records left out because damage alone can bring them forth: of no class that Xen has, or
    not the family's and yet in a stream of no physical CPU."""
    damage: list[Damage] = field(default_factory=list)
    """In the order of the file that was read."""


def write_stock(reader: TraceReader, output: Path, *, force: bool = False) -> Stripped:
    """Write the records of `reader` that xentrace can have written to `output`.

    Each keeps its bytes, its place and its window; a window of which nothing is left goes. Raises
    `UsageError` if that is true of all or the trace is `output`'s partial file,
    `OutputExistsError` and `CannotWriteError`.
    """
    PartialFile(output, force=True).refuse_as_source(reader.path)
    _refuse_without_stock(reader)
    done, checks, damage = Stripped(), RecordChecks(), set[Damage]()
    starts = pl.Series([window.start for window in reader.windows], dtype=pl.UInt64)
    with TraceWriter(output, force=force) as writer:
        for records in reader.records(reader.windows):
            damage.update(checks.take(records))
            runs = _runs(_counted(records, done))
            number = starts.search_sorted(runs["start"], side="right") - 1
            for at, data in _joined(reader, runs.insert_column(0, number.alias("window"))):
                writer.write_window(reader.windows[at].stream, data)
    done.damage = sorted(damage.union(reader.damage))
    return done


def _refuse_without_stock(reader: TraceReader) -> None:
    """Refuse a trace of which nothing would be left."""
    if all(records.filter(_is_stock()).is_empty() for records in reader.records(reader.windows)):
        message = f"{reader.path}: no record in it is Xen's own, nothing would be left"
        raise UsageError(message)


def _counted(records: pl.DataFrame, done: Stripped) -> pl.DataFrame:
    """Give those of `records` that xentrace can have written; count them and the others."""
    stock = records.filter(_is_stock())
    family = records.filter(_is_family()).height
    done.kept += stock.height
    done.family += family
    done.strays += records.height - stock.height - family
    return stock


def _is_family() -> pl.Expr:
    return (pl.col("event") & FAMILY_MASK) == FAMILY_EVENT


def _is_stock() -> pl.Expr:
    """Whether Xen writes such a record: of one class and some sub-class, on a physical CPU."""
    event, stream = pl.col("event"), pl.col("pcpu")
    has_class = (event // (1 << 16)).is_in(CLASSES) & ((event & 0xF000) != 0)
    return has_class & ~_is_family() & stream.is_between(0, FACTS_STREAM - 1)


def _runs(records: pl.DataFrame) -> pl.DataFrame:
    """Give the stretches of bytes, `start` up to `end`, in which records follow each other.

    None reaches beyond a window: the next one's header lies between.
    """
    start, end = pl.col("start"), pl.col("end")
    places = records.select(start=pl.col("file_offset"), end=pl.col("file_offset") + _size())
    opens = (start != end.shift(1)).fill_null(value=True)
    closes = (end != start.shift(-1)).fill_null(value=True)
    return places.select(start.filter(opens), end.filter(closes))


def _size() -> pl.Expr:
    """Give the length of a record in bytes: header, TSC if it has one, words."""
    words = pl.col("n_words").cast(pl.UInt64)
    return 4 + 8 * pl.col("tsc").is_not_null().cast(pl.UInt64) + 4 * words


def _joined(reader: TraceReader, runs: pl.DataFrame) -> Iterator[tuple[int, bytes]]:
    """Yield the number of each window in `runs` (`window`, `start`, `end`) and its bytes."""
    for number, pieces in groupby(runs.iter_rows(), key=itemgetter(0)):
        yield number, b"".join(reader.bytes_between(start, end) for _, start, end in pieces)
