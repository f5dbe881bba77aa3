"""Tiny traces in one line: `tiny_trace(window(0, wake(0, 1, tsc=5)), ...)` are a file's bytes."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from evtrace.errors import NotATraceError
from evtrace.tracefile.reader import TraceReader, open_trace
from evtrace.tracefile.records import encode, encode_window
from evtrace.tracefile.rows import timeline

HYPERCALL, SUBCALL, VMMCALL = 0x20100D, 0x20200E, 0x82012
VMEXIT, VMENTRY, INJ_VIRQ = 0x81102, 0x81001, 0x82004
WAKE, BLOCK, INFPREV, CONTINUE, LOST = 0x28004, 0x28006, 0x2800E, 0x21002, 0x1F001
RUNNING, RUNNABLE, BLOCKED = 0, 1, 2


def window(stream: int, *records: bytes) -> bytes:
    """Give one window of a stream."""
    held = b"".join(records)
    return encode_window(stream, len(held)) + held


def tiny_trace(*windows: bytes) -> bytes:
    """Give a whole file."""
    return b"".join(windows)


def hypercall(op: int, tsc: int | None) -> bytes:
    """Give a PV hypercall's record."""
    return encode(HYPERCALL, [op], tsc)


def runstate(dom: int, vcpu: int, old: int, new: int, tsc: int) -> bytes:
    """Give a vCPU's change of runstate."""
    return encode(0x21001 | old << 8 | new << 4, [dom << 16 | vcpu], tsc)


def wake(dom: int, vcpu: int, tsc: int) -> bytes:
    """Give the record of a vCPU that is woken."""
    return encode(WAKE, [dom, vcpu], tsc)


def lost(count: int, dom: int, vcpu: int, first_tsc: int, tsc: int | None) -> bytes:
    """Give a LOST_RECORDS record as Xen writes it."""
    words = [count, dom | vcpu << 16, first_tsc & 0xFFFFFFFF, first_tsc >> 32]
    return encode(LOST, words, tsc)


def opened(path: Path, data: bytes) -> TraceReader:
    """Write a file and open it."""
    path.write_bytes(data)
    return open_trace(path)


def records_of(path: Path, data: bytes, max_rows: int = 1 << 17) -> list[tuple[int, ...]]:
    """Give (file offset, event, words) of every record in file order; [] for no trace."""
    try:
        with opened(path, data) as reader:
            frame = pl.concat([*reader.batches(max_rows), pl.DataFrame()], how="diagonal")
    except NotATraceError:
        return []
    rows = frame.sort("file_offset").select("file_offset", "event", pl.col("^w\\d$")).iter_rows()
    return [tuple(value for value in row if value is not None) for row in rows]


def rows_of(path: Path, data: bytes) -> pl.DataFrame:
    """Give the timeline of a file's bytes."""
    with opened(path, data) as reader:
        return pl.concat(timeline(reader))


def flips(data: bytes, places: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Give the data with each bit of the bytes at `places` flipped in turn."""
    for place in places:
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            yield place, bytes(changed)
