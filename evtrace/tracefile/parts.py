"""A part of a trace that is itself a trace: chosen records as they are, and what they need.

Unlike a slice it may leave out anything in between. What the trace states of itself stays, and a
text says where the part comes from.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from evtrace.timeline import Kind
from evtrace.tracefile.clocks import LOST_RECORDS, RUNSTATE, RUNSTATE_MASK
from evtrace.tracefile.cutting import Slice, Statements, is_static
from evtrace.tracefile.family import (
    ALL_DOMAINS,
    ALL_VCPUS,
    FACTS_STREAM,
    FactKey,
    HzSource,
    TextPurpose,
    family_event,
)
from evtrace.tracefile.partial import PartialFile
from evtrace.tracefile.reader import TraceReader
from evtrace.tracefile.records import encode, encode_coverage, encode_fact, encode_text
from evtrace.tracefile.rows import CONTINUE_RUNNING, NOBODY, annotated
from evtrace.tracefile.writer import TraceWriter

_FIRST_TSC = -(1 << 62)
_COVERAGE = family_event(Kind.COVERAGE)
_NAMES_ITS_VCPU = (Kind.RUNSTATE, Kind.WAKE, Kind.BLOCK, Kind.LOST)


@dataclass(frozen=True, slots=True)
class Part:
    """Which records are kept, and how the part is introduced."""

    seqs: Collection[int]
    end: int
    """Host TSC at which the part ends: what was captured later it does not claim to hold."""
    source: str
    """Where it comes from, in words."""


def write_part(reader: TraceReader, output: Path, part: Part, *, force: bool = False) -> int:
    """Write a part of `reader` to `output`; gives the number of records.

    Raises `UsageError` if the trace is the output's partial file, `OutputExistsError` and
    `CannotWriteError`.
    """
    PartialFile(output, force=True).refuse_as_source(reader.path)
    wanted = pl.col("seq").is_in(sorted(part.seqs)) | is_static()
    wanted &= pl.col("event") != _COVERAGE
    occupants: dict[int, int] = {}
    written, last = 0, part.end
    with TraceWriter(output, force=force) as writer:
        for batch in annotated(reader):
            rows = batch.filter(wanted)
            columns = rows.select(
                *("stream", "event", "kind", "running", "w0", "w1", "tsc_lo", "file_offset"),
                size=4 + 8 * pl.col("has_tsc").cast(pl.Int64) + 4 * pl.col("n_words"),
            )
            for stream, event, kind, running, w0, w1, tsc, offset, size in columns.iter_rows():
                if stream < FACTS_STREAM and kind < Kind.CALL_ENTER:
                    runs = NOBODY if running is None else running
                    if kind not in _NAMES_ITS_VCPU and occupants.get(stream, NOBODY) != runs:
                        writer.append(stream, encode(CONTINUE_RUNNING, [runs], tsc))
                        occupants[stream] = runs
                    occupants[stream] = _occupant(event, w0, w1, occupants.get(stream, NOBODY))
                writer.append(stream, reader.bytes_between(offset, offset + size))
                written, last = written + 1, max(last, tsc)
        for record in _statements(reader, part, last):
            writer.append(FACTS_STREAM, record)
    return written


def _occupant(event: int, w0: int, w1: int | None, before: int) -> int:
    """Give who runs on a pCPU after a record."""
    if event == LOST_RECORDS:
        return NOBODY if w1 is None else w1 >> 16 | (w1 & 0xFFFF) << 16
    if (event & RUNSTATE_MASK) != RUNSTATE:
        return before
    if (event & 0xF0) == 0:
        return w0
    return NOBODY if (event & 0xF00) == 0 else before


def _statements(reader: TraceReader, part: Part, tsc: int) -> Iterable[bytes]:
    """Give what the part states of itself, as records of a TSC."""
    facts, survey = reader.facts, reader.survey
    if facts.tsc_hz_source is HzSource.CALIBRATED and facts.tsc_hz:
        yield encode_fact(FactKey.TSC_HZ, ALL_DOMAINS, facts.tsc_hz, HzSource.CALIBRATED, tsc=tsc)
    yield encode_text(TextPurpose.SOURCE, part.source, dom=ALL_DOMAINS, tsc=tsc)
    if reader.coverage.loss:
        return
    statements = Statements(reader, Slice(0, 0, pl.lit(value=True)))
    yield from statements.coverage(_FIRST_TSC, part.end, tsc)
    if survey.stock_extent and survey.stock_classes and survey.stock_extent[0] <= part.end:
        lo, hi = survey.stock_extent
        classes = survey.stock_classes
        yield encode_coverage(ALL_DOMAINS, ALL_VCPUS, classes, lo, min(hi, part.end), tsc=tsc)
