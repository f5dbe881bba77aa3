"""Reads a trace: the window index first, then time-ordered batches of records."""

import mmap
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import polars as pl

from evtrace.errors import NoInputError, NotATraceError
from evtrace.timeline import HOST_CLOCK, RecordClass
from evtrace.tracefile.coverage import Coverage, CoverageMap
from evtrace.tracefile.damage import Damage
from evtrace.tracefile.facts import Facts, RawRecord, read_facts
from evtrace.tracefile.family import FACTS_STREAM
from evtrace.tracefile.streams import LOST_RECORDS, WORD_COLUMNS, Stream, raw_words
from evtrace.tracefile.walk import walk
from evtrace.tracefile.windows import BIG_ENDIAN_MAGIC, Window, index_windows

BATCH_BYTES = 4 << 20
"""About as many bytes of records are in memory at once, however many pCPUs there are."""

SMALLEST_CHUNK = 64 << 10

RECORD_COLUMNS = (
    "seq",
    "tsc_lo",
    "tsc_hi",
    "clock",
    "pcpu",
    "event",
    "has_tsc",
    "n_words",
    *WORD_COLUMNS,
    "file_offset",
)
"""Columns of a batch; `pcpu` is the number of the stream, pCPU or not."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A gap: `count` records of a pCPU were dropped from `first_tsc` to `tsc`."""

    pcpu: int
    count: int
    first_tsc: int
    tsc: int
    dom: int
    vcpu: int
    """The vCPU that was running when the record was inserted."""
    offset: int


def open_trace(path: str | Path) -> "TraceReader":
    """Open a trace; `-` is standard input, `*.zst` is decompressed, both into an unlinked file.

    Raises `NoInputError` if it cannot be read, `NotATraceError` if nothing in it is a record.
    """
    name = str(path)
    try:
        if name == "-":
            return TraceReader(name, _spooled(sys.stdin.buffer))
        with Path(name).open("rb") as file:
            if name.endswith(".zst"):
                return TraceReader(name, _decompressed(name, file))
            return TraceReader(name, file)
    except OSError as error:
        message = f"{name}: cannot read: {error.strerror or error}"
        raise NoInputError(message) from error


def _spooled(source: IO[bytes]) -> IO[bytes]:
    spool = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as its mapping
    shutil.copyfileobj(source, spool)
    spool.flush()
    return spool


def _decompressed(name: str, file: IO[bytes]) -> IO[bytes]:
    import zstandard  # noqa: PLC0415  only for .zst

    spool = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as its mapping
    try:
        zstandard.ZstdDecompressor().copy_stream(file, spool)
    except zstandard.ZstdError as error:
        if not spool.tell():
            raise NotATraceError(
                name,
                0,
                "zstandard data",
                str(error),
                "check how the file was made",
            ) from error
    spool.flush()
    return spool


class TraceReader:
    """One trace file. `damage` and `lost` are complete after a full pass over `batches()`."""

    def __init__(self, name: str, file: IO[bytes]) -> None:
        """Map `file` and index its windows; `name` is for messages."""
        self.name = name
        self.damage: list[Damage] = []
        self.lost: list[Lost] = []
        self._map = _mapped(file)
        self._data = memoryview(self._map)
        self.size_bytes = len(self._data)
        self._index_damage: list[Damage] = []
        self.windows = index_windows(self._data, self._index_damage)
        """The windows in file order."""
        self._check_readable()

    def __enter__(self) -> Self:
        """Give the reader."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Give the mapping back."""
        self._data.release()
        if isinstance(self._map, mmap.mmap):
            self._map.close()

    # --- what the file says of itself --------------------------------------------------------

    @cached_property
    def facts(self) -> Facts:
        """What the facts stream says."""
        return read_facts(self._records_of(FACTS_STREAM))

    @cached_property
    def coverage(self) -> CoverageMap:
        """What was captured: what the facts say, in host time, and what the stock records prove."""
        entries = [self._in_host_time(entry) for entry in self.facts.coverage]
        return CoverageMap([*entries, *self._stock_coverage()])

    def _in_host_time(self, entry: Coverage) -> Coverage:
        lo, hi = self.facts.clock_offsets.get(-1 if entry.dom is None else entry.dom, (0, 0))
        return Coverage(
            entry.dom,
            entry.vcpu,
            entry.classes,
            entry.tsc_lo + lo,
            entry.tsc_hi + hi,
        )

    def _stock_coverage(self) -> Iterator[Coverage]:
        """Stock records of a class prove that it was captured, between its first and its last."""
        spans: dict[RecordClass, tuple[int, int]] = {}
        for frame in self.scan():
            found = (
                frame.filter(pl.col("pcpu") < FACTS_STREAM)
                .with_columns(cls=_stock_class())
                .drop_nulls("cls")
                .group_by("cls")
                .agg(pl.col("tsc_lo").min().alias("lo"), pl.col("tsc_hi").max().alias("hi"))
            )
            for number, lo, hi in found.iter_rows():
                cls = RecordClass(number)
                old = spans.get(cls, (lo, hi))
                spans[cls] = (min(old[0], lo), max(old[1], hi))
        for cls, (lo, hi) in sorted(spans.items()):
            yield Coverage(None, None, cls, lo, hi)

    # --- records -----------------------------------------------------------------------------

    def scan(self) -> Iterator[pl.DataFrame]:
        """Yield all records, stream after stream, not ordered by time: enough to count."""
        damage = list(self._index_damage)
        for stream in self._streams():
            yield from stream.chunks()
            damage += stream.damage
        self.damage = sorted(damage, key=lambda found: found.offset)

    def batches(self, max_rows: int = 0) -> Iterator[pl.DataFrame]:
        """Yield all records as time-ordered batches with the columns of `RECORD_COLUMNS`.

        Ordered by (tsc, pcpu, offset in file); `seq` is the rank. No batch holds more than
        `max_rows` rows unless that is 0. Memory holds a chunk or two of each stream.
        """
        seq = 0
        self.lost = []
        for merged in self._merged():
            ordered = merged.sort("key", "pcpu", "file_offset").with_row_index("seq", seq)
            seq += ordered.height
            self._note_lost(ordered)
            batch = ordered.select(pl.col("seq").cast(pl.UInt64), *RECORD_COLUMNS[1:])
            yield from batch.iter_slices(max_rows or batch.height or 1)

    def _merged(self) -> Iterator[pl.DataFrame]:
        """Merge the streams: a record is ripe when every stream has been read beyond its time."""
        streams = self._streams()
        reading = {stream.number: (stream, stream.chunks()) for stream in streams}
        held: list[pl.DataFrame] = []
        while reading:
            number = min(reading, key=lambda n: (reading[n][0].reached or -1, n))
            chunk = next(reading[number][1], None)
            if chunk is None:
                del reading[number]
            else:
                held.append(chunk)
            if any(stream.reached is None for stream, _ in reading.values()):
                continue
            horizon = min((s.reached or 0 for s, _ in reading.values()), default=None)
            if horizon is None or sum(frame.height for frame in held) > 0:
                ripe, held = _split(held, horizon)
                if ripe is not None:
                    yield ripe
        self.damage = sorted(
            [*self._index_damage, *(found for stream in streams for found in stream.damage)],
            key=lambda found: found.offset,
        )

    def _streams(self) -> list[Stream]:
        by_stream: dict[int, list[Window]] = {}
        for window in self.windows:
            by_stream.setdefault(window.stream, []).append(window)
        chunk = max(SMALLEST_CHUNK, BATCH_BYTES // max(1, len(by_stream)))
        return [
            Stream(self._data, number, windows, chunk, *self._clock_of(number))
            for number, windows in sorted(by_stream.items())
        ]

    def _clock_of(self, stream: int) -> tuple[tuple[int, int] | None, int]:
        if stream < FACTS_STREAM:
            return None, HOST_CLOCK
        known = self.facts.streams.get(stream)
        if known is None or known.clock is None:
            return None, HOST_CLOCK
        return self.facts.clock_offsets.get(known.clock), known.clock

    def _records_of(self, stream: int) -> Iterator[RawRecord]:
        for window in self.windows:
            if window.stream == stream:
                view = self._data[window.offset : window.offset + window.size].cast("I")
                for start in walk(view, whole=window.whole).starts:
                    yield RawRecord(*raw_words(self._data, window.offset + 4 * start))

    def _note_lost(self, batch: pl.DataFrame) -> None:
        for row in batch.filter(pl.col("event") == LOST_RECORDS).iter_rows(named=True):
            vcpu_word = row["w1"] or 0
            self.lost.append(
                Lost(
                    row["pcpu"],
                    row["w0"] or 0,
                    row["tsc_lo"],
                    row["tsc_hi"],
                    vcpu_word & 0xFFFF,
                    vcpu_word >> 16,
                    row["file_offset"],
                ),
            )

    def _check_readable(self) -> None:
        """Refuse a file in which not one record can be read, and say what it looks like."""
        for window in self.windows:
            view = self._data[window.offset : window.offset + window.size]
            if len(walk(view.cast("I"), whole=window.whole).starts):
                return
        found, hint = _guess(bytes(self._data[:8]))
        raise NotATraceError(self.name, 0, "a window header (03 f0 01 20)", found, hint)


def _mapped(file: IO[bytes]) -> mmap.mmap | bytes:
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:  # an empty file cannot be mapped
        return b""


def _guess(start: bytes) -> tuple[str, str]:
    if not start:
        return "an empty file", "check whether the recording was stopped before it wrote anything"
    if start.startswith(BIG_ENDIAN_MAGIC):
        return start.hex(" "), "this is a big-endian trace; no supported Xen writes one"
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstandard data", "give the file the ending .zst"
    return start.hex(" "), "is this a file that xentrace or evtrace wrote, from its first byte on?"


def _split(
    held: list[pl.DataFrame],
    horizon: int | None,
) -> tuple[pl.DataFrame | None, list[pl.DataFrame]]:
    """Split what is held into records before the horizon and the rest."""
    if not held:
        return None, []
    together = pl.concat(held)
    if horizon is None:
        return together, []
    ripe = together.filter(pl.col("key") < horizon)
    rest = together.filter(pl.col("key") >= horizon)
    return (ripe if ripe.height else None), [rest]


def _stock_class() -> pl.Expr:
    """Give the record class that a stock event belongs to; null where it proves none."""
    event = pl.col("event")
    return (
        pl.when(event.is_in([0x20100D, 0x20200E, 0x201001, 0x201101, 0x82012]))
        .then(int(RecordClass.HYPERCALL))
        .when((event & 0xFFFFF000 == 0x21000) | (event & 0xFFFFF000 == 0x28000))
        .then(int(RecordClass.SCHED))
        .when(event & 0xFFFFF000 == 0x81000)
        .then(int(RecordClass.HVM))
        .when(event == 0x802008)
        .then(int(RecordClass.IRQ))
        .otherwise(None)
    )


