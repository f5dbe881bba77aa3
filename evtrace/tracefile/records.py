"""The bytes of single records, stock and of evtrace's family."""

import struct
from collections.abc import Iterable, Sequence

from evtrace.errors import EvtraceError
from evtrace.tracefile.family import (
    ALL_DOMAINS,
    ALL_VCPUS,
    MAX_WORDS,
    TEXT_BYTES,
    FactKey,
    TextPurpose,
    family_event,
    pack_vcpu,
)
from evtrace.timeline import Kind

CYCLES = 1 << 31
WINDOW_HEADER = 0x2001F003
"""Header word of TRC_TRACE_CPU_CHANGE, which starts a window: then i32 cpu and u32 size."""
WINDOW_HEADER_BYTES = 12

TEXT_MAX_BYTES = TEXT_BYTES * 255


class RecordTooLongError(EvtraceError):
    """A record with more words than the format has room for: a defect of the writer."""


def encode(event: int, words: Sequence[int], tsc: int | None = None) -> bytes:
    """Give the bytes of one record; `words` are unsigned 32-bit, at most seven."""
    if len(words) > MAX_WORDS:
        message = f"event {event:08x}: {len(words)} words, a record has room for {MAX_WORDS}"
        raise RecordTooLongError(message)
    header = event | len(words) << 28
    masked = [word & 0xFFFFFFFF for word in words]
    if tsc is None:
        return struct.pack(f"<{1 + len(masked)}I", header, *masked)
    return struct.pack(f"<IQ{len(masked)}I", header | CYCLES, tsc, *masked)


def encode_window(stream: int, records: bytes) -> bytes:
    """Give a window: its header and the records of one pCPU or stream."""
    return struct.pack("<IiI", WINDOW_HEADER, stream, len(records)) + records


def encode_family(kind: Kind, dom: int, vcpu: int, words: Iterable[int], tsc: int) -> bytes:
    """Give a record of evtrace's family; `words` are those after the vCPU word."""
    return encode(family_event(kind), [pack_vcpu(dom, vcpu), *words], tsc)


def encode_fact(
    key: FactKey,
    tsc: int,
    value: int,
    value2: int = 0,
    *,
    dom: int = ALL_DOMAINS,
) -> bytes:
    """Give a FACT; values are signed or unsigned 64-bit."""
    words = [key, *_halves(value), *_halves(value2)]
    return encode_family(Kind.FACT, dom, ALL_VCPUS, words, tsc)


def encode_coverage(
    dom: int,
    vcpu: int,
    classes: int,
    first_tsc: int,
    last_tsc: int,
    tsc: int,
) -> bytes:
    """Give a COVERAGE record: `classes` were captured from `first_tsc` to `last_tsc`."""
    words = [classes, *_halves(first_tsc), *_halves(last_tsc)]
    return encode_family(Kind.COVERAGE, dom, vcpu, words, tsc)


def encode_text(
    purpose: TextPurpose,
    text: str,
    tsc: int,
    *,
    dom: int = ALL_DOMAINS,
    vcpu: int = ALL_VCPUS,
) -> bytes:
    """Give the TEXT records of a string, in UTF-8, cut after `TEXT_MAX_BYTES`."""
    raw = text.encode()[:TEXT_MAX_BYTES]
    pieces = [raw[i : i + TEXT_BYTES] for i in range(0, len(raw), TEXT_BYTES)] or [b""]
    return b"".join(
        encode_family(
            Kind.TEXT,
            dom,
            vcpu,
            [purpose | place << 8 | len(raw) << 16, *_text_words(piece)],
            tsc,
        )
        for place, piece in enumerate(pieces)
    )


def _text_words(piece: bytes) -> tuple[int, ...]:
    return struct.unpack("<5I", piece.ljust(TEXT_BYTES, b"\0"))


def _halves(value: int) -> tuple[int, int]:
    return value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF
