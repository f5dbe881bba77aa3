"""Assembly: stock capture, guest texts and snapshots become one trace file."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from evtrace.timeline import Kind
from evtrace.tracefile import records
from evtrace.tracefile.family import (
    ALL_DOMAINS,
    ALL_VCPUS,
    FACTS_STREAM,
    FAMILY_VERSION,
    FIRST_GUEST_STREAM,
    ChannelBits,
    FactKey,
    GuestType,
    HzSource,
    SnapshotSource,
    TextPurpose,
    Timing,
)
from evtrace.tracefile.reader import TraceReader, open_trace
from evtrace.tracefile.writer import TraceWriter
from evtrace.tracer.importers.clocks import Clock, ClockKind, find_clock
from evtrace.tracer.importers.guest import GuestEvent, GuestTrace
from evtrace.tracer.importers.occupancy import Occupancy, read_occupancy
from evtrace.tracer.importers.placement import Placed, merged_windows
from evtrace.tracer.importers.snapshots import AFTER, BEFORE, Channel, Snapshot


@dataclass(slots=True)
class Sources:
    """Everything one import is given."""

    xentrace: Path | None = None
    guests: dict[int, GuestTrace] = field(default_factory=dict)
    snapshots: dict[str | int, Snapshot] = field(default_factory=dict)
    """`before`, `after` or a host TSC -> what was seen then."""
    names: list[str] = field(default_factory=list)
    """`<option> <file name>` of each source."""
    timing: Timing = Timing.UNKNOWN
    xen_version: tuple[int, int] | None = None


@dataclass(slots=True)
class Outcome:
    """What an import did, for its summary."""

    clocks: dict[int, Clock] = field(default_factory=dict)
    unplaced: dict[int, int] = field(default_factory=dict)
    """Domain -> events whose pCPU is not known."""
    warnings: list[str] = field(default_factory=list)


def assemble(sources: Sources, output: Path, *, force: bool) -> Outcome:
    """Write the trace `output`; raises what `TraceWriter` and `open_trace` raise."""
    outcome = Outcome()
    stock = open_trace(sources.xentrace) if sources.xentrace else nullcontext()
    with stock as reader:
        occupancy = read_occupancy(reader) if reader else Occupancy()
        outcome.clocks = {
            dom: find_clock(dom, guest, occupancy) for dom, guest in sources.guests.items()
        }
        with TraceWriter(output, force=force) as writer:
            _write(writer, sources, outcome, occupancy, reader)
        if reader:
            outcome.warnings += [f"{reader.path}: {damage}" for damage in reader.damage]
    return outcome


def _write(
    writer: TraceWriter,
    sources: Sources,
    outcome: Outcome,
    occupancy: Occupancy,
    reader: TraceReader | None,
) -> None:
    first, last = _span(sources, outcome, occupancy)
    placed, streams = _place(sources, outcome, occupancy)
    for record in _facts(sources, outcome, occupancy, streams, first):
        writer.append(FACTS_STREAM, record)
    for number, (when, snapshot) in enumerate(_in_time(sources.snapshots)):
        tsc = first if when == BEFORE else last if when == AFTER else int(when)
        for record in _snapshot_records(snapshot, number, tsc):
            writer.append(FACTS_STREAM, record)
    writer.flush()
    for stream, data in merged_windows(reader, placed) if reader else ():
        writer.write_window(stream, data)
    for stream, own in placed.items():
        for record in own.rest():
            writer.append(stream, record)


def _span(sources: Sources, outcome: Outcome, occupancy: Occupancy) -> tuple[int, int]:
    """Give host TSCs before and after everything."""
    times = [occupancy.first_tsc, occupancy.last_tsc] if occupancy.last_tsc else []
    for dom, guest in sources.guests.items():
        lo, hi = outcome.clocks[dom].offset
        if guest.events:
            times += [guest.events[0].tsc + lo, guest.events[-1].tsc + hi]
    times += [when for when in sources.snapshots if isinstance(when, int)]
    return max(0, min(times, default=1) - 1), max(times, default=1) + 1


def _in_time(snapshots: dict[str | int, Snapshot]) -> list[tuple[str | int, Snapshot]]:
    rank = {BEFORE: (0, 0), AFTER: (2, 0)}
    return sorted(
        snapshots.items(),
        key=lambda item: (1, item[0]) if isinstance(item[0], int) else rank[item[0]],
    )


# --- guest events ------------------------------------------------------------------------------


def _place(
    sources: Sources,
    outcome: Outcome,
    occupancy: Occupancy,
) -> tuple[dict[int, Placed], dict[int, int]]:
    """Encode the guests' events by stream; also the streams made for them: stream -> domain."""
    pairs: dict[int, list[tuple[int, bytes]]] = {}
    streams: dict[int, int] = {}
    for place, (dom, guest) in enumerate(sorted(sources.guests.items())):
        own_stream = FIRST_GUEST_STREAM + place
        own_clock = not outcome.clocks[dom].is_host
        unplaced = 0
        for event in guest.events:
            record = _encode(dom, event)
            spans = None if own_clock else occupancy.running.get((dom, event.vcpu))
            pcpu = spans.at(event.tsc) if spans else None
            unplaced += pcpu is None
            stream = own_stream if pcpu is None else pcpu
            pairs.setdefault(stream, []).append((event.tsc, record))
        if unplaced:
            streams[own_stream] = dom
            outcome.unplaced[dom] = unplaced
    return {stream: Placed.of(events) for stream, events in pairs.items()}, streams


def _encode(dom: int, event: GuestEvent) -> bytes:
    return records.encode_family(event.kind, dom, event.vcpu, _words(event), event.tsc)


def _words(event: GuestEvent) -> list[int]:
    """Give the record's words after the vCPU word; what is not known is left out at the end."""
    call = event.call
    if call is not None:
        head = call.op & 0xFF | call.call_id << 8
        if event.kind == Kind.CALL_ENTER:
            return [head, *call.argument_words()]
        return [head, call.rc(), *call.output_words()]
    known: list[int | None] = []
    if event.kind in {Kind.HANDLER_ENTER, Kind.HANDLER_EXIT, Kind.IRQ_BOUND, Kind.IRQ_UNBOUND}:
        known = [event.irq, event.port]
    elif event.kind != Kind.UPCALL_ENTER:
        known = [event.port]
    known += event.words
    cut = known.index(None) if None in known else len(known)
    return [word for word in known[:cut] if word is not None]


# --- facts and snapshots -------------------------------------------------------------------------


def _facts(
    sources: Sources,
    outcome: Outcome,
    occupancy: Occupancy,
    streams: dict[int, int],
    tsc: int,
) -> Iterator[bytes]:
    yield _fact(FactKey.FORMAT_VERSION, FAMILY_VERSION, tsc=tsc)
    yield _fact(FactKey.TIMING, sources.timing, tsc=tsc)
    hz = next((s.tsc_hz for s in sources.snapshots.values() if s.tsc_hz), None)
    if hz:
        yield _fact(FactKey.TSC_HZ, hz, HzSource.SNAPSHOT, tsc=tsc)
    if sources.xen_version:
        major, minor = sources.xen_version
        yield _fact(FactKey.XEN_VERSION, major << 16 | minor, tsc=tsc)
    for name in sources.names:
        yield records.encode_text(TextPurpose.SOURCE, name, dom=ALL_DOMAINS, tsc=tsc)
    for dom, guest in sorted(sources.guests.items()):
        yield from _domain_facts(dom, guest, outcome.clocks[dom], occupancy, tsc)
    for stream, dom in streams.items():
        clock = 0 if outcome.clocks[dom].is_host else dom + 1
        yield _fact(FactKey.STREAM, stream, clock, dom=dom, tsc=tsc)
    forms = {dom: fifo for s in sources.snapshots.values() for dom, fifo in s.fifo.items()}
    forms |= {dom: g.fifo for dom, g in sources.guests.items() if g.fifo is not None}
    for dom, fifo in sorted(forms.items()):
        yield _fact(FactKey.FORM, int(fifo), dom=dom, tsc=tsc)


def _fact(
    key: FactKey,
    value: int,
    value2: int = 0,
    *,
    tsc: int,
    dom: int = ALL_DOMAINS,
) -> bytes:
    return records.encode_fact(key, dom, value, value2, tsc=tsc)


def _domain_facts(
    dom: int,
    guest: GuestTrace,
    clock: Clock,
    occupancy: Occupancy,
    tsc: int,
) -> Iterator[bytes]:
    yield _fact(FactKey.VCPUS, guest.vcpus, dom=dom, tsc=tsc)
    if any(d == dom for d, _ in occupancy.in_guest):
        yield _fact(FactKey.GUEST_TYPE, GuestType.HVM, dom=dom, tsc=tsc)
    elif any(d == dom for d, _ in occupancy.running):
        yield _fact(FactKey.GUEST_TYPE, GuestType.PV, dom=dom, tsc=tsc)
    if clock.kind is ClockKind.OFFSET:
        yield _fact(FactKey.CLOCK_OFFSET, *clock.offset, dom=dom, tsc=tsc)
    text = guest.text
    bad = sum(text.unparsed.values())
    yield _fact(FactKey.UNPARSED, bad, bad + len(text.lines), dom=dom, tsc=tsc)
    for example in text.examples.values():
        yield records.encode_text(TextPurpose.UNPARSED, example, dom=dom, tsc=tsc)
    for irq, name in sorted(guest.irqs.names.items()):
        yield records.encode_text(TextPurpose.IRQ_NAME, f"{irq} {name}", dom=dom, tsc=tsc)
    yield from _coverage(dom, guest, tsc)


def _coverage(dom: int, guest: GuestTrace, tsc: int) -> Iterator[bytes]:
    """Give what the text covers, in the domain's own clock: whole, or per vCPU if it has gaps."""
    lines = guest.text.lines
    if not lines:
        return
    if not guest.text.overwritten and not guest.text.gaps:
        first, last = lines[0].tsc, lines[-1].tsc
        yield records.encode_coverage(dom, ALL_VCPUS, guest.classes, first, last, tsc=tsc)
        return
    for first, last in _common_spans(guest):
        yield records.encode_coverage(dom, ALL_VCPUS, guest.classes, first, last, tsc=tsc)


def _common_spans(guest: GuestTrace) -> list[tuple[int, int]]:
    """Give the times in which no CPU's ring had lost events: from the latest start, gap by gap."""
    lines = guest.text.lines
    starts: dict[int, int] = {}
    for line in lines:
        starts.setdefault(line.cpu, line.tsc)
    begin = max(starts.values()) if guest.text.overwritten else lines[0].tsc
    holes = []
    for cpu, numbers in guest.text.gaps.items():
        own = [line for line in lines if line.cpu == cpu]
        for number in numbers:
            before = max((line.tsc for line in own if line.number < number), default=begin)
            after = min((line.tsc for line in own if line.number > number), default=lines[-1].tsc)
            holes.append((before, after))
    spans = []
    for before, after in sorted(holes):
        if before > begin:
            spans.append((begin, before))
        begin = max(begin, after)
    return [*spans, (begin, lines[-1].tsc)]


def _snapshot_records(snapshot: Snapshot, number: int, tsc: int) -> Iterator[bytes]:
    for dom, channels in sorted(snapshot.domains.items()):
        seen_bits = any(channel.pending is not None for channel in channels.values())
        source = SnapshotSource.DEBUG_KEYS if seen_bits else SnapshotSource.LSEVTCHN
        yield _fact(FactKey.SNAPSHOT, number, source, dom=dom, tsc=tsc)
        for _, channel in sorted(channels.items()):
            words = _channel_words(channel, number, snapshot.fifo.get(dom))
            yield records.encode_family(Kind.CHANNEL, dom, channel.vcpu, words, tsc)


def _channel_words(channel: Channel, number: int, fifo: bool | None) -> list[int]:
    bits = ChannelBits(0)
    if channel.pending is not None:
        bits |= ChannelBits.BITS_KNOWN
        bits |= ChannelBits.PENDING if channel.pending else ChannelBits(0)
        bits |= ChannelBits.MASKED if channel.masked else ChannelBits(0)
        bits |= ChannelBits.LINKED if channel.linked else ChannelBits(0)
    if fifo is not None:
        bits |= ChannelBits.FORM_KNOWN | (ChannelBits.FIFO if fifo else ChannelBits(0))
    priority = 7
    return [channel.port, channel.state | bits, channel.peer, channel.peer_port, priority, number]
