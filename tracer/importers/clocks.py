"""Clocks: whether a domain's TSC is the host's, and if not, by how much it is off.

What must be true bounds the offset: a guest runs only while its vCPU does, an HVM guest only
between VMENTRY and VMEXIT; a probed call contains its hypercall's time in Xen; a send precedes the
handler it causes. The result is an interval; nothing is taken for true that does not follow.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from evtrace.tracer.importers.causality import Bound, bounds, find_peers, read_activity
from evtrace.tracer.importers.events import GuestEvent, GuestTrace
from evtrace.tracer.importers.intervals import (
    FOREVER,
    Interval,
    deepest,
    holds,
    intersection,
    shifted,
    union,
)
from evtrace.tracer.importers.occupancy import Occupancy, Spans
from evtrace.tracer.importers.snapshots import Snapshot

CANDIDATE_INTERVALS = 400_000
"""So many (event, span) pairs are drawn on at most; every event has its say afterwards."""

CHANCE = 0.001
"""A match that chance brings about more often than this is none."""

TOLERATED = 0.001
"""Share of events that may seem to be at the wrong time: a record can be lost without a trace."""

TOLERATED_BOUNDS = 0.05
"""Share of handlers that may seem to run without a send: a guest can pend its own ports."""

FEWEST_RUNS = 2
"""So many handlers must follow a send: one in each direction bounds an offset on both sides."""

_STRIDE = 17


class ClockKind(Enum):
    """What was found about a domain's clock."""

    HOST = auto()
    """Its TSC is the host's: every event lies where its vCPU ran."""
    OFFSET = auto()
    """Its TSC is off by a constant in a known interval."""
    ASSUMED = auto()
    """No record could tell; the host's clock is assumed, and said to be."""
    APART = auto()
    """Nothing joins it to the host's clock, or not consistently."""


@dataclass(frozen=True, slots=True)
class Clock:
    """A domain's clock; host TSC = its own + offset, for some offset in `offset`."""

    kind: ClockKind
    offset: Interval = (0, 0)
    evidence: str = ""
    """What bounds it, in words."""

    @property
    def is_host(self) -> bool:
        """Tell whether its events may be ordered with the host's as they are."""
        return self.kind in {ClockKind.HOST, ClockKind.ASSUMED}

    def describe(self, dom: int) -> str:
        """Say in words what was found."""
        match self.kind:
            case ClockKind.HOST:
                return f"its TSC is the host's ({self.evidence})"
            case ClockKind.OFFSET:
                lo, hi = self.offset
                return f"host TSC = d{dom}'s + [{lo}, {hi}] ({self.evidence})"
            case ClockKind.ASSUMED:
                return "no record tells its TSC from the host's; taken to be the same"
            case ClockKind.APART:
                return f"its clock could not be joined with the host's ({self.evidence})"


def find_clocks(
    guests: Mapping[int, GuestTrace],
    occupancy: Occupancy,
    snapshots: Sequence[Snapshot] = (),
) -> dict[int, Clock]:
    """Find the clock of each domain; those with the host's help to find the others'."""
    peers = find_peers(snapshots, guests)
    activities = {dom: read_activity(guest) for dom, guest in guests.items()}
    hvm = {dom for snapshot in snapshots for dom, is_hvm in snapshot.hvm.items() if is_hvm}
    domains = {
        dom: _Domain(dom, guest, occupancy, is_hvm=dom in hvm)
        for dom, guest in sorted(guests.items())
    }
    clocks: dict[int, Clock] = {}
    for dom, domain in domains.items():
        clock = domain.on_host_clock()
        if clock is not None:
            clocks[dom] = clock
    for dom in sorted(domains.keys() - clocks.keys()):
        hosts = [other for other, clock in clocks.items() if clock.is_host]
        linked = [
            bound
            for host in hosts
            for bound in bounds(dom, activities[dom], host, activities[host], peers)
        ]
        clocks[dom] = domains[dom].settle(linked, is_first=not hosts)
    return clocks


class _Evidence(NamedTuple):
    """How the events of a domain fit an offset."""

    judged: int
    """Events at a time when it is known where their vCPU was."""
    wrong: int
    """Of these, events when it did not run."""
    spans: int
    """Separate times of running that hold an event: events close together tell but once."""


class _Domain:
    """One domain's events against the times at which its vCPUs ran."""

    def __init__(
        self,
        dom: int,
        guest: GuestTrace,
        occupancy: Occupancy,
        *,
        is_hvm: bool,
    ) -> None:
        self._dom = dom
        self._guest = guest
        self._calls = occupancy.calls
        self._where = occupancy.vcpus_of(dom)
        self._gaps = occupancy.gaps
        self._possible = {vcpu: occupancy.possible(spans) for vcpu, spans in self._where.items()}
        self._events = [event for event in guest.events if event.vcpu in self._where]
        self._is_hvm = is_hvm or bool(guest.is_hvm) or dom in occupancy.hvm

    def on_host_clock(self) -> Clock | None:
        """Give the host's clock if the records show it to be the domain's too."""
        found = self._evidence(0)
        fits = found.judged and found.wrong <= found.judged * TOLERATED
        if not fits or (self._is_hvm and not self._is_significant(found.spans, 1)):
            return None
        return Clock(ClockKind.HOST, evidence=_ran(found.judged))

    def settle(self, linked: list[Bound], *, is_first: bool) -> Clock:
        """Find the clock of a domain of which `on_host_clock` did not show it to be the host's.

        `linked` are the bounds by domains on the host's clock. Without stock records the first
        domain's clock is taken for the host's; an HVM guest's never is without a reason.
        """
        told = self._evidence(0).judged > 0
        if not told and _violations(linked, 0) <= int(len(linked) * TOLERATED_BOUNDS):
            caused = _caused(linked, 0)
            if caused >= FEWEST_RUNS:
                return Clock(ClockKind.HOST, evidence=_followed(caused))
            if not self._is_hvm or (is_first and not self._events):
                return Clock(ClockKind.ASSUMED)
        for trials in self._trials(linked):
            clock = self._best(trials, linked)
            if clock is not None:
                return clock
        return _by_causality(linked) or Clock(
            ClockKind.APART,
            evidence="no constant offset explains its events" if told else "nothing bounds it",
        )

    def _evidence(self, offset: int) -> _Evidence:
        judged = wrong = 0
        hit: set[tuple[int, int]] = set()
        for event in self._events:
            at, spans = event.tsc + offset, self._where[event.vcpu]
            if not spans.starts[0] <= at <= spans.ends[-1]:
                continue
            found = spans.index(at)
            if found is not None:
                hit.add((event.vcpu, found))
            elif holds(self._gaps, at):
                continue
            else:
                wrong += 1
            judged += 1
        return _Evidence(judged, wrong, len(hit))

    def _is_significant(self, spans_hit: int, trials: int) -> bool:
        """Tell whether chance would seldom put events into so many spans."""
        ran = sum(spans.ends[i] - start for spans, i, start in self._spans())
        extent = sum(spans.ends[-1] - spans.starts[0] for spans in self._where.values())
        share = min(1.0, (ran + 1) / (extent + 1))
        return bool(trials * share**spans_hit < CHANCE)

    def _spans(self) -> Iterator[tuple[Spans, int, int]]:
        for spans in self._where.values():
            for place, start in enumerate(spans.starts):
                yield spans, place, start

    # --- candidates ----------------------------------------------------------------------------

    def _trials(self, linked: list[Bound]) -> Iterator[list[Interval]]:
        """Give sets of offsets to try: by the calls, by the sends, by where events can lie."""
        if self._events:
            yield [interval for call in self._call_bounds() for interval in call]
            yield deepest(interval for bound in linked for interval in bound.caused)
            yield deepest(self._drawn())

    def _call_bounds(self) -> Iterator[list[Interval]]:
        """Give for each call the offsets with which it contains a hypercall's time in Xen."""
        for call in self._guest.calls.calls:
            if call.pre is None or call.post is None:
                continue
            spans = self._calls.get((self._dom, call.pre.cpu))
            if spans is not None and call.pre.cpu == call.post.cpu:
                before, behind = call.pre.tsc, call.post.tsc
                yield union((end - behind, start - before) for start, end in spans.intervals())

    def _drawn(self) -> Iterator[Interval]:
        """Give the offsets with which events from all over the text lie where their vCPU ran."""
        each = max((len(spans.starts) for spans in self._where.values()), default=1)
        step = max(1, len(self._events) * each // CANDIDATE_INTERVALS)
        for event in self._events[::step]:
            yield from shifted(self._where[event.vcpu].intervals(), -event.tsc)

    def _best(self, trials: list[Interval], linked: list[Bound]) -> Clock | None:
        """Give the offset, out of `trials`, with which most events fit and none contradicts."""
        best: tuple[int, list[Interval]] = (0, [])
        for candidate in union(trials):
            left = self._narrowed(candidate)
            if left:
                found = self._evidence(_middle(left))
                if found.judged > best[0] and self._is_significant(found.spans, len(trials)):
                    best = found.judged, left
        judged, left = best
        if not judged:
            return None
        for allowed in (*self._call_bounds(), *(bound.allowed for bound in linked)):
            left = intersection(left, allowed) or left
        return Clock(ClockKind.OFFSET, _hull(left), _ran(judged))

    def _narrowed(self, candidate: Interval) -> list[Interval]:
        """Give what is left of a candidate when every event has had its say."""
        left = [candidate]
        for event in self._far_apart():
            at = shifted(left, event.tsc)
            left = shifted(intersection(at, self._possible[event.vcpu]), -event.tsc)
            if not left:
                break
        return left

    def _far_apart(self) -> Iterator[GuestEvent]:
        """Give all events, neighbours far apart: those far apart rule a candidate out soonest."""
        for first in range(_STRIDE):
            yield from self._events[first::_STRIDE]


def _by_causality(linked: list[Bound]) -> Clock | None:
    """Give the interval of all offsets with which handlers follow their sends, if it ends."""
    tolerated = int(len(linked) * TOLERATED_BOUNDS)
    caused = [interval for bound in linked for interval in bound.caused]
    left = [
        region
        for region in deepest(caused, tolerated)
        if _violations(linked, _middle([region])) <= tolerated
    ]
    if not left or max(map(abs, _hull(left))) >= FOREVER // 2:
        return None
    follow = _caused(linked, _middle(left))
    if follow < FEWEST_RUNS:
        return None
    return Clock(ClockKind.OFFSET, _hull(left), _followed(follow))


def _caused(linked: list[Bound], offset: int) -> int:
    return sum(holds(bound.caused, offset) for bound in linked)


def _violations(linked: list[Bound], offset: int) -> int:
    return sum(not holds(bound.allowed, offset) for bound in linked)


def _middle(left: list[Interval]) -> int:
    return sum(left[len(left) // 2]) // 2


def _hull(left: list[Interval]) -> Interval:
    return left[0][0], left[-1][1]


def _ran(events: int) -> str:
    return f"{events} events lie where their vCPU ran"


def _followed(runs: int) -> str:
    return f"{runs} handlers follow a send of their peer"
