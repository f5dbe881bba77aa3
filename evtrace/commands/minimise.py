"""`evtrace minimise`: the shortest trace that still shows what is to be kept."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from evtrace.commands.options import TracePath, XenProfile, warn_of_damage
from evtrace.commands.progress import progress_bar
from evtrace.errors import EvtraceError, ExitCode, UsageError
from evtrace.printable import printable

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


def minimise(
    trace: TracePath,
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="divergence, cause=X, fate=X, finding=X, spurious=L1..L3, …; "
            "without: the first thing that is wrong.",
        ),
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", metavar="dDOM:PORT", help="Only on this port.")
    ] = None,
    at: Annotated[
        int | None, typer.Option("--at", metavar="SEQ", help="Only at this record.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The trace to write.")] = Path(
        "minimal.bin"
    ),
    scenario: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The scenario to write; without: beside the trace, .scenario.toml."
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.0, help="Stop then, with the best so far."),
    ] = None,
    xen: XenProfile = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the outputs.")] = False,
) -> None:
    """Find the fewest operations of a trace that still show a divergence, a cause, a fate.

    They are printed, written as a trace, and as a scenario that does the same on the emulator.
    Ctrl-C stops with the best so far.
    """
    from evtrace.commands.reproducing import reproduce  # noqa: PLC0415
    from evtrace.tracefile.partial import PartialFile  # noqa: PLC0415

    script = scenario or output.with_name(f"{_stem(output)}.scenario.toml")
    for path in (output, script):
        PartialFile(path, force=force).refuse_existing()
    wanted = read_wanted(keep, on, at)
    watch = Watch(seconds)
    with watch.interruptible(), _opened(trace) as source:
        whole = source.replay(xen)
        warn_of_damage(trace, source.trace.reader.damage)
        fact, name = find_fact(whole.results, wanted, trace)
        with TemporaryDirectory() as folder:
            found = search(whole, fact, watch, Path(folder))
            records = write(found, output, wanted, force=force)
            print("\n".join(report_lines(found, watch)))  # noqa: T201  a command prints
            print(f"{output}: {records:,} records")  # noqa: T201
            print("\n".join(reproduce(found, name, script, Path(folder), force=force)))  # noqa: T201
    if watch.interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)


def _stem(output: Path) -> str:
    """Give the name of the output without what a trace's name ends in."""
    return output.name.removesuffix(".zst").removesuffix(".bin")


# --- what is to be kept ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which fact is to be kept."""

    names: tuple[str, ...]
    """The first that the trace shows; `divergence`, `cause.SEND`."""
    port: tuple[int, int] | None
    seq: int | None
    text: str

    def fits(self, fact: "Fact", name: str) -> bool:
        """Tell whether it is one of those."""
        named = name in fact.names or (name == "finding" and fact.kind == "finding")
        there = self.port is None or self.port in fact.channels
        return named and there and self.seq in {None, fact.seq}


def read_wanted(keep: str | None, on: str | None, at: int | None) -> Wanted:
    """Read the options; raises `UsageError` with the nearest name for one that there is not."""
    from evtrace.tracefile.selection import parse_port  # noqa: PLC0415

    port = None if on is None else parse_port(on)
    text = keep or "the first thing that is wrong"
    text += f" on {on}" if on else ""
    text += f" at record {at}" if at is not None else ""
    names = ("divergence", "finding", "spurious.L2") if keep is None else (_read_name(keep),)
    return Wanted(names, port, at, text)


def _read_name(keep: str) -> str:
    from evtrace.analysis.checks.quantities import find_quantity, quantities  # noqa: PLC0415
    from evtrace.verdicts import FindingCode  # noqa: PLC0415
    from evtrace.xen.abi import EvtchnOp  # noqa: PLC0415

    which, _, member = keep.strip().replace("=", ".", 1).partition(".")
    if which in {"divergence", "divergences"}:
        ops = {op.name.lower() for op in EvtchnOp} | {"handler"}
        if member and member.lower() not in ops:
            from difflib import get_close_matches  # noqa: PLC0415

            near = get_close_matches(member.lower(), ops, n=1, cutoff=0)[0]
            message = f"--keep {keep}: there is no operation {member}; the nearest is {near}"
            raise UsageError(message)
        return f"divergence.{member.lower()}" if member else "divergence"
    if which == "finding" and not member:
        return which
    sets = sorted({name.partition(".")[0] for name in quantities() if "." in name})
    if which not in sets or not member:
        known = ", ".join(["divergence", *(f"{one}=X" for one in sets)])
        message = f"--keep {keep}: expected one of {known}"
        raise UsageError(message)
    name = find_quantity(f"{which}.{member}").name
    _, _, member = name.partition(".")
    is_code = which == "finding" and member in {code.value for code in FindingCode}
    return f"finding.{FindingCode(member).name}" if is_code else name


def find_fact(results: "Results", wanted: Wanted, trace: str) -> "tuple[Fact, str]":
    """Give the first fact that is wanted, and its name; raises `NotShownError`."""
    from evtrace.replay.minimise.showing import facts  # noqa: PLC0415

    found = list(facts(results))
    for name in wanted.names:
        fact = next((fact for fact in found if wanted.fits(fact, name)), None)
        if fact is not None:
            return fact, name
    message = f"{trace}: does not show {wanted.text}; nothing is written"
    raise NotShownError(message)


# --- time and interruptions ---------------------------------------------------------------------


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

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let Ctrl-C end the search; a second one ends evtrace."""

        def stop(*_: object) -> None:
            self.interrupted = True
            signal.signal(signal.SIGINT, signal.default_int_handler)

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


# --- replaying and searching ----------------------------------------------------------------------


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
def _opened(path: str) -> Iterator[Source]:
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


# --- results ------------------------------------------------------------------------------------


def write(found: Found, output: Path, wanted: Wanted, *, force: bool) -> int:
    """Write what is left as a trace, and see that it shows the fact; gives its records."""
    from evtrace.api import Trace  # noqa: PLC0415
    from evtrace.replay.minimise.showing import facts, verdicts  # noqa: PLC0415
    from evtrace.tracefile.parts import Part, write_part  # noqa: PLC0415

    rows = found.minimal.rows
    counts = f"{len(found.minimal.operations):,} of {found.of_operations:,} operations"
    source = f"--minimise {found.of_trace}: {counts} that show {wanted.text}"
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


def report_lines(found: Found, watch: Watch) -> Iterator[str]:
    """Say what was kept, how much of it is left, and what that is."""
    from evtrace.analysis.operations import channel_lines, operation_lines  # noqa: PLC0415

    minimal = found.minimal
    yield printable(f"Kept: {found.fact.sentence}")
    operations = f"{found.of_operations:,} → {len(minimal.operations):,} operations"
    yield f"  {operations}; {watch.replays:,} replays, {watch.elapsed:.1f} s"
    if found.started_late:
        yield "  It begins with its channels as they stood when it starts."
    if not minimal.is_minimal:
        yield "  Ended early: more may be left out."
    yield ""
    yield from channel_lines(minimal.units)
    yield from operation_lines(minimal.operations, found.whole.results, found.fact.seq)
    yield ""
