"""The bytes of single records, stock ones and evtrace's own (evtrace/tracefile/family.py)."""

import struct
from collections.abc import Sequence

from evtrace.timeline import Kind, RecordClass
from evtrace.tracefile.family import (
    ALL_VCPUS,
    FAMILY_EVENT,
    MAX_WORDS,
    TEXT_BYTES,
    FactKey,
    TextPurpose,
    family_event,
    pack_vcpu,
)
from evtrace.tracefile.walk import WINDOW_HEADER

CYCLES = 1 << 31
EVENT_MASK = 0x0FFFFFFF

_MASK_32 = 0xFFFFFFFF
_MASK_64 = 0xFFFFFFFFFFFFFFFF
_WINDOW = struct.Struct("<IiI")
_PLAIN = tuple(struct.Struct(f"<{1 + n}I") for n in range(MAX_WORDS + 1))
_TIMED = tuple(struct.Struct(f"<IQ{n}I") for n in range(MAX_WORDS + 1))


def encode(event: int, words: Sequence[int], tsc: int | None = None) -> bytes:
    """Encode one record; without `tsc` it carries no cycles. Raises ValueError over 7 words."""
    count = len(words)
    if count > MAX_WORDS:
        message = f"event {event:#x}: {count} words, a record holds {MAX_WORDS}"
        raise ValueError(message)
    header = event & EVENT_MASK | count << 28
    if tsc is None:
        return _PLAIN[count].pack(header, *words)
    return _TIMED[count].pack(header | CYCLES, tsc & _MASK_64, *words)


def encode_window(stream: int, size_bytes: int) -> bytes:
    """Encode the header of a window that holds `size_bytes` of records."""
    return _WINDOW.pack(WINDOW_HEADER, stream, size_bytes)


def encode_family(kind: Kind, dom: int, vcpu: int, words: Sequence[int], tsc: int | None) -> bytes:
    """Encode a record of evtrace's family; `words` follow the vCPU word, signed ones allowed."""
    count = 1 + len(words)
    if tsc is not None and count <= MAX_WORDS and (not words or min(words) >= 0):
        # Nearly all records: this way they take half the time.
        header = FAMILY_EVENT | kind | count << 28 | CYCLES
        return _TIMED[count].pack(header, tsc & _MASK_64, dom << 16 | vcpu, *words)
    payload = [pack_vcpu(dom, vcpu), *(word & _MASK_32 for word in words)]
    return encode(family_event(kind), payload, tsc)


def encode_fact(key: FactKey, dom: int, value: int, value2: int = 0, *, tsc: int) -> bytes:
    """Encode a fact of `dom` (`ALL_DOMAINS`: of the trace): two 64-bit values, signed or not."""
    words = [key, *_halves(value), *_halves(value2)]
    return encode_family(Kind.FACT, dom, ALL_VCPUS, words, tsc)


def encode_coverage(
    dom: int, vcpu: int, classes: RecordClass, tsc_lo: int, tsc_hi: int, *, tsc: int
) -> bytes:
    """Encode that `classes` were captured from `tsc_lo` to `tsc_hi` of the domain's clock."""
    words = [classes, *_halves(tsc_lo), *_halves(tsc_hi)]
    return encode_family(Kind.COVERAGE, dom, vcpu, words, tsc)


def encode_text(
    purpose: TextPurpose, text: str, *, dom: int, tsc: int, vcpu: int = ALL_VCPUS
) -> bytes:
    """Encode a string as TEXT records one after the other; cut after 255 fragments."""
    encoded = text.encode()[: 0xFF * TEXT_BYTES]
    pieces = range(0, len(encoded) or 1, TEXT_BYTES)
    return b"".join(
        encode_family(
            Kind.TEXT,
            dom,
            vcpu,
            [purpose | number << 8 | len(encoded) << 16, *_text_words(encoded[at:])],
            tsc,
        )
        for number, at in enumerate(pieces)
    )


def _text_words(rest: bytes) -> tuple[int, ...]:
    return struct.unpack("<5I", rest[:TEXT_BYTES].ljust(TEXT_BYTES, b"\0"))


def _halves(value: int) -> tuple[int, int]:
    return value & _MASK_32, value >> 32 & _MASK_32
