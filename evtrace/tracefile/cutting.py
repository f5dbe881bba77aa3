"""A slice of a trace that is itself a trace: its records as they are, and what they need.

Facts and names stay, coverage is clipped, a snapshot says how the channels stood at the start.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from evtrace.timeline import Kind
from evtrace.tracefile.clocks import LOST_RECORDS, RUNSTATE, RUNSTATE_MASK
from evtrace.tracefile.family import (
    ALL_DOMAINS,
    FACTS_STREAM,
    FactKey,
    HzSource,
    TextPurpose,
    family_event,
    unpack_vcpu,
)
from evtrace.tracefile.load import WORDS
from evtrace.tracefile.partial import PartialFile
from evtrace.tracefile.reader import TraceReader
from evtrace.tracefile.records import encode, encode_fact
from evtrace.tracefile.rows import CONTINUE_RUNNING, annotated, first_occupants
from evtrace.tracefile.writer import TraceWriter

_FACT, _TEXT, _COVERAGE = map(family_event, (Kind.FACT, Kind.TEXT, Kind.COVERAGE))
_SIGN, _TWO_64 = 1 << 63, 1 << 64


@dataclass(slots=True)
class Slice:
    """Which part of a trace is to be kept."""

    first: int
    last: int
    """`seq` of the first and the last record."""
    kept: pl.Expr
    """Which records between them stay."""
    complete_from: int | None = None
    """Host TSC from which on nothing is missing that coverage speaks of; None: the start."""
    forms: dict[int, int] = field(default_factory=dict)
    """Domain -> its FORM at the start."""
    channels: Callable[[int], Iterable[bytes]] = lambda _: ()
    """The snapshot at the start, as records of a given TSC."""


@dataclass(slots=True)
class Written:
    """What a slice holds."""

    records: int = 0
    start: int = 0
    end: int = 0


def tells_who_runs() -> pl.Expr:
    """Select the records by which a reader knows the vCPU on a pCPU."""
    event = pl.col("event")
    switches = (event & RUNSTATE_MASK) == RUNSTATE
    return switches | event.is_in([CONTINUE_RUNNING, LOST_RECORDS])


def write_slice(reader: TraceReader, output: Path, piece: Slice, *, force: bool = False) -> Written:
    """Write a slice of `reader` to `output`, one batch after the other.

    Raises `UsageError` if the trace is the output's partial file, `OutputExistsError` and
    `CannotWriteError`.
    """
    PartialFile(output, force=True).refuse_as_source(reader.path)
    statements = Statements(reader, piece)
    done = Written()
    running: dict[int, int | None] = {**first_occupants(reader)}
    between = pl.col("seq").is_between(piece.first, piece.last)
    with TraceWriter(output, force=force) as writer:
        for batch in annotated(reader):
            before = batch.filter(pl.col("seq") < piece.first)
            running |= dict(before.group_by("stream").agg(pl.col("running").last()).iter_rows())
            rows = batch.filter(between)
            if rows.is_empty():
                continue
            if not done.start:
                done.start = rows["tsc_lo"][0] - 1
                _write_start(writer, statements, running, done)
            done.end = max(done.end, *rows["tsc_hi"])
            _write_records(writer, reader, rows.filter(piece.kept & ~is_static()), done)
        for record in statements.coverage(done.start, done.end):
            writer.append(FACTS_STREAM, record)
    return done


def _write_start(
    writer: TraceWriter, statements: "Statements", running: dict[int, int | None], done: Written
) -> None:
    """Write what the slice states of itself, and who runs where when it begins."""
    for record in statements.at_start(done.start):
        writer.append(FACTS_STREAM, record)
    for stream, vcpu in sorted(running.items()):
        if vcpu is not None and stream < FACTS_STREAM:
            writer.append(stream, encode(CONTINUE_RUNNING, [vcpu], done.start))


def _write_records(
    writer: TraceWriter, reader: TraceReader, rows: pl.DataFrame, done: Written
) -> None:
    """Append records to their streams as they are, those that follow each other together."""
    size = 4 + 8 * pl.col("has_tsc").cast(pl.UInt64) + 4 * pl.col("n_words").cast(pl.UInt64)
    places = rows.select("stream", start="file_offset", end=pl.col("file_offset") + size)
    places = places.sort("stream", "start", maintain_order=True)
    opens = ((pl.col("start") != pl.col("end").shift(1)) | _changes()).fill_null(value=True)
    runs = places.with_columns(run=opens.cum_sum()).group_by("run", maintain_order=True)
    bounds = runs.agg(pl.col("stream").first(), pl.col("start").first(), pl.col("end").last())
    for _, stream, start, end in bounds.iter_rows():
        writer.append(stream, reader.bytes_between(start, end))
    done.records += rows.height


def _changes() -> pl.Expr:
    return pl.col("stream") != pl.col("stream").shift(1)


def is_static() -> pl.Expr:
    """Select what is stated of the whole trace, whatever its time."""
    event, first = pl.col("event"), pl.col("w1")
    fact = (event == _FACT) & (first != FactKey.SNAPSHOT)
    text = (event == _TEXT) & ((first & 0xFF) != TextPurpose.LOG)
    return (pl.col("stream") == FACTS_STREAM) & (fact | text | (event == _COVERAGE)).fill_null(
        value=False
    )


class Statements:
    """What a trace states of itself, made to hold of a slice."""

    def __init__(self, reader: TraceReader, piece: Slice) -> None:
        self._reader = reader
        self._piece = piece
        windows = [window for window in reader.windows if window.stream == FACTS_STREAM]
        self._records = [
            (event, [word for word in words if word is not None])
            for records in reader.records(windows)
            for event, *words in records.with_columns(stream="pcpu")
            .filter(is_static())
            .select("event", *WORDS)
            .iter_rows()
        ]

    def at_start(self, tsc: int) -> Iterator[bytes]:
        """Give facts and names, as of the start, and the snapshot."""
        facts = self._reader.facts
        for event, words in self._records:
            if event != _COVERAGE:
                yield encode(event, self._of_start(event, words), tsc)
        if facts.tsc_hz_source is HzSource.CALIBRATED and facts.tsc_hz:
            yield encode_fact(
                FactKey.TSC_HZ, ALL_DOMAINS, facts.tsc_hz, HzSource.CALIBRATED, tsc=tsc
            )
        yield from self._piece.channels(tsc)

    def _of_start(self, event: int, words: list[int]) -> list[int]:
        """Give the words of a fact; a domain's form is that of the start."""
        if event == _FACT and words[1] == FactKey.FORM:
            dom = unpack_vcpu(words[0])[0]
            return [*words[:2], self._piece.forms.get(dom, words[2]), *words[3:]]
        return words

    def coverage(self, start: int, end: int, tsc: int | None = None) -> Iterator[bytes]:
        """Give what was captured, clipped; nothing where part of the file could not be read.

        The records are of `tsc`, else of the end.
        """
        if self._reader.coverage.loss:
            return
        since = start if self._piece.complete_from is None else self._piece.complete_from
        for event, words in self._records:
            if event == _COVERAGE and len(words) == 6:
                lo, hi = self._clipped(words, since, end)
                if lo <= hi:
                    halves = [*_halves(lo), *_halves(hi)]
                    yield encode(event, [*words[:2], *halves], end if tsc is None else tsc)

    def _clipped(self, words: list[int], since: int, end: int) -> tuple[int, int]:
        """Clip an interval, which is in the clock of its domain."""
        lowest, highest = self._reader.facts.clock_offsets.get(unpack_vcpu(words[0])[0], (0, 0))
        lo, hi = _signed(words[2], words[3]), _signed(words[4], words[5])
        return max(lo, since - lowest), min(hi, end - highest)


def _signed(low: int, high: int) -> int:
    value = low | high << 32
    return value - _TWO_64 if value & _SIGN else value


def _halves(value: int) -> tuple[int, int]:
    return value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF
