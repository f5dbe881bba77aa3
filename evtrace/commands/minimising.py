"""Minimising a trace: replaying it, searching it, writing what is left."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from evtrace.commands.progress import progress_bar
from evtrace.errors import EvtraceError, ExitCode

if TYPE_CHECKING:
    from evtrace.api import Trace
    from evtrace.replay.minimise.search import Minimal, Search
    from evtrace.replay.minimise.showing import Fact
    from evtrace.replay.results import Results
    from evtrace.timeline import Row
    from evtrace.tracefile.coverage import CoverageMap

LONG = 20
"""A result with so many operations is compared with one that begins later, from a snapshot."""


class NotShownError(EvtraceError):
    """The trace does not show what is to be kept."""

    exit_code = ExitCode.FINDING


class Watch:
    """Ends the search when the time is up or somebody presses Ctrl-C."""

    def __init__(self, seconds: float | None) -> None:
        """Start the clock."""
        self._began = time.monotonic()
        self._seconds = seconds
        self.interrupted = False
        self.replays = 0
        self.left = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    @property
    def goes_on(self) -> bool:
        """Whether there is time left and nobody wants it to end."""
        return not self.interrupted and (self._seconds is None or self.elapsed < self._seconds)

    def interrupt(self) -> None:
        """End the search."""
        self.interrupted = True


@dataclass(slots=True)
class Whole:
    """A whole trace, replayed."""

    trace: "Trace"
    xen: str | None
    rows: "list[Row]"
    coverage: "CoverageMap"
    results: "Results"


@dataclass(slots=True)
class Source:
    """An opened trace, and who is told how far it was read."""

    trace: "Trace"
    listeners: list[Callable[[float], None]] = field(default_factory=list)

    def replay(self, xen: str | None) -> Whole:
        """Replay all of it."""
        with progress_bar("replaying") as progress:
            self.listeners[:] = [progress]
            whole = replay_whole(self.trace, xen)
            self.listeners.clear()
        return whole


@contextmanager
def opened(path: str) -> Iterator[Source]:
    """Open a trace whose reading can be watched."""
    from evtrace.api import Trace  # noqa: PLC0415

    listeners: list[Callable[[float], None]] = []

    def progress(share: float) -> None:
        for listener in listeners:
            listener(share)

    with Trace(path, progress) as trace:
        yield Source(trace, listeners)


def replay_whole(trace: "Trace", xen: str | None) -> Whole:
    """Replay a trace as its parts will be: of a damaged one, coverage is not claimed."""
    from evtrace.replay.follow import SCHEDULER_KINDS, Follow  # noqa: PLC0415
    from evtrace.tracefile.coverage import CoverageMap  # noqa: PLC0415

    rows, coverage = list(trace.rows()), trace.coverage
    if coverage.loss:
        facts = replace(trace.reader.stated, coverage=[])
        coverage = CoverageMap(facts, trace.reader.survey)
        rows = [row for row in rows if row.kind not in SCHEDULER_KINDS]
    results = Follow(trace.belief(xen), coverage).follow(rows)
    return Whole(trace, xen, rows, coverage, results)


@dataclass(slots=True)
class Found:
    """What was found in a trace, or in what begins later in it."""

    whole: Whole
    fact: "Fact"
    search: "Search"
    minimal: "Minimal"
    of_operations: int
    """Operations of the whole trace."""
    of_trace: str
    started_late: bool = False


class StoppedError(EvtraceError):
    """The search was ended before anything was found."""

    exit_code = ExitCode.INTERRUPTED


def search(whole: Whole, fact: "Fact", watch: Watch, folder: Path) -> Found:
    """Search a trace for the fewest operations that show `fact`; what it needs is in `folder`.

    If many are needed to open the ports alone, one that begins later, with the channels as they
    stand when the fact does, is taken instead.
    """
    with _searching(whole, fact, watch) as found:
        begun = found.begin()
    if not begun:
        _refuse(whole, fact, watch)
    if found.least >= LONG and watch.goes_on:
        later = _later_start(whole, found, fact, watch, folder)
        if later is not None:
            return later
    with _searching(whole, fact, watch, found):
        minimal = found.reduce()
    name = whole.trace.reader.name
    return Found(whole, fact, found, minimal, found.operations, name)


@contextmanager
def _searching(
    whole: Whole, fact: "Fact", watch: Watch, search: "Search | None" = None
) -> "Iterator[Search]":
    """Show how far a search is, a new one unless one is given; count its replays."""
    from evtrace.replay.minimise.oracle import Oracle  # noqa: PLC0415
    from evtrace.replay.minimise.search import Search  # noqa: PLC0415

    with progress_bar("minimising", lambda: f"{watch.left:,} operations left") as progress:

        def keep_on(left: int) -> bool:
            watch.left = left
            watch.replays += 1
            progress(1 - left / max(1, made.operations))
            return watch.goes_on

        if search is None:
            xen, trace = whole.xen, whole.trace
            oracle = Oracle(lambda: trace.belief(xen), whole.coverage, whole.results, fact)
            made = Search(whole.rows, whole.results, fact, oracle)
        else:
            made = search
        made.keep_on = keep_on
        yield made


def _refuse(whole: Whole, fact: "Fact", watch: Watch) -> NoReturn:
    if not watch.goes_on:
        message = "ended before a part was found that shows it; nothing is written"
        raise (StoppedError if watch.interrupted else NotShownError)(message)
    message = f"{whole.trace.reader.name}: no part of it shows this: {fact.sentence}"
    raise NotShownError(message)


def _later_start(
    whole: Whole, begun: "Search", fact: "Fact", watch: Watch, folder: Path
) -> Found | None:
    """Look for a result that begins where the fact does; None if it would be no shorter."""
    from evtrace.api import Trace  # noqa: PLC0415
    from evtrace.commands.cut import make_slice  # noqa: PLC0415
    from evtrace.tracefile.cutting import write_slice  # noqa: PLC0415
    from evtrace.tracefile.selection import Selection  # noqa: PLC0415

    selection = Selection(seqs=(max(0, begun.begins - 1), begun.ends + 1))
    late = folder / "late.bin"
    trace = whole.trace
    write_slice(trace.reader, late, make_slice(trace, selection, whole.xen))
    sliced = replay_whole(Trace(late), whole.xen or trace.profile().name)
    same = _same_fact(fact, sliced.results)
    if same is None:
        return None
    with _searching(sliced, same, watch) as found:
        if not found.begin() or found.least >= begun.least:
            return None
        minimal = found.reduce()
    counts = (begun.operations, trace.reader.name)
    return Found(sliced, same, found, minimal, *counts, started_late=True)


def _same_fact(fact: "Fact", results: "Results") -> "Fact | None":
    """Find a fact in another trace with the same records."""
    from evtrace.replay.minimise.showing import facts  # noqa: PLC0415

    return next((other for other in facts(results) if other.is_like(fact)), None)


def write(found: Found, output: Path, wanted: str, *, force: bool) -> int:
    """Write what is left as a trace, and see that it shows the fact; gives its records.

    `wanted` is said in it.
    """
    from evtrace.api import Trace  # noqa: PLC0415
    from evtrace.replay.minimise.showing import facts, verdicts  # noqa: PLC0415
    from evtrace.tracefile.parts import Part, write_part  # noqa: PLC0415

    rows = found.minimal.rows
    counts = f"{len(found.minimal.operations):,} of {found.of_operations:,} operations"
    source = f"--minimise {found.of_trace}: {counts} that show {wanted}"
    part = Part([row.seq for row in rows], found.minimal.end, source)
    write_part(found.whole.trace.reader, output, part, force=force)
    with Trace(output) as written:
        results = written.replay(found.whole.xen)
        said, before = verdicts(facts(results)), verdicts(facts(found.whole.results))
        changed = [names for key, names in said.items() if not names <= before.get(key, set())]
        if _same_fact(found.fact, results) is None or changed:
            what = f"shows {', '.join(sorted(changed[0]))}, too" if changed else "does not show it"
            message = f"{output}: written, but what is left {what}: {found.fact.sentence}"
            raise NotShownError(message)
        return written.reader.survey.records
