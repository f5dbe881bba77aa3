"""The search: from a whole trace to the fewest operations that still show a fact.

What a fact rests on is known from its replay, so the search begins small: the records of the fact,
what happened on its ports and to its vCPU up to its end, and what these need. Only if the replay
of that does not show the fact are more units taken in, at last all. Then units are left out.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from evtrace.replay.minimise.ddmin import Places, reduce_set
from evtrace.replay.minimise.needs import Needs, Ties
from evtrace.replay.minimise.oracle import Oracle
from evtrace.replay.minimise.showing import Fact
from evtrace.replay.minimise.units import Grouping, Sort, Unit, Vcpu
from evtrace.replay.results import Results
from evtrace.replay.tokens import Channel
from evtrace.timeline import Kind, Row

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
    """Host TSC after which all was left out."""

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
    ) -> None:
        """Look in `rows`, which are all that the replay of the trace needs."""
        self.keep_on: Callable[[int], bool] = lambda _: True
        """Is told before each replay how many operations are left, and may say no."""
        self._grouping = Grouping(rows)
        self.units = self._grouping.units
        needs = Needs(self.units, whole)
        self._ties = Ties(self.units)
        self._by_seq = needs.by_seq
        self._fact = fact
        self._oracle = oracle
        self._all, self._seqs = rows, [row.seq for row in rows]
        self._last_seq = rows[-1].seq
        self._starts = [unit.first for unit in self.units]
        self._window = self._first_window(whole)
        self._kept: Places = frozenset()
        self._scheduled_rows: list[Row] = []

    @property
    def operations(self) -> int:
        """Count the operations of the whole trace."""
        return sum(unit.sort.is_operation for unit in self.units)

    @property
    def begins(self) -> int:
        """Give the `seq` of the first record that the fact rests on."""
        return self._window.first

    @property
    def ends(self) -> int:
        """Give the `seq` of the last record that shows it, as far as known."""
        last = self._rows(self._kept, self._scheduled_rows)[-1].seq
        return max(last, self._window.last)

    @property
    def least(self) -> int:
        """Count the operations that cannot be left out, whatever the replay says."""
        return self._count(frozenset(self._protected()))

    def begin(self) -> bool:
        """Find a small part that shows the fact; False if told to end before, or if none does."""
        found = self._find_small()
        if found is not None:
            self._kept, self._scheduled_rows = found
            self._cut_end()
        return found is not None

    def reduce(self) -> Minimal:
        """Leave out of that what can be left out, always with what needs it."""
        protected = self.meanwhile()
        self._kept, is_minimal = reduce_set(
            self._kept,
            [place for place in sorted(self._kept, reverse=True) if place not in protected],
            lambda places, dropped: self._without(places, dropped, protected),
            lambda places: self._shows(places, self._scheduled_rows),
            lambda places: self.keep_on(self._count(places)),
        )
        units = [self.units[place] for place in sorted(self._kept, key=self._starts.__getitem__)]
        rows = self._rows(self._kept, self._scheduled_rows)
        return Minimal(units, rows, is_minimal, self._end_tsc(rows))

    def _without(self, places: Places, dropped: Sequence[int], protected: set[int]) -> Places:
        """Leave some out, unless something protected went with them: then nothing is."""
        left = self._ties.without(places, dropped)
        return left if protected <= left else places

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
                if not self.keep_on(self.operations):
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
        protected = self._protected()
        chosen = set(protected)
        if reach > Reach.NEEDS:
            doms = {channel[0] for channel in window.channels} | {dom for dom, _ in window.vcpus}
            for unit in self.units:
                if unit.first > window.last:
                    break
                on_port = reach is Reach.PORTS and unit.channels & window.channels
                if on_port or reach is Reach.ALL or (reach is Reach.VCPUS and unit.dom in doms):
                    chosen.add(unit.place)
            chosen = self._ties.with_needs(chosen)
        known = frozenset(self._with_states(chosen, late=reach is Reach.ALL))
        later = {place for place in known if self._starts[place] > window.last}
        return self._ties.without(known, later - protected)

    def _with_states(self, chosen: set[int], *, late: bool) -> set[int]:
        """Add how the ports of all domains that take part stood before."""
        doms = {self.units[place].dom for place in chosen}
        doms |= {dom for place in chosen for dom, _ in self.units[place].channels}
        states = {
            unit.place
            for unit in self.units
            if unit.sort is Sort.STATE and unit.dom in doms and (late or not unit.is_late)
        }
        return chosen | states

    def _protected(self) -> set[int]:
        """Give what must stay, with what that needs."""
        return self._ties.with_needs(self.meanwhile())

    def meanwhile(self) -> set[int]:
        """Give what must stay: all that happens on the fact's ports and to its vCPU meanwhile.

        What comes after the run that a fact is about, or ends in, has no part in it.
        """
        window = self._window
        last = window.last if self._fact.answered_by is None else self._fact.answered_by
        seqs = (seq for seq in (self._fact.seq, self._fact.answered_by, self._fact.since))
        chosen = {self._by_seq[seq].place for seq in seqs if seq in self._by_seq}
        first = bisect_right(self._starts, window.first - 1)
        for unit in self.units[first:]:
            if unit.first > last:
                break
            on_port = bool(unit.channels & window.channels)
            in_upcall = unit.sort in {Sort.UPCALL, Sort.RUN}
            if on_port or (in_upcall and (unit.dom, unit.vcpu) in window.vcpus):
                chosen.add(unit.place)
        return chosen

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

    def _cut_end(self) -> None:
        """Find the earliest end of the window at which the fact still shows."""
        late = {self._starts[place] for place in self._kept}
        late |= {row.seq for row in self._scheduled_rows}
        late.add(self._window.last)
        ends = sorted(seq for seq in late if self._fact.seq <= seq <= self._window.last)
        low, high = 0, len(ends) - 1
        while low < high and self.keep_on(self._count(self._kept)):
            middle = (low + high) // 2
            if self._ends_at(ends[middle]):
                high = middle
            else:
                low = middle + 1

    def _ends_at(self, end: int) -> bool:
        """End the window there if the fact still shows."""
        before = self._window.last
        later = {place for place in self._kept if self._starts[place] > end}
        self._window.last = end
        kept = self._ties.without(self._kept, later)
        rows = [row for row in self._scheduled_rows if row.seq <= end]
        if self._protected() <= kept and self._shows(kept, rows):
            self._kept, self._scheduled_rows = kept, rows
            return True
        self._window.last = before
        return False

    def _shows(self, places: Places, scheduled: list[Row]) -> bool:
        rows = self._rows(places, scheduled)
        return self._oracle.shows(rows, self._end_tsc(rows))

    def _end_tsc(self, rows: list[Row]) -> int:
        """Give the time at which the window ends, and what has begun in it."""
        ended = self._all[bisect_right(self._seqs, self._window.last) - 1].tsc_hi
        done = (row.tsc_hi for row in rows if row.kind < Kind.CHANNEL and row.kind != Kind.LOST)
        return max([ended, *done])

    def _rows(self, places: Places, scheduled: list[Row]) -> list[Row]:
        always = self._grouping.always
        rows = [row for row in always if row.seq <= self._window.last or row.kind == Kind.LOST]
        rows += scheduled
        for place in places:
            rows += self.units[place].rows
        return sorted(rows, key=lambda row: row.seq)

    def _count(self, places: Places) -> int:
        return sum(self.units[place].sort.is_operation for place in places)
