"""Lanes: steps drawn side by side, one column a vCPU, in ASCII for a mail.

At the left of a column stands what its vCPU does (`|` runs, `:` waits for a pCPU, `.` blocked),
then a bar for each call, upcall and handler that it is in.
"""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import quantiles

from evtrace.analysis.interleaving.steps import EVERYWHERE, Lane, Step, name
from evtrace.analysis.tables import duration
from evtrace.timeline import Kind, Runstate

WIDTHS = {1: 80, 2: 80, 3: 100, 4: 120}
"""Columns of a picture by its number of lanes."""

STATES = {Runstate.RUNNING: "|", Runstate.RUNNABLE: ":", Runstate.BLOCKED: ".", None: " "}

GAP_FACTOR = 5
"""A pause so many times as long as three in four of the others gets a line of its own."""

_FOLDS = (Kind.WAKE, Kind.BLOCK)
"""Kinds of steps whose runstate follows in a record of its own."""

_MARK = "> "
_BETWEEN = "  "


@dataclass(frozen=True, slots=True)
class Arrow:
    """Goes from a step to another vCPU."""

    to: Lane
    label: str
    arrives: str
    """What stands at its point."""


@dataclass(slots=True)
class Line:
    """What one step looks like."""

    step: Step
    text: str
    opens: bool = False
    arrow: Arrow | None = None
    is_marked: bool = False
    """Whether it is what was asked about."""
    repeats: int = 0
    """How often the same step came once more right behind it."""
    skipped: int = 0
    """How many steps before it were left out."""
    until: int | None = None
    """When an interval that stands on the line whole ended."""
    uncertain: bool = False
    """Whether it may have happened before or after a step of another vCPU that stands beside."""


@dataclass(slots=True)
class Clock:
    """Turns TSCs into what the time column shows: µs since `zero`, or cycles."""

    zero: int
    tsc_hz: int | None

    def shown(self, tsc: int) -> str:
        """Show a time relative to zero."""
        cycles = tsc - self.zero
        if self.tsc_hz is None:
            return f"{cycles:+,}" if cycles else "0"
        return f"{cycles * 1e6 / self.tsc_hz:+.2f}" if cycles else "0.00"

    def lasts(self, cycles: int) -> str:
        """Show how long something takes."""
        if self.tsc_hz is None:
            return f"{cycles:,} cycles"
        return duration(round(cycles * 1e9 / self.tsc_hz))


@dataclass(slots=True)
class Drawing:
    """Draws lines, top down."""

    lanes: Sequence[Lane]
    clock: Clock
    state: Callable[[Lane, int], Runstate | None]
    """What a vCPU does after a record."""
    intervals: Sequence[Step]
    """What begins calls, upcalls and handlers that end, in order."""
    names: Mapping[int, str] = field(default_factory=dict)
    """Domain -> its name."""
    _at: int = 0
    """The record up to which is drawn."""
    _time_width: int = 0
    _width: int = 0

    def draw(self, lines: Sequence[Line]) -> Iterator[str]:
        """Give the picture's lines."""
        self._time_width = max(6, *(len(self._time(line)) for line in lines))
        count = max(1, len(self.lanes))  # lost records belong to no lane
        room = WIDTHS[count] - len(_MARK) - self._time_width - len(_BETWEEN)
        self._width = (room + len(_BETWEEN)) // count - len(_BETWEEN)
        yield self._titles()
        pause = self._pause(lines)
        before: Line | None = None
        for line in lines:
            gap = 0 if before is None else _gap(before, line)
            if line.skipped:
                text = f"{self.clock.lasts(gap)}, {line.skipped} steps left out"
                yield self._assemble("", "...", text)
            elif pause is not None and gap > pause:
                yield self._assemble("", "...", self.clock.lasts(gap))
            yield from self._line(line)
            before = line

    def _pause(self, lines: Sequence[Line]) -> int | None:
        """Give the longest time between two lines that is nothing special."""
        gaps = [_gap(before, line) for before, line in pairwise(lines)]
        return None if len(gaps) < 3 else round(GAP_FACTOR * max(1, quantiles(gaps)[2]))

    def _time(self, line: Line) -> str:
        return ("~" if line.uncertain else "") + self.clock.shown(line.step.tsc)

    def _titles(self) -> str:
        unit = "time" if self.clock.tsc_hz is None else "us"
        titles = (
            name(lane) + (f" ({self.names[lane[0]]})" if lane[0] in self.names else "")
            for lane in self.lanes
        )
        cells = (title[: self._width].ljust(self._width) for title in titles)
        return self._assemble("", unit, _BETWEEN.join(cells))

    def _assemble(self, mark: str, time: str, rest: str) -> str:
        left = f"{mark:<{len(_MARK)}}{time:>{self._time_width}}{_BETWEEN}"
        return (left + rest).rstrip()

    def _line(self, line: Line) -> Iterator[str]:
        step = line.step
        self._at = step.seqs[-1] if step.row.kind in _FOLDS else step.seq
        mark = _MARK if line.is_marked else ""
        if step.lane == EVERYWHERE:
            yield self._assemble(mark, self._time(line), line.text)
            return
        texts = self._wrapped(step.lane, line.text)
        yield self._assemble(mark, self._time(line), self._first(line, texts[0]))
        self._at += line.opens
        for text in texts[1:]:
            yield self._assemble("", "", self._row({step.lane: text}))

    def _wrapped(self, lane: Lane, text: str) -> list[str]:
        room = max(12, self._width - len(self._bars(lane)))
        wrap = textwrap.TextWrapper(
            room, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
        return wrap.wrap(text) or [""]

    def _bars(self, lane: Lane) -> str:
        inside = sum(
            step.lane == lane and step.ended is not None and step.seq < self._at < step.ended.seq
            for step in self.intervals
        )
        return STATES[self.state(lane, self._at)] + " " + "| " * inside

    def _start(self, lane: Lane) -> int:
        return self.lanes.index(lane) * (self._width + len(_BETWEEN))

    def _row(self, texts: Mapping[Lane, str]) -> str:
        """Give a line with the bars of all lanes and the texts of some."""
        row = ""
        for lane in self.lanes:
            cell = self._bars(lane) + texts.get(lane, "")
            row = row.ljust(self._start(lane)) + cell
        return row

    def _first(self, line: Line, text: str) -> str:
        """Give the line on which a step stands, with its arrow."""
        arrow, lane = line.arrow, line.step.lane
        if arrow is None or arrow.to not in self.lanes:
            return self._row({lane: text})
        row = list(self._row({lane: text, arrow.to: arrow.arrives}))
        if self._start(arrow.to) > self._start(lane):
            at = self._start(lane) + len(self._bars(lane)) + len(text) + 1
            shaft = "-" * (self._start(arrow.to) - at - 2) + ">"
            shaft = "--" + arrow.label + shaft[2 + len(arrow.label) :]
        else:
            at = self._start(arrow.to) + len(self._bars(arrow.to)) + len(arrow.arrives) + 1
            shaft = "<" + "-" * (self._start(lane) - at - 2)
            shaft = shaft[: -2 - len(arrow.label)] + arrow.label + "--"
        for place, character in enumerate(shaft, at):
            if row[place] == " ":
                row[place] = character
        return "".join(row)


def _gap(before: Line, line: Line) -> int:
    """Give the cycles from the end of one line to the begin of the next."""
    return line.step.tsc - max(before.step.tsc, before.until or 0)
