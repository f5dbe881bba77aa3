"""The search: from a whole trace to the fewest operations that still show a fact.

What a fact rests on is known from its replay, so the search begins small: the records of the fact,
what happened on its ports and to its vCPU up to its end, and what these need. Only if the replay
of that does not show the fact are more units taken in, at last all. Then units are left out.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from evtrace.replay.minimise.ddmin import Places, reduce_set
from evtrace.replay.minimise.needs import Needs, Ties
from evtrace.replay.minimise.oracle import Oracle
from evtrace.replay.minimise.showing import Fact
from evtrace.replay.minimise.units import Grouping, Sort, Unit, Vcpu
from evtrace.replay.results import Results
from evtrace.replay.tokens import Channel
from evtrace.timeline import Row

FIRST_REACH = 64
"""Records after the start of a fact in which its end is looked for first."""


class Reach(IntEnum):
    """Which units are taken in, ever more."""

    NEEDS = 0
    """What the fact needs."""
    PORTS = 1
    """All of its ports, from the start on."""
    VCPUS = 2
    """All of the domains of its ports."""
    ALL = 3


@dataclass(slots=True)
class Minimal:
    """What is left of a trace."""

    units: list[Unit]
    rows: list[Row]
    """Their rows, with those that are never left out."""
    is_minimal: bool
    """No one operation can be left out any more; else the search was ended early."""
    end: int
    """`seq` of the record after which all was left out."""

    @property
    def operations(self) -> list[Unit]:
        """What is done, in the order in which it begins."""
        return [unit for unit in self.units if unit.sort.is_operation]


@dataclass(slots=True)
class _Window:
    """From the first record that a fact rests on to its end."""

    first: int
    last: int
    channels: set[Channel] = field(default_factory=set)
    vcpus: set[Vcpu] = field(default_factory=set)


class Search:
    """Looks for the smallest part of one trace that shows a fact."""

    def __init__(
        self,
        rows: list[Row],
        whole: Results,
        fact: Fact,
        oracle: Oracle,
        keep_on: Callable[[int], bool] = lambda _: True,
    ) -> None:
        """Look in `rows`; `keep_on` is told how many operations are left, and may say no."""
        self._grouping = Grouping(rows)
        self.units = self._grouping.units
        needs = Needs(self.units, whole)
        self._ties = Ties(self.units)
        self._by_seq = needs.by_seq
        self._fact = fact
        self._oracle = oracle
        self._keep_on = keep_on
        self._last_seq = rows[-1].seq
        self._starts = [unit.first for unit in self.units]
        self._window = self._first_window(whole)

    @property
    def operations(self) -> int:
        """Count the operations of the whole trace."""
        return sum(unit.sort.is_operation for unit in self.units)

    @property
    def begins(self) -> int:
        """Give the `seq` of the first record that the fact rests on."""
        return self._window.first

    def run(self) -> Minimal | None:
        """Give the smallest part; None if told to end before any was found."""
        found = self._find_small()
        if found is None:
            return None
        kept, scheduled = found
        kept = self._cut_end(kept, scheduled)
        protected = self._protected()
        removable = [place for place in sorted(kept, reverse=True) if place not in protected]
        kept, is_minimal = reduce_set(
            kept,
            removable,
            lambda places, dropped: self._without(places, dropped, protected),
            lambda places: self._shows(places, scheduled),
            lambda places: self._keep_on(self._count(places)),
        )
        units = [self.units[place] for place in sorted(kept, key=self._starts.__getitem__)]
        return Minimal(units, self._rows(kept, scheduled), is_minimal, self._window.last)

    # --- what to begin with ----------------------------------------------------------------------

    def _first_window(self, whole: Results) -> _Window:
        fact = self._fact
        own = [self._by_seq[seq] for seq in self._core(whole) if seq in self._by_seq]
        starts = [unit.first for unit in own] + [fact.seq]
        starts += [unit.upcall.first for unit in own if unit.upcall and unit.sort is Sort.RUN]
        window = _Window(min(starts), self._last_seq, set(fact.channels))
        for unit in own:
            window.channels |= unit.channels
            window.vcpus |= unit.vcpus
            if unit.sort is Sort.UPCALL:
                window.vcpus.add((unit.dom, unit.vcpu))
        return window

    def _core(self, whole: Results) -> set[int]:
        """Give the records that a fact stands on."""
        fact = self._fact
        core = {fact.seq} | {seq for seq in (fact.answered_by, fact.since) if seq is not None}
        for run in whole.runs:
            if run.seq in core:
                core.update(part.seq for part in run.contributors)
        return core

    def _find_small(self) -> tuple[Places, list[Row]] | None:
        """Find a part to begin with: little reach and an early end first."""
        for reach in Reach:
            for last in self._ends():
                if not self._keep_on(self.operations):
                    return None
                self._window.last = last
                kept = self._candidate(reach)
                scheduled = self._scheduled(reach)
                if self._shows(kept, scheduled):
                    return kept, scheduled
        return None

    def _ends(self) -> Iterator[int]:
        """Give ends of the window, each farther from its start than the one before."""
        own = self._by_seq.get(self._fact.answered_by or self._fact.seq)
        earliest = max(self._fact.seq, own.last if own else 0)
        if own is not None and own.upcall is not None:
            earliest = max(earliest, own.upcall.last)
        reach = FIRST_REACH
        while earliest + reach < self._last_seq:
            yield earliest + reach
            reach *= 4
        yield self._last_seq

    def _candidate(self, reach: Reach) -> Places:
        window = self._window
        ended = {unit.place for unit in self.units if unit.first <= window.last}
        if reach is Reach.ALL:
            return frozenset(ended)
        doms = {channel[0] for channel in window.channels} | {dom for dom, _ in window.vcpus}
        chosen = self._protected()
        for place in ended:
            unit = self.units[place]
            if unit.sort is Sort.STATE:
                wanted = unit.dom in doms and not unit.is_late
            elif reach is Reach.PORTS:
                wanted = bool(unit.channels & window.channels)
            else:
                wanted = reach is Reach.VCPUS and unit.dom in doms
            if wanted:
                chosen.add(place)
        return frozenset(self._ties.with_needs(chosen))

    def _protected(self) -> set[int]:
        """Give what must stay: all that happens on the fact's ports and to its vCPU meanwhile."""
        window = self._window
        seqs = (seq for seq in (self._fact.seq, self._fact.answered_by, self._fact.since))
        chosen = {self._by_seq[seq].place for seq in seqs if seq in self._by_seq}
        first = bisect_right(self._starts, window.first - 1)
        for unit in self.units[first:]:
            if unit.first > window.last:
                break
            on_port = bool(unit.channels & window.channels)
            in_upcall = unit.sort in {Sort.UPCALL, Sort.RUN}
            if on_port or (in_upcall and (unit.dom, unit.vcpu) in window.vcpus):
                chosen.add(unit.place)
        return self._ties.with_needs(chosen)

    def _scheduled(self, reach: Reach) -> list[Row]:
        """Give the scheduler's rows: of the fact's vCPU meanwhile, with its state before."""
        window = self._window
        rows = [row for row in self._grouping.scheduler if row.seq <= window.last]
        if reach is Reach.ALL:
            return rows
        chosen: list[Row] = []
        before: dict[Vcpu, Row] = {}
        for row in rows:
            where = (row.dom or 0, row.vcpu or 0)
            if where not in window.vcpus:
                continue
            if row.seq < window.first:
                before[where] = row
            else:
                chosen.append(row)
        return sorted([*before.values(), *chosen], key=lambda row: row.seq)

    # --- leaving out -----------------------------------------------------------------------------

    def _cut_end(self, kept: Places, scheduled: list[Row]) -> Places:
        """Find the earliest end of the window at which the fact still shows."""
        late = sorted(self.units[place].first for place in kept)
        late += [row.seq for row in scheduled]
        ends = sorted({seq for seq in late if self._fact.seq <= seq <= self._window.last})
        low, high = 0, len(ends) - 1
        best = kept
        while low < high:
            middle = (low + high) // 2
            last = self._window.last
            self._window.last = ends[middle]
            shorter = frozenset(place for place in best if self._starts[place] <= ends[middle])
            shorter = frozenset(self._ties.with_needs(shorter))
            rows = [row for row in scheduled if row.seq <= ends[middle]]
            if shorter <= best and self._shows(shorter, rows):
                best, high = shorter, middle
                scheduled[:] = rows
            else:
                self._window.last = last
                low = middle + 1
        return best

    def _without(self, places: Places, dropped: object, protected: set[int]) -> Places:
        left = self._ties.without(places, dropped)  # type: ignore[arg-type]
        return left if protected <= left else places

    def _shows(self, places: Places, scheduled: list[Row]) -> bool:
        return self._oracle.shows(self._rows(places, scheduled))

    def _rows(self, places: Places, scheduled: list[Row]) -> list[Row]:
        rows = [row for row in self._grouping.always if row.seq <= self._window.last]
        rows += scheduled
        for place in places:
            rows += self.units[place].rows
        return sorted(rows, key=lambda row: row.seq)

    def _count(self, places: Places) -> int:
        return sum(self.units[place].sort.is_operation for place in places)
