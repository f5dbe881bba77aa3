"""Assembly: stock capture, guest texts and snapshots become one trace file."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from evtrace.errors import UsageError
from evtrace.timeline import Kind
from evtrace.tracefile import records
from evtrace.tracefile.family import FACTS_STREAM, FIRST_GUEST_STREAM, Timing
from evtrace.tracefile.reader import TraceReader, open_trace
from evtrace.tracefile.writer import TraceWriter
from evtrace.tracer.importers.clocks import Clock, find_clocks
from evtrace.tracer.importers.events import GuestEvent, GuestTrace
from evtrace.tracer.importers.listing import bring_up_to_date, listed_tsc
from evtrace.tracer.importers.occupancy import Occupancy, read_occupancy
from evtrace.tracer.importers.placement import Placed, merged_windows
from evtrace.tracer.importers.snapshots import AFTER, BEFORE, Snapshot
from evtrace.tracer.importers.statements import Statements

_WITH_IRQ = {Kind.HANDLER_ENTER, Kind.HANDLER_EXIT, Kind.IRQ_BOUND, Kind.IRQ_UNBOUND}


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

    occupancy: Occupancy = field(default_factory=Occupancy)
    clocks: dict[int, Clock] = field(default_factory=dict)
    unplaced: dict[int, int] = field(default_factory=dict)
    """Domain -> events whose pCPU is not known."""
    damage: list[str] = field(default_factory=list)
    """What of the stock capture could not be read."""

    def calls_inside(self, dom: int, guest: GuestTrace) -> int:
        """Count the calls of a domain that lie wholly inside the time of the stock capture."""
        lo, hi = self.clocks[dom].offset
        first, last = self.occupancy.first_tsc - lo, self.occupancy.last_tsc - hi
        return sum(
            call.pre is not None
            and call.post is not None
            and first <= call.pre.tsc
            and call.post.tsc <= last
            for call in guest.calls.calls
        )


def assemble(sources: Sources, output: Path, *, force: bool) -> Outcome:
    """Write the trace `output`.

    Raises `OutputExistsError`, `CannotWriteError`; of the stock capture `NoInputError`,
    `NotATraceError`, and `UsageError` if evtrace made it.
    """
    stock = open_trace(sources.xentrace) if sources.xentrace else nullcontext()
    with stock as reader:
        if reader and any(window.stream >= FACTS_STREAM for window in reader.windows):
            message = f"{reader.path}: is a trace of evtrace already, not what xentrace wrote"
            raise UsageError(message)
        outcome = Outcome(read_occupancy(reader) if reader else Occupancy())
        outcome.clocks = find_clocks(
            sources.guests,
            outcome.occupancy,
            list(sources.snapshots.values()),
        )
        if BEFORE in sources.snapshots:
            bring_up_to_date(sources.snapshots[BEFORE], sources.guests, outcome.clocks)
        with TraceWriter(output, force=force) as writer:
            _write(writer, sources, outcome, reader)
        if reader:
            outcome.damage = [f"{reader.path}: {damage}" for damage in reader.damage]
    return outcome


def _write(
    writer: TraceWriter,
    sources: Sources,
    outcome: Outcome,
    reader: TraceReader | None,
) -> None:
    first, last = _span(sources, outcome)
    placed, streams = _place(sources, outcome)
    statements = Statements(
        names=sources.names,
        guests=sources.guests,
        clocks=outcome.clocks,
        occupancy=outcome.occupancy,
        snapshots=_in_time(
            sources.snapshots, listed_tsc(sources.guests, outcome.clocks) or first, last
        ),
        streams=streams,
        timing=sources.timing,
        xen_version=sources.xen_version,
    )
    for record in statements.records(first):
        writer.append(FACTS_STREAM, record)
    writer.flush()
    for stream, data in merged_windows(reader, placed) if reader else ():
        writer.write_window(stream, data)
    for stream, own in placed.items():
        for record in own.rest():
            writer.append(stream, record)


def _span(sources: Sources, outcome: Outcome) -> tuple[int, int]:
    """Give host TSCs before and after everything."""
    times = [when for when in sources.snapshots if isinstance(when, int)]
    if outcome.occupancy.last_tsc:
        times += [outcome.occupancy.first_tsc, outcome.occupancy.last_tsc]
    for dom, guest in sources.guests.items():
        lo, hi = outcome.clocks[dom].offset
        if guest.text.lines:
            times += [guest.text.lines[0].tsc + lo, guest.text.lines[-1].tsc + hi]
    return max(0, min(times, default=1) - 1), max(times, default=1) + 1


def _in_time(
    snapshots: dict[str | int, Snapshot],
    before: int,
    after: int,
) -> list[tuple[int, Snapshot]]:
    """Give the snapshots with their times, those of `before` and `after` at the times given."""
    named = {BEFORE: before, AFTER: after}
    timed = [
        (when if isinstance(when, int) else named[when], seen) for when, seen in snapshots.items()
    ]
    return sorted(timed, key=lambda pair: pair[0])


# --- guest events ------------------------------------------------------------------------------


def _place(sources: Sources, outcome: Outcome) -> tuple[dict[int, Placed], dict[int, int]]:
    """Encode the guests' events, each for its stream; also give the streams made for domains."""
    pairs: dict[int, list[tuple[int, bytes]]] = {}
    streams: dict[int, int] = {}
    for own_stream, dom in enumerate(sorted(sources.guests), FIRST_GUEST_STREAM):
        for event in sources.guests[dom].events:
            pcpu = _pcpu(outcome, dom, event)
            if pcpu is None:
                streams[own_stream] = dom
                outcome.unplaced[dom] = outcome.unplaced.get(dom, 0) + 1
            stream = own_stream if pcpu is None else pcpu
            pairs.setdefault(stream, []).append((event.tsc, _encode(dom, event)))
    return {stream: Placed.of(events) for stream, events in pairs.items()}, streams


def _pcpu(outcome: Outcome, dom: int, event: GuestEvent) -> int | None:
    """Give the pCPU on which the event happened; None if unknown, or by another clock."""
    spans = outcome.occupancy.running.get((dom, event.vcpu))
    return spans.at(event.tsc) if spans and outcome.clocks[dom].is_host else None


def _encode(dom: int, event: GuestEvent) -> bytes:
    words = list(_known(_words(event)))
    return records.encode_family(event.kind, dom, event.vcpu, words, event.tsc)


def _known(words: list[int | None]) -> Iterator[int]:
    """Give the words up to the first that was not observed: a record leaves out its end only."""
    for word in words:
        if word is None:
            return
        yield word


def _words(event: GuestEvent) -> list[int | None]:
    """Give the record's words after the vCPU word."""
    call = event.call
    if call is not None:
        head = call.op | call.call_id << 8
        if event.kind is Kind.CALL_ENTER:
            return [head, *call.argument_words()]
        return [head, call.rc(), *call.outputs()]
    if event.kind is Kind.UPCALL_ENTER:
        return []
    return [*([event.irq] if event.kind in _WITH_IRQ else []), event.port, *event.words]
