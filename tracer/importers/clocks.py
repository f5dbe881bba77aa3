"""Clocks: whether a domain's TSC is the host's, and if not, by how much it is off.

What must be true bounds the offset: a guest runs only while its vCPU does, an HVM guest only
between VMENTRY and VMEXIT, and a probed call contains the VM exit of its hypercall. The result is
an interval; nothing is taken for true that does not follow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from evtrace.tracer.importers.guest import GuestEvent, GuestTrace
from evtrace.tracer.importers.intervals import (
    FOREVER,
    Interval,
    deepest,
    intersection,
    union,
)
from evtrace.tracer.importers.occupancy import Occupancy, Spans

MAX_ANCHORS = 200
"""Calls and events from which candidates are drawn; every event has its say afterwards."""

FEWEST = 10
"""So many events must lie where their vCPU ran, or the match may be chance."""

TOLERATED = 0.001
"""Share of events that may seem to be at the wrong time: a record can be lost without a trace."""


class ClockKind(Enum):
    """What was found about a domain's clock."""

    HOST = auto()
    """Its TSC is the host's: every event lies where its vCPU ran."""
    OFFSET = auto()
    """Its TSC is off by a constant in a known interval."""
    UNTOLD = auto()
    """No record could tell; the host's clock is assumed, and said to be."""
    CONTRADICTORY = auto()
    """No constant offset explains the events."""


@dataclass(frozen=True, slots=True)
class Clock:
    """A domain's clock; host TSC = its own + offset, for some offset in `offset`."""

    kind: ClockKind
    offset: Interval = (0, 0)
    events: int = 0
    """Events that bound it."""

    @property
    def is_host(self) -> bool:
        """Tell whether its events may be ordered with the host's as they are."""
        return self.kind in {ClockKind.HOST, ClockKind.UNTOLD}

    def describe(self, dom: int) -> str:
        """Say in words what was found."""
        match self.kind:
            case ClockKind.HOST:
                return f"its TSC is the host's ({self.events} events agree)"
            case ClockKind.OFFSET:
                lo, hi = self.offset
                return f"host TSC = d{dom}'s + [{lo}, {hi}] ({self.events} events agree)"
            case ClockKind.UNTOLD:
                return "no record tells its TSC from the host's; taken to be the same"
            case ClockKind.CONTRADICTORY:
                return "its events fit the host's records with no constant offset; not joined"


def find_clock(dom: int, guest: GuestTrace, occupancy: Occupancy) -> Clock:
    """Find the clock of `dom` from what its text and the stock records say of its vCPUs."""
    hvm = {vcpu: spans for (d, vcpu), spans in occupancy.in_guest.items() if d == dom}
    ran = {vcpu: spans for (d, vcpu), spans in occupancy.running.items() if d == dom}
    where = hvm or ran
    events = [event for event in guest.events if event.vcpu in where]
    if not events:
        return Clock(ClockKind.UNTOLD)
    wrong, judged = _violations(events, where, 0)
    if judged and wrong <= judged * TOLERATED:
        return Clock(ClockKind.HOST, events=judged)
    if not judged and not hvm:
        return Clock(ClockKind.UNTOLD)  # its text and the stock capture do not overlap
    return _find_offset(dom, guest, events, where, occupancy, told=bool(judged))


def _violations(
    events: Sequence[GuestEvent], where: dict[int, Spans], offset: int
) -> tuple[int, int]:
    """Count events that cannot have been when they say, and those that could be judged."""
    wrong = judged = 0
    for event in events:
        spans = where[event.vcpu]
        at = event.tsc + offset
        if spans.starts[0] <= at <= spans.ends[-1]:
            judged += 1
            wrong += spans.at(at) is None
    return wrong, judged


def _find_offset(
    dom: int,
    guest: GuestTrace,
    events: Sequence[GuestEvent],
    where: dict[int, Spans],
    occupancy: Occupancy,
    *,
    told: bool,
) -> Clock:
    best = Clock(ClockKind.CONTRADICTORY if told else ClockKind.UNTOLD)
    for candidate in _candidates(dom, guest, events, where, occupancy):
        left = [candidate]
        for event in _spread(events, len(events)):
            left = intersection(left, _allowed(event, where[event.vcpu]))
            if not left:
                break
        if left:
            offset = (left[0][0], left[-1][1])
            _, judged = _violations(events, where, sum(left[0]) // 2)
            if judged > max(best.events, FEWEST - 1):
                best = Clock(ClockKind.OFFSET, offset, judged)
    return best


def _candidates(
    dom: int,
    guest: GuestTrace,
    events: Sequence[GuestEvent],
    where: dict[int, Spans],
    occupancy: Occupancy,
) -> list[Interval]:
    """Give intervals in which the offset may lie, by the calls if any, else by all events."""
    calls: list[Interval] = []
    for call in guest.calls.calls[:MAX_ANCHORS]:
        spans = occupancy.calls.get((dom, call.pre.cpu))
        if call.post is not None and spans is not None:
            calls += [
                (entry - call.post.tsc, leave - call.pre.tsc)
                for leave, entry in zip(spans.starts, spans.ends, strict=True)
            ]
    by_calls = union(interval for interval in calls if interval[0] <= interval[1])
    by_events = deepest(
        interval for event in _spread(events, MAX_ANCHORS) for interval in _inside(event, where)
    )
    return by_calls + by_events


def _inside(event: GuestEvent, where: dict[int, Spans]) -> list[Interval]:
    """Give the offsets with which the event lies where its vCPU ran."""
    spans = where[event.vcpu]
    return [
        (start - event.tsc, end - event.tsc)
        for start, end in zip(spans.starts, spans.ends, strict=True)
    ]


def _allowed(event: GuestEvent, spans: Spans) -> list[Interval]:
    """Give the offsets that the event allows: where its vCPU ran, or outside the capture."""
    inside = [
        (start - event.tsc, end - event.tsc)
        for start, end in zip(spans.starts, spans.ends, strict=True)
    ]
    before = (-FOREVER, spans.starts[0] - event.tsc - 1)
    after = (spans.ends[-1] - event.tsc + 1, FOREVER)
    return union([before, *inside, after])


def _spread(events: Sequence[GuestEvent], count: int) -> list[GuestEvent]:
    """Take events from all over the text."""
    step = max(1, len(events) // max(1, count))
    return list(events[::step])
