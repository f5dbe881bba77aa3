"""Slices of a track, laid out so that they nest: what a timeline viewer can draw.

A viewer closes the slice that opened last. What overlaps without nesting, such as a call whose
task moved to another vCPU, goes to a lane of its own beside the track.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Protocol

HELD_SLICES = 4096
"""So many slices wait for one that encloses them to end; then it is taken as never ending."""

Notes = dict[str, object]


@dataclass(slots=True, eq=False)
class Slice:
    """Something that lasts, in TSC cycles."""

    begin: int
    name: str
    category: str
    notes: Notes = field(default_factory=dict)
    flows_out: list[int] = field(default_factory=list)
    flows_in: list[int] = field(default_factory=list)
    reached: int | None = None
    """Until when it lasted at least, where its end may leave no record."""
    end: int | None = None


@dataclass(slots=True, eq=False)
class Point:
    """Something at one time."""

    begin: int
    name: str
    notes: Notes
    flows_in: list[int] = field(default_factory=list)


class Pen(Protocol):
    """Draws on the lanes of one track; lane 0 is the track itself."""

    def begin(self, lane: int, tsc: int, slice_: Slice) -> None:
        """Begin a slice."""

    def end(self, lane: int, tsc: int) -> None:
        """End the slice of the lane that began last."""

    def point(self, tsc: int, point: Point) -> None:
        """Draw an instant on the track itself."""


@dataclass(slots=True)
class _Lane:
    open: list[int] = field(default_factory=list)
    """Ends of the slices that are open, the outermost first."""
    reached: int = 0


class Track:
    """Collects the slices of one track, and draws them once none is open any more."""

    def __init__(self, pen: Pen) -> None:
        """Start with nothing."""
        self._pen = pen
        self._held: list[Slice | Point] = []
        self._open: dict[Hashable, Slice] = {}
        self._lanes = [_Lane()]
        self._last = 0

    def begin(self, key: Hashable, slice_: Slice) -> None:
        """Begin a slice; one of the same key that is open has never ended."""
        self._last = max(self._last, slice_.begin)
        if key in self._open:
            self._cut(key)
        if not self._open:
            self._draw()
        self._held.append(slice_)
        self._open[key] = slice_
        if len(self._held) > HELD_SLICES:
            self.finish()

    def end(self, key: Hashable, tsc: int, **notes: object) -> None:
        """End the slice of this key, if it began."""
        self._last = max(self._last, tsc)
        slice_ = self._open.pop(key, None)
        if slice_ is None:
            return
        slice_.end = max(tsc, slice_.begin)
        slice_.notes |= notes
        if not self._open:
            self._draw()

    def reach(self, key: Hashable, tsc: int) -> None:
        """Note that the slice of this key, if one is open, lasts until `tsc` at least."""
        slice_ = self._open.get(key)
        if slice_ is not None:
            slice_.reached = max(tsc, slice_.reached or 0)

    def point(self, point: Point) -> None:
        """Add an instant."""
        self._held.append(point)
        if not self._open:
            self._draw()

    def finish(self) -> None:
        """Draw everything; what is open has never ended."""
        for key in list(self._open):
            self._cut(key)
        self._draw()

    def _cut(self, key: Hashable) -> None:
        slice_ = self._open.pop(key)
        slice_.end = self._last if slice_.reached is None else slice_.reached
        slice_.notes["unfinished"] = True

    def _draw(self) -> None:
        for held in sorted(self._held, key=_outer_first):
            if isinstance(held, Point):
                lane = self._lanes[0]
                self._close(0, held.begin)
                lane.reached = max(lane.reached, held.begin)
                self._pen.point(lane.reached, held)
            else:
                self._place(held)
        self._held.clear()
        for number in range(len(self._lanes)):
            self._close(number, None)

    def _place(self, slice_: Slice) -> None:
        """Draw a slice on the first lane where it nests."""
        end = slice_.begin if slice_.end is None else slice_.end
        for number in range(len(self._lanes) + 1):
            if number == len(self._lanes):
                self._lanes.append(_Lane())
            lane = self._lanes[number]
            self._close(number, slice_.begin)
            begin = max(slice_.begin, lane.reached)
            if not lane.open or end <= lane.open[-1]:
                lane.open.append(max(end, begin))
                lane.reached = begin
                self._pen.begin(number, begin, slice_)
                return

    def _close(self, number: int, until: int | None) -> None:
        """End the slices of a lane that end by `until`; None: all of them."""
        lane = self._lanes[number]
        while lane.open and (until is None or lane.open[-1] <= until):
            lane.reached = max(lane.reached, lane.open.pop())
            self._pen.end(number, lane.reached)


def _outer_first(held: Slice | Point) -> tuple[int, int]:
    end = held.end if isinstance(held, Slice) else None
    return held.begin, -(held.begin if end is None else end)
