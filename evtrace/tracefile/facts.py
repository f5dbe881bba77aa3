"""What a trace says of itself: the FACT, COVERAGE and TEXT records of its facts stream."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from evtrace.timeline import Kind, RecordClass
from evtrace.tracefile.family import (
    ALL_DOMAINS,
    ALL_VCPUS,
    FAMILY_EVENT,
    FAMILY_VERSION,
    LINUX_HABITS,
    FactKey,
    GuestHabits,
    GuestType,
    HzSource,
    TextPurpose,
    Timing,
    unpack_vcpu,
)
from evtrace.tracefile.texts import Text


@dataclass(frozen=True, slots=True)
class Coverage:
    """Classes captured for a domain (None: all) and vCPU (None: all), in host TSC."""

    dom: int | None
    vcpu: int | None
    classes: RecordClass
    tsc_lo: int
    tsc_hi: int


@dataclass(frozen=True, slots=True)
class Stream:
    """Whose records a stream that is not a physical CPU's holds, and by whose clock."""

    dom: int
    clock: int | None
    """The domain whose TSC it carries; None for the host's."""


@dataclass(slots=True)
class Facts:
    """Facts of a trace; what is not stated is None, UNKNOWN or absent from its dict."""

    format_version: int | None = None
    tsc_hz: int | None = None
    tsc_hz_source: HzSource = HzSource.UNKNOWN
    xen_version: tuple[int, int] | None = None
    timing: Timing = Timing.UNKNOWN
    clock_offsets: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By domain: host TSC = its TSC + something in [lowest, highest]."""
    forms: dict[int, int] = field(default_factory=dict)
    """By domain: 0 for 2-level, 1 for FIFO."""
    guest_types: dict[int, GuestType] = field(default_factory=dict)
    domain_names: dict[int, str] = field(default_factory=dict)
    irq_names: dict[tuple[int, int], str] = field(default_factory=dict)
    """By (domain, irq)."""
    vcpus: dict[int, int] = field(default_factory=dict)
    habits: dict[int, GuestHabits] = field(default_factory=dict)
    streams: dict[int, Stream] = field(default_factory=dict)
    coverage: list[Coverage] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    unparsed: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By domain: lines of its source that could not be parsed, lines in all."""
    unparsed_lines: list[str] = field(default_factory=list)
    """The first line of each kind that could not be parsed."""
    unknown_records: int = 0
    """Records of a family version or kind, or with a value, that this evtrace does not know."""

    @property
    def clock_widths(self) -> dict[int, int]:
        """By domain with a clock of its own: how many cycles wide its offset's interval is."""
        return {dom: hi - lo for dom, (lo, hi) in self.clock_offsets.items()}


class FactReader:
    """Collects facts record by record."""

    def __init__(self) -> None:
        """Start with nothing stated."""
        self.facts = Facts()
        self._texts: dict[tuple[int, int], Text] = defaultdict(Text)

    def take(self, records: Iterable[tuple[int, Sequence[int]]]) -> None:
        """Take (event, words) of family records; those of other kinds are passed over."""
        for event, words in records:
            try:
                self._take(event - FAMILY_EVENT, words)
            except ValueError:  # a number that no enumeration of ours has, or too few words
                self.facts.unknown_records += 1

    def finish(self) -> Facts:
        """Give the facts, coverage in host TSC."""
        facts = self.facts
        facts.coverage = [self._in_host_time(coverage) for coverage in facts.coverage]
        return facts

    def _take(self, kind: int, words: Sequence[int]) -> None:
        if kind not in {Kind.FACT, Kind.COVERAGE, Kind.TEXT}:
            return
        (dom, vcpu), values = unpack_vcpu(words[0]) if words else (0, 0), words[1:]
        if kind == Kind.FACT:
            key, lo, hi, lo2, hi2 = _five(values)
            self._fact(FactKey(key), dom, lo | hi << 32, lo2 | hi2 << 32)
        elif kind == Kind.COVERAGE:
            classes, lo, hi, lo2, hi2 = _five(values)
            self.facts.coverage.append(
                Coverage(
                    None if dom == ALL_DOMAINS else dom,
                    None if vcpu == ALL_VCPUS else vcpu,
                    RecordClass(classes),
                    _signed(lo | hi << 32),
                    _signed(lo2 | hi2 << 32),
                ),
            )
        elif values:
            self._text(dom, values)

    def _fact(self, key: FactKey, dom: int, value: int, value2: int) -> None:
        facts = self.facts
        match key:
            case FactKey.FORMAT_VERSION:
                facts.format_version = value
                facts.unknown_records += value > FAMILY_VERSION
            case FactKey.TSC_HZ:
                facts.tsc_hz, facts.tsc_hz_source = value or None, HzSource(value2)
            case FactKey.XEN_VERSION:
                facts.xen_version = value >> 16, value & 0xFFFF
            case FactKey.TIMING:
                facts.timing = Timing(value)
            case _:
                self._domain_fact(key, dom, value, value2)

    def _domain_fact(self, key: FactKey, dom: int, value: int, value2: int) -> None:
        facts = self.facts
        match key:
            case FactKey.CLOCK_OFFSET:
                facts.clock_offsets[dom] = _offset(value), _offset(value2)
            case FactKey.FORM:
                facts.forms[dom] = value
            case FactKey.GUEST_TYPE:
                facts.guest_types[dom] = GuestType(value)
            case FactKey.STREAM:
                facts.streams[value] = Stream(dom, value2 - 1 if value2 else None)
            case FactKey.VCPUS:
                facts.vcpus[dom] = value
            case FactKey.GUEST_HABITS:
                facts.habits[dom] = GuestHabits(value & LINUX_HABITS)
            case FactKey.UNPARSED:
                facts.unparsed[dom] = value, value2
            case _:
                pass  # a snapshot stands at its place in the timeline

    def _text(self, dom: int, values: Sequence[int]) -> None:
        purpose = TextPurpose(values[0] & 0xFF)
        text = self._texts[dom, purpose]
        if text.take(values) and purpose != TextPurpose.LOG:
            self._state(purpose, dom, text.string())

    def _state(self, purpose: TextPurpose, dom: int, string: str) -> None:
        facts = self.facts
        match purpose:
            case TextPurpose.DOMAIN_NAME:
                facts.domain_names[dom] = string
            case TextPurpose.IRQ_NAME:
                irq, _, name = string.partition(" ")
                facts.irq_names[dom, int(irq)] = name
            case TextPurpose.SOURCE:
                facts.sources.append(string)
            case TextPurpose.UNPARSED:
                facts.unparsed_lines.append(string)
            case TextPurpose.LOG:
                pass  # stands at its place in the timeline

    def _in_host_time(self, coverage: Coverage) -> Coverage:
        """Shift what was captured by a domain's own clock into the host's, generously."""
        if coverage.dom not in self.facts.clock_offsets:
            return coverage
        lo, hi = self.facts.clock_offsets[coverage.dom]
        return Coverage(
            coverage.dom,
            coverage.vcpu,
            coverage.classes,
            coverage.tsc_lo + lo,
            coverage.tsc_hi + hi,
        )


def _five(values: Sequence[int]) -> tuple[int, int, int, int, int]:
    """Give five words; those absent at the end count as 0."""
    if not values:
        raise ValueError
    key, lo, hi, lo2, hi2 = (*values, 0, 0, 0, 0)[:5]
    return key, lo, hi, lo2, hi2


def _offset(value: int) -> int:
    """Give a clock offset; one that cannot be added to a TSC is no offset."""
    offset = _signed(value)
    if abs(offset) >> 62:
        raise ValueError
    return offset


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
