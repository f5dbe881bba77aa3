"""Statements: what an imported trace says of itself, and its snapshots, as records."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from evtrace.timeline import Kind
from evtrace.tracefile import records
from evtrace.tracefile.family import (
    ALL_DOMAINS,
    ALL_VCPUS,
    FAMILY_VERSION,
    ChannelBits,
    FactKey,
    GuestType,
    HzSource,
    SnapshotSource,
    TextPurpose,
    Timing,
)
from evtrace.tracer.importers.clocks import Clock, ClockKind
from evtrace.tracer.importers.events import GuestTrace
from evtrace.tracer.importers.intervals import Interval, union
from evtrace.tracer.importers.occupancy import Occupancy
from evtrace.tracer.importers.snapshots import Channel, Snapshot

_NOTHING = ChannelBits(0)


@dataclass(slots=True)
class Statements:
    """Everything that is to be stated; `records` encodes it."""

    names: list[str]
    """`<option> <file name>` of each source."""
    guests: Mapping[int, GuestTrace]
    clocks: Mapping[int, Clock]
    occupancy: Occupancy
    snapshots: list[tuple[int, Snapshot]]
    """(host TSC, what was seen then), in order of time."""
    streams: Mapping[int, int]
    """Stream without a pCPU -> whose events it holds."""
    timing: Timing = Timing.UNKNOWN
    xen_version: tuple[int, int] | None = None
    _tsc: int = field(init=False, default=0)

    def records(self, tsc: int) -> Iterator[bytes]:
        """Give the facts, at `tsc`, and then the snapshots, each at its time."""
        self._tsc = tsc
        yield from self._of_the_trace()
        for dom in sorted(self._domains()):
            yield from self._of_domain(dom)
        for dom, guest in sorted(self.guests.items()):
            yield from self._of_text(dom, guest)
        for stream, dom in self.streams.items():
            own_clock = 0 if self.clocks[dom].is_host else dom + 1
            yield self._fact(FactKey.STREAM, stream, own_clock, dom=dom)
        for number, (at, snapshot) in enumerate(self.snapshots, 1):
            yield from _snapshot(snapshot, number, at)

    def _fact(self, key: FactKey, value: int, value2: int = 0, *, dom: int = ALL_DOMAINS) -> bytes:
        return records.encode_fact(key, dom, value, value2, tsc=self._tsc)

    def _text(self, purpose: TextPurpose, text: str, *, dom: int = ALL_DOMAINS) -> bytes:
        return records.encode_text(purpose, text, dom=dom, tsc=self._tsc)

    def _of_the_trace(self) -> Iterator[bytes]:
        yield self._fact(FactKey.FORMAT_VERSION, FAMILY_VERSION)
        yield self._fact(FactKey.TIMING, self.timing)
        hz = next((seen.tsc_hz for _, seen in self.snapshots if seen.tsc_hz), None)
        if hz:
            yield self._fact(FactKey.TSC_HZ, hz, HzSource.SNAPSHOT)
        if self.xen_version:
            major, minor = self.xen_version
            yield self._fact(FactKey.XEN_VERSION, major << 16 | minor)
        for name in self.names:
            yield self._text(TextPurpose.SOURCE, name)

    # --- domains -------------------------------------------------------------------------------

    def _domains(self) -> set[int]:
        seen = {dom for _, snapshot in self.snapshots for dom in snapshot.domains}
        return seen | set(self.guests) | {dom for dom, _ in self.occupancy.running}

    def _of_domain(self, dom: int) -> Iterator[bytes]:
        vcpus = self._vcpus(dom)
        if vcpus:
            yield self._fact(FactKey.VCPUS, vcpus, dom=dom)
        guest_type = self._guest_type(dom)
        if guest_type is not GuestType.UNKNOWN:
            yield self._fact(FactKey.GUEST_TYPE, guest_type, dom=dom)
        fifo = self._fifo(dom)
        if fifo is not None:
            yield self._fact(FactKey.FORM, int(fifo), dom=dom)

    def _vcpus(self, dom: int) -> int:
        """Count the vCPUs that any source shows."""
        numbers = {vcpu for of, vcpu in self.occupancy.running if of == dom}
        for _, snapshot in self.snapshots:
            numbers |= {channel.vcpu for channel in snapshot.domains.get(dom, {}).values()}
        text = self.guests[dom].vcpus if dom in self.guests else 0
        return max(text, max(numbers, default=-1) + 1)

    def _guest_type(self, dom: int) -> GuestType:
        """Tell PV from HVM by how the domain was entered, called, or upcalled."""
        said = {snapshot.hvm[dom] for _, snapshot in self.snapshots if dom in snapshot.hvm}
        guest = self.guests.get(dom)
        if guest is not None and guest.is_hvm is not None:
            said.add(guest.is_hvm)
        if dom in self.occupancy.hvm or True in said:
            return GuestType.HVM
        return GuestType.PV if dom in self.occupancy.pv or False in said else GuestType.UNKNOWN

    def _fifo(self, dom: int) -> bool | None:
        """Tell the form by the functions that the domain ran, else by a snapshot's columns."""
        guest = self.guests.get(dom)
        if guest is not None and guest.fifo is not None:
            return guest.fifo
        return next((seen.fifo[dom] for _, seen in self.snapshots if dom in seen.fifo), None)

    def _of_text(self, dom: int, guest: GuestTrace) -> Iterator[bytes]:
        clock, text = self.clocks[dom], guest.text
        if clock.kind is ClockKind.OFFSET:
            yield self._fact(FactKey.CLOCK_OFFSET, *clock.offset, dom=dom)
        bad = text.unparsed.total()
        yield self._fact(FactKey.UNPARSED, bad, bad + len(text.lines), dom=dom)
        for example in text.examples.values():
            yield self._text(TextPurpose.UNPARSED, example, dom=dom)
        for irq, name in sorted(guest.irqs.names.items()):
            yield self._text(TextPurpose.IRQ_NAME, f"{irq} {name}", dom=dom)
        for vcpu, first, last in covered(guest):
            yield records.encode_coverage(dom, vcpu, guest.classes, first, last, tsc=self._tsc)


def covered(guest: GuestTrace) -> Iterator[tuple[int, int, int]]:
    """Give (vCPU or `ALL_VCPUS`, first, last TSC) of what a text covers, in its own clock.

    A ring that was overwritten begins on each CPU where its oldest event is; where events of a
    CPU were lost, its coverage ends at the event before and goes on at the one behind.
    """
    text = guest.text
    if not text.lines:
        return
    last = text.lines[-1].tsc
    if not text.overwritten and not text.gaps:
        yield ALL_VCPUS, text.lines[0].tsc, last
        return
    for vcpu in range(guest.vcpus):
        own = [line for line in text.lines if line.cpu == vcpu]
        if text.overwritten and not own:
            continue
        begin = own[0].tsc if text.overwritten else text.lines[0].tsc
        numbers, holes = [line.number for line in own], []
        for cpu, number in text.gaps:
            if cpu == vcpu:
                before, behind = bisect_left(numbers, number) - 1, bisect_right(numbers, number)
                hole_end = own[behind].tsc if behind < len(own) else last
                holes.append((own[before].tsc if before >= 0 else begin, hole_end))
        for first, end in _between(union(holes), begin, last):
            yield vcpu, first, end


def _between(holes: list[Interval], begin: int, end: int) -> Iterator[Interval]:
    for hole_begin, hole_end in holes:
        if hole_begin > begin:
            yield begin, hole_begin
        begin = hole_end
    if begin < end:
        yield begin, end


def _snapshot(snapshot: Snapshot, number: int, tsc: int) -> Iterator[bytes]:
    for dom, channels in sorted(snapshot.domains.items()):
        seen_bits = any(channel.pending is not None for channel in channels.values())
        source = SnapshotSource.DEBUG_KEYS if seen_bits else SnapshotSource.LSEVTCHN
        yield records.encode_fact(FactKey.SNAPSHOT, dom, number, source, tsc=tsc)
        for _, channel in sorted(channels.items()):
            words = _channel_words(channel, number, snapshot.fifo.get(dom))
            yield records.encode_family(Kind.CHANNEL, dom, channel.vcpu, words, tsc)


def _channel_words(channel: Channel, number: int, fifo: bool | None) -> list[int]:
    bits = _NOTHING
    if channel.pending is not None:
        bits |= ChannelBits.BITS_KNOWN
        bits |= ChannelBits.PENDING if channel.pending else _NOTHING
        bits |= ChannelBits.MASKED if channel.masked else _NOTHING
        bits |= ChannelBits.LINKED if channel.linked else _NOTHING
        bits |= ChannelBits.XEN_CONSUMER if channel.xen_consumer else _NOTHING
    if fifo is not None:
        bits |= ChannelBits.FORM_KNOWN | (ChannelBits.FIFO if fifo else _NOTHING)
    return [
        channel.port,
        channel.state | bits,
        channel.peer,
        channel.peer_port,
        0,  # the priority, which neither source shows
        number,
    ]
