"""Tiny traces in one line: `tiny_trace(window(0, wake(0, 1, tsc=5)), ...)` are a file's bytes."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

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


def sample() -> bytes:
    """Give a trace of three windows and two pCPUs with records of many shapes."""
    return tiny_trace(
        window(
            0,
            runstate(0, 0, RUNNABLE, RUNNING, tsc=100),
            hypercall(0x20, tsc=110),
            wake(1, 0, tsc=120),
            runstate(1, 0, BLOCKED, RUNNABLE, tsc=121),
            encode(HYPERCALL, [0x10001D, 1], 130),
        ),
        window(
            1,
            runstate(32767, 1, RUNNING, RUNNABLE, tsc=125),
            runstate(1, 0, RUNNABLE, RUNNING, tsc=126),
            encode(VMENTRY, [], 127),
            encode(VMEXIT, [0x81, 2, 3], 140),
            encode(VMMCALL, [32]),
            encode(VMENTRY, [], 150),
        ),
        window(
            0,
            encode(0x2220A, [1, 4], 160),
            lost(5, 0, 0, 161, tsc=170),
            hypercall(0x17, tsc=180),
        ),
    )


def opened(path: Path, data: bytes) -> TraceReader:
    """Write a file and open it."""
    path.write_bytes(data)
    return open_trace(path)


def raw(path: Path, data: bytes, max_rows: int = 1 << 17) -> pl.DataFrame:
    """Give the raw records of a file's bytes in time order."""
    with opened(path, data) as reader:
        return pl.concat(reader.batches(max_rows))


def kept_and_reported(path: Path, data: bytes) -> tuple[list[int], list[tuple[str, int, int]]]:
    """Give the offsets of the records that are kept, and the damage reported, in one pass."""
    with opened(path, data) as reader:
        kept = pl.concat(reader.batches())["file_offset"].sort().to_list()
        return kept, [(found.kind.value, found.offset, found.count) for found in reader.damage]


def rows(path: Path, data: bytes) -> pl.DataFrame:
    """Give the timeline of a file's bytes."""
    with opened(path, data) as reader:
        return pl.concat(timeline(reader))


def damage(path: Path, data: bytes) -> list[tuple[str, int, int]]:
    """Give (kind, offset, count) of all damage in a file's bytes; either pass must find it."""
    with opened(path, data) as reader, opened(path, data) as counting:
        assert sum(batch.height for batch in reader.batches()) == counting.survey.records
        assert reader.damage == counting.damage
        return [(found.kind.value, found.offset, found.count) for found in reader.damage]


def record_ends(data: bytes) -> dict[int, int]:
    """Give for each record of an undamaged trace its offset and the offset behind it."""
    ends, at = dict[int, int](), 0
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at + 8 : at + 12], "little")
        at += 12
        while at < end:
            top = data[at + 3] >> 4
            ends[at] = at + 4 * (1 + (top & 7) + 2 * (top >> 3))
            at = ends[at]
    return ends


def flips(data: bytes, places: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Give the data with each bit of the bytes at `places` flipped in turn."""
    for place in places:
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            yield place, bytes(changed)
