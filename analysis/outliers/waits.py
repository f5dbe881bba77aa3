"""Waits: what an event waited for on its way to the handler, from the records in between.

One pass over the timeline watches some ways at once. A way is cut where something changed: the
port was unmasked, the vCPU's runstate, who ran on its pCPU, which handler ran.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

import polars as pl

from evtrace.analysis.interleaving.steps import Lane, name
from evtrace.analysis.tables import duration
from evtrace.timeline import Kind, Row, Runstate
from evtrace.tracefile.lines import IDLE_DOMAIN
from evtrace.verdicts import Run
from evtrace.xen.abi import EvtchnOp

Frames = Callable[[], Iterable[pl.DataFrame]]

WATCHED = (
    *(Kind.RUNSTATE, Kind.HANDLER_ENTER, Kind.HANDLER_EXIT),
    *(Kind.UNMASK, Kind.CALL_ENTER),
)
"""Kinds of rows that tell what an event waits for."""

NOT_SEEN = "not seen: scheduler records missing"

Changes = list[tuple[int, object]]
"""Host TSC -> what is the case from then on."""


@dataclass(slots=True, eq=False)
class Way:
    """The way of one event, from `start` until its handler is entered at `end`; host TSC."""

    run: Run
    start: int
    end: int
    pending: int
    """When Xen had set it pending, where a record tells; else `start`."""
    caller: str
    """Who made the call that set it, and which call."""
    before: Run | None = None
    """The run of the same port before it."""
    states: Changes = field(default_factory=list)
    handlers: Changes = field(default_factory=list)
    unmasked: tuple[int, int, Lane] | None = None
    """TSC, record and vCPU of the last unmasking of the port."""
    pcpu: int | None = None
    """Where its vCPU ran when it came to run."""
    occupants: dict[int, Changes] = field(default_factory=dict)

    @property
    def lane(self) -> Lane:
        """The vCPU that handles it."""
        return self.run.dom, self.run.vcpu

    @property
    def was_masked(self) -> bool:
        """Whether the port was masked when the event was set."""
        first = self.run.contributors[0] if self.run.contributors else None
        return first is not None and first.masked


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a way, in host TSC, and what passed in it."""

    start: int
    end: int
    what: str


def watch(frames: Frames, ways: Sequence[Way]) -> None:
    """Note on each way what happened while its event waited."""
    watcher = _Watcher(ways)
    kinds = pl.col("kind").is_in([int(kind) for kind in WATCHED])
    unmask = (pl.col("kind") != Kind.CALL_ENTER) | (pl.col("op") == EvtchnOp.UNMASK)
    last = max((way.end for way in ways), default=0)
    for batch in frames():
        for row in map(Row._make, batch.filter(kinds & unmask).iter_rows()):
            watcher.take(row)
        if batch.height and batch["tsc_lo"][0] > last:
            break
    watcher.finish()


class _Watcher:
    """Knows at each time what every vCPU does, and notes it on the ways that are open."""

    def __init__(self, ways: Sequence[Way]) -> None:
        self._waiting = sorted(ways, key=lambda way: way.start, reverse=True)
        self._open: list[Way] = []
        self._states: dict[Lane, object] = {}
        self._occupants: dict[int, object] = {}
        self._handlers: dict[Lane, list[Row]] = {}

    def take(self, row: Row) -> None:
        """Take one row."""
        while self._waiting and self._waiting[-1].start <= row.tsc_lo:
            self._begin(self._waiting.pop())
        self._open = [way for way in self._open if way.end >= row.tsc_lo]
        if row.dom is None or row.vcpu is None:
            return
        lane = (row.dom, row.vcpu)
        match row.kind:
            case Kind.RUNSTATE:
                self._runstate(row, lane)
            case Kind.HANDLER_ENTER | Kind.HANDLER_EXIT:
                self._handler(row, lane)
            case _:
                self._unmask(row, lane)

    def finish(self) -> None:
        """Let the ways begin that no row came after."""
        while self._waiting:
            self._begin(self._waiting.pop())

    def _begin(self, way: Way) -> None:
        if way.lane in self._states:
            way.states.append((way.start, self._states[way.lane]))
        way.handlers.append((way.start, self._innermost(way.lane)))
        self._open.append(way)
        self._note_occupants(way, way.start)

    def _note_occupants(self, way: Way, tsc: int) -> None:
        for pcpu, who in self._occupants.items():
            way.occupants.setdefault(pcpu, []).append((tsc, who))

    def _runstate(self, row: Row, lane: Lane) -> None:
        old, new = divmod(row.op or 0, 16)
        runs = new == Runstate.RUNNING
        switches = row.pcpu is not None and (runs or old == Runstate.RUNNING)
        if row.pcpu is not None and switches:
            self._occupants[row.pcpu] = lane if runs else None
        self._states[lane] = new
        if new == Runstate.BLOCKED:
            self._handlers.pop(lane, None)  # no handler blocks: the record of its exit is missing
        for way in self._open:
            if way.lane == lane:
                self._change(way, row, old, new)
            elif row.pcpu is not None and switches and _is_queued(way):
                way.occupants.setdefault(row.pcpu, []).append((row.tsc_lo, lane if runs else None))

    def _change(self, way: Way, row: Row, old: int, new: int) -> None:
        """Note a change of the runstate of the vCPU that is to handle the event."""
        if not way.states:
            way.states.append((way.start, old))
        way.states.append((row.tsc_lo, new))
        if new == Runstate.RUNNING:
            way.pcpu = row.pcpu
        elif new == Runstate.RUNNABLE:
            self._note_occupants(way, row.tsc_lo)
        elif new == Runstate.BLOCKED:
            way.handlers.append((row.tsc_lo, None))

    def _handler(self, row: Row, lane: Lane) -> None:
        inside = self._handlers.setdefault(lane, [])
        inside[:] = [entered for entered in inside if entered.irq != row.irq]
        if row.kind == Kind.HANDLER_ENTER:
            inside.append(row)
        for way in self._open:
            if way.lane == lane:
                way.handlers.append((row.tsc_lo, self._innermost(lane)))

    def _innermost(self, lane: Lane) -> str | None:
        inside = self._handlers.get(lane)
        if not inside:
            return None
        row = inside[-1]
        return f"irq {row.irq}" if row.port is None else f"d{row.dom}:{row.port}"

    def _unmask(self, row: Row, lane: Lane) -> None:
        port = row.a0 if row.kind == Kind.CALL_ENTER else row.port
        for way in self._open:
            if (row.dom, port) == (way.run.dom, way.run.port):
                way.unmasked = row.tsc_lo, row.seq, lane


def _is_queued(way: Way) -> bool:
    """Whether it matters who runs: its vCPU waits for a pCPU, or nothing tells yet."""
    return not way.states or way.states[-1][1] == Runstate.RUNNABLE


def parts(way: Way, tsc_hz: int, seen: Callable[[int], bool]) -> list[Part]:
    """Divide a way into what its event waited for, one after the other; nothing is left over.

    `seen` tells whether the scheduler's records were captured at a time.
    """
    cuts = {way.start, way.end, way.pending, *_masked_cuts(way)}
    changes = [way.states, way.handlers]
    changes += [] if way.pcpu is None else [way.occupants.get(way.pcpu, [])]
    cuts |= {tsc for changed in changes for tsc, _ in changed}
    cuts |= set() if way.run.upcall_tsc is None else {way.run.upcall_tsc}
    times = sorted(tsc for tsc in cuts if way.start <= tsc <= way.end)
    if _at(way.states, way.end) != Runstate.RUNNING and way.states:
        way.states.append((way.states[-1][0], None))  # it did run in the end: a record is missing
    pieces = [
        (start, end, _waits_for(way, start, known=seen(start) and seen(end)))
        for start, end in pairwise(times)
    ]
    found = []
    for kind, group in groupby(pieces, key=lambda piece: piece[2]):
        same = list(group)
        start, end = same[0][0], same[-1][1]
        found.append(Part(start, end, _in_words(way, kind, same, tsc_hz)))
    return found


_QUEUED = "in the run queue"


def _waits_for(way: Way, tsc: int, *, known: bool) -> str:
    """Say what an event waits for at a time, and until the next cut."""
    if tsc < way.pending:
        return f"{way.caller} until Xen takes it"
    state = _at(way.states, tsc) if known else None
    return _masked(way, tsc) or _not_running(way, state) or _running(way, tsc, state)


def _not_running(way: Way, state: object) -> str:
    """Say what a vCPU does instead of running; empty if it runs, or nothing tells."""
    match state:
        case Runstate.BLOCKED:
            return f"{name(way.lane)} blocked, not woken yet"
        case Runstate.RUNNABLE:
            return _QUEUED
        case Runstate.OFFLINE:
            return f"{name(way.lane)} offline"
        case _:
            return ""


def _running(way: Way, tsc: int, state: object) -> str:
    other, upcall = _at(way.handlers, tsc), way.run.upcall_tsc
    if other is not None:
        return f"handler of {other} runs first"
    if upcall is not None and tsc >= upcall:
        return "in the upcall, on the way to the handler"
    return NOT_SEEN if state is None else f"{name(way.lane)} runs, its upcall has not begun"


def _at(changes: Changes, tsc: int) -> object:
    """Give what is the case at a time."""
    place = bisect_right(changes, tsc, key=lambda change: change[0]) - 1
    return changes[place][1] if place >= 0 else None


def _masked_cuts(way: Way) -> Iterator[int]:
    if way.was_masked and way.unmasked is not None:
        yield way.unmasked[0]
    if way.was_masked and way.before is not None:
        yield from (t for t in (way.before.exit_tsc, way.before.eoi_tsc) if t is not None)


def _masked(way: Way, tsc: int) -> str:
    """Say why the port is masked at a time; empty if it is not, or nothing tells."""
    if not way.was_masked or way.unmasked is None or tsc >= way.unmasked[0]:
        return ""
    by = f"{name(way.unmasked[2])} unmasks it (#{way.unmasked[1]})"
    before = way.before
    if before is None:
        return f"masked until {by}"
    if before.exit_tsc is None or tsc < before.exit_tsc:
        return f"masked: the run before (#{before.seq}) goes on"
    if before.eoi_tsc is not None and tsc < before.eoi_tsc:
        return f"masked: no EOI yet of the run before (#{before.seq})"
    if before.eoi_tsc is not None:
        late = ", which found no work" if before.work is not None else ""
        return f"masked after the EOI of #{before.seq}{late}, until {by}"
    return f"masked until {by}"


def _in_words(way: Way, kind: str, pieces: Sequence[tuple[int, int, str]], tsc_hz: int) -> str:
    """Say who ran instead, where a vCPU waited for a pCPU."""
    if kind != _QUEUED:
        return kind
    if way.pcpu is None:
        return f"{_QUEUED}; where it ran then was not seen"
    shares: Counter[str] = Counter()
    for start, end, _ in pieces:
        shares[_who(_at(way.occupants.get(way.pcpu, []), start))] += end - start
    total = sum(shares.values()) or 1
    ranked = shares.most_common()
    if ranked[0][0] == _NOBODY and ranked[0][1] > total / 2:
        words = f"{_QUEUED} of p{way.pcpu}, which was idle"
        rest = ranked[1:]
    else:
        words = f"{_QUEUED} of p{way.pcpu} behind {ranked[0][0]}"
        rest = ranked[1:]
        share = f"{ranked[0][1] / total:.0%}"
        words += "" if share == "100%" else f" ({share})"
    others = [f"{who} {duration(round(t * 1e9 / tsc_hz))}" for who, t in rest[:3] if t * 50 > total]
    return words + (f"; {', '.join(others)}" if others else "")


_NOBODY = "nobody"


def _who(occupant: object) -> str:
    if not isinstance(occupant, tuple):
        return _NOBODY if occupant is None else str(occupant)
    return _NOBODY if occupant[0] == IDLE_DOMAIN else name(occupant)
