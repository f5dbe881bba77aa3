"""Facts: what a trace says of itself, read from its facts stream (docs/trace-format.md)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, TypeVar

from evtrace.timeline import Kind, RecordClass
from evtrace.tracefile.coverage import Coverage
from evtrace.tracefile.family import (
    ALL_DOMAINS,
    ALL_VCPUS,
    FAMILY_EVENT,
    FAMILY_MASK,
    TEXT_BYTES,
    FactKey,
    GuestType,
    HzSource,
    TextPurpose,
    Timing,
    unpack_vcpu,
)

N = TypeVar("N", bound=IntEnum)


class RawRecord(NamedTuple):
    """One record as it stands in the file."""

    event: int
    tsc: int | None
    words: tuple[int, ...]


class Stream(NamedTuple):
    """Whose records a stream that is no pCPU holds, and by which clock."""

    dom: int
    clock: int | None
    """The domain whose TSC it is; None: the host's."""


@dataclass(slots=True)
class Facts:
    """What a trace says of itself; empty for a stock file."""

    format_version: int | None = None
    tsc_hz: int | None = None
    tsc_hz_source: HzSource = HzSource.UNKNOWN
    xen_version: tuple[int, int] | None = None
    timing: Timing = Timing.UNKNOWN
    clock_offsets: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Domain -> interval: host TSC = its TSC + offset."""
    forms: dict[int, int] = field(default_factory=dict)
    """Domain -> 0 for 2-level, 1 for FIFO."""
    guest_types: dict[int, GuestType] = field(default_factory=dict)
    vcpus: dict[int, int] = field(default_factory=dict)
    domain_names: dict[int, str] = field(default_factory=dict)
    irq_names: dict[tuple[int, int], str] = field(default_factory=dict)
    """(domain, irq) -> name of its handler."""
    streams: dict[int, Stream] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    unparsed: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Domain -> lines of its source that could not be parsed, lines in all."""
    unparsed_examples: list[str] = field(default_factory=list)
    coverage: list[Coverage] = field(default_factory=list)
    """As recorded: in the clock of the domain it speaks of."""


def read_facts(records: Iterable[RawRecord]) -> Facts:
    """Read the records of the facts stream, in file order; what is not known is passed over."""
    facts = Facts()
    texts = _Texts(facts)
    for record in records:
        if record.event & FAMILY_MASK != FAMILY_EVENT or not record.words:
            continue
        dom, vcpu = unpack_vcpu(record.words[0])
        words = record.words[1:]
        match record.event & 0xFF:
            case Kind.FACT:
                _take_fact(facts, dom, words)
            case Kind.COVERAGE:
                _take_coverage(facts, dom, vcpu, words)
            case Kind.TEXT:
                texts.take(dom, words)
    return facts


def joined(lo: int, hi: int, *, signed: bool = False) -> int:
    """Join the halves of a 64-bit value."""
    value = hi << 32 | lo
    return value - (1 << 64) if signed and hi & 0x80000000 else value


def _known(numbers: type[N], value: int, default: N) -> N:
    """Give the member called `value`; a number of a later version is as good as unknown."""
    return numbers(value) if value in set(map(int, numbers)) else default


def _take_fact(facts: Facts, dom: int, words: tuple[int, ...]) -> None:
    if len(words) < 5:
        return
    key, value, value2 = words[0], joined(words[1], words[2]), joined(words[3], words[4])
    match key:
        case FactKey.FORMAT_VERSION:
            facts.format_version = value
        case FactKey.TSC_HZ:
            facts.tsc_hz = value or None
            facts.tsc_hz_source = _known(HzSource, value2, HzSource.UNKNOWN)
        case FactKey.XEN_VERSION:
            facts.xen_version = (value >> 16, value & 0xFFFF)
        case FactKey.TIMING:
            facts.timing = _known(Timing, value, Timing.UNKNOWN)
        case FactKey.CLOCK_OFFSET:
            interval = (joined(*words[1:3], signed=True), joined(*words[3:5], signed=True))
            facts.clock_offsets[dom] = interval
        case FactKey.FORM:
            facts.forms[dom] = value
        case FactKey.GUEST_TYPE:
            facts.guest_types[dom] = _known(GuestType, value, GuestType.UNKNOWN)
        case FactKey.VCPUS:
            facts.vcpus[dom] = value
        case FactKey.STREAM:
            facts.streams[value] = Stream(dom, value2 - 1 if value2 else None)
        case FactKey.UNPARSED:
            facts.unparsed[dom] = (value, value2)


def _take_coverage(facts: Facts, dom: int, vcpu: int, words: tuple[int, ...]) -> None:
    if len(words) < 5:
        return
    facts.coverage.append(
        Coverage(
            None if dom == ALL_DOMAINS else dom,
            None if vcpu == ALL_VCPUS else vcpu,
            RecordClass(words[0]),
            joined(*words[1:3]),
            joined(*words[3:5]),
        ),
    )


class _Texts:
    """Puts the fragments of strings together."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._parts: dict[tuple[int, int], bytearray] = {}

    def take(self, dom: int, words: tuple[int, ...]) -> None:
        if not words:
            return
        purpose, place, length = words[0] & 0xFF, words[0] >> 8 & 0xFF, words[0] >> 16
        if place == 0:
            self._parts[dom, purpose] = bytearray()
        gathered = self._parts.get((dom, purpose))
        if gathered is None or len(gathered) != place * TEXT_BYTES:
            return  # a fragment before this one is missing
        gathered += b"".join(word.to_bytes(4, "little") for word in words[1:])
        if len(gathered) >= length:
            del self._parts[dom, purpose]
            self._whole(dom, purpose, gathered[:length].decode(errors="replace"))

    def _whole(self, dom: int, purpose: int, text: str) -> None:
        facts = self._facts
        match purpose:
            case TextPurpose.DOMAIN_NAME:
                facts.domain_names[dom] = text
            case TextPurpose.SOURCE:
                facts.sources.append(text)
            case TextPurpose.UNPARSED:
                facts.unparsed_examples.append(text)
            case TextPurpose.IRQ_NAME:
                irq, _, name = text.partition(" ")
                if irq.isdecimal():
                    facts.irq_names[dom, int(irq)] = name
