"""`evtrace import`: captures of other tools, joined into one trace."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evtrace.errors import NotATraceError, UsageError
from evtrace.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evtrace.tracefile.family import Timing
    from evtrace.tracer.importers.assembly import Outcome, Sources
    from evtrace.tracer.importers.events import GuestTrace
    from evtrace.tracer.importers.snapshots import Snapshot


def import_(
    output: Annotated[Path, typer.Option("-o", "--output", help="The trace to write.")],
    xentrace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What xentrace wrote."),
    ] = None,
    ftrace: Annotated[
        list[str] | None,
        typer.Option(metavar="DOM=FILE", help="ftrace text of a domain; repeat for each."),
    ] = None,
    trace_dat: Annotated[
        list[str] | None,
        typer.Option(
            "--trace-dat", "--tracecmd", metavar="DOM=FILE", help="trace-cmd's trace.dat of one."
        ),
    ] = None,
    lsevtchn: Annotated[
        list[str] | None,
        typer.Option(metavar="[DOM=]FILE[@WHEN]", help="Output of lsevtchn."),
    ] = None,
    debug_keys: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE[@WHEN]", help="What debug key e (and s) printed."),
    ] = None,
    xen_version: Annotated[
        str | None,
        typer.Option(metavar="4.17", help="Version of the Xen that was captured."),
    ] = None,
    timing: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="Where times come from: hardware or emulated-cpu."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output.")] = False,
) -> None:
    """Join xentrace, ftrace texts and snapshots into one trace.

    WHEN is `before` (the capture; the default), `after` it, or a host TSC. Any input may be
    compressed, as NAME.zst.
    """
    from evtrace.tracefile.partial import PartialFile  # noqa: PLC0415  when it runs
    from evtrace.tracer.importers.assembly import Sources, assemble  # noqa: PLC0415  when it runs

    if xentrace is not None:
        PartialFile(output, force=force).refuse_as_source(xentrace)
    sources = Sources(
        xentrace=xentrace,
        timing=find_timing_kind(timing),
        xen_version=_version(xen_version),
    )
    if xentrace is not None:
        sources.names.append(f"xentrace {xentrace.name}")
    for given in debug_keys or []:
        add_debug_keys(sources, given)
    for given in lsevtchn or []:
        add_lsevtchn(sources, given)
    for option, texts in (("ftrace", ftrace), ("trace-dat", trace_dat)):
        for given in texts or []:
            add_guest(sources, option, given)
    if not sources.names:
        message = "nothing to import: give --xentrace, --ftrace or a snapshot"
        raise UsageError(message)
    outcome = assemble(sources, output, force=force)
    for line in summary(sources, outcome):
        remark(line)


# --- sources -----------------------------------------------------------------------------------


def add_debug_keys(sources: "Sources", given: str) -> None:
    """Read what debug key e printed, given as FILE[@WHEN]."""
    from evtrace.tracer.importers.snapshots import parse_debug_keys  # noqa: PLC0415  when it runs
    from evtrace.tracer.importers.texts import open_text  # noqa: PLC0415

    path, when = _when(given)
    with open_text(path) as text:
        seen = parse_debug_keys(text)
    _add_snapshot(sources, "debug-keys", path, when, seen)


def add_lsevtchn(sources: "Sources", given: str) -> None:
    """Read the output of lsevtchn, given as [DOM=]FILE[@WHEN]."""
    from evtrace.tracer.importers.snapshots import parse_lsevtchn  # noqa: PLC0415  when it runs
    from evtrace.tracer.importers.texts import open_text  # noqa: PLC0415

    dom, rest = _domain_of(given) if _names_domain(given) else (None, given)
    path, when = _when(rest)
    with open_text(path) as text:
        seen = parse_lsevtchn(text, dom)
    _add_snapshot(sources, "lsevtchn", path, when, seen)


def _add_snapshot(
    sources: "Sources",
    option: str,
    path: Path,
    when: str | int,
    seen: "Snapshot",
) -> None:
    if not seen.domains:
        expected = f"what {option.replace('-', ' ')} prints"
        raise NotATraceError(path, 0, expected, "no channel of any domain", "check the file")
    sources.names.append(f"{option} {path.name}@{when}")
    present = sources.snapshots.setdefault(when, seen)
    differing = present.merge(seen) if present is not seen else []
    if differing:
        ports = ", ".join(differing)
        remark(f"{path}: another snapshot of that time shows {ports} differently")


def add_guest(sources: "Sources", option: str, given: str) -> None:
    """Read the text of a domain, given as DOM=FILE; the snapshots come first."""
    from evtrace.tracer.importers.ftrace import parse_ftrace  # noqa: PLC0415  when it runs
    from evtrace.tracer.importers.guest import read_guest  # noqa: PLC0415
    from evtrace.tracer.importers.texts import open_text  # noqa: PLC0415

    dom, name = _domain_of(given)
    if dom in sources.guests:
        message = f"d{dom} was given twice: one text of each domain"
        raise UsageError(message)
    timers: dict[int, int] = {}
    for snapshot in sources.snapshots.values():
        timers |= snapshot.timer_ports(dom)
    path = Path(name)
    with open_text(path) as text:
        sources.guests[dom] = read_guest(parse_ftrace(str(path), text), timers)
    sources.names.append(f"{option} {dom}={path.name}")


# --- options -----------------------------------------------------------------------------------


def _names_domain(given: str) -> bool:
    dom, equals, _ = given.partition("=")
    return bool(equals) and dom.removeprefix("dom").removeprefix("d").isdecimal()


def _domain_of(given: str) -> tuple[int, str]:
    if not _names_domain(given):
        message = f"{given!r}: expected DOM=FILE, as 0=dom0.txt"
        raise UsageError(message)
    dom, _, name = given.partition("=")
    return int(dom.removeprefix("dom").removeprefix("d")), name


def _when(given: str) -> tuple[Path, str | int]:
    """Split FILE@WHEN; an @ that is part of the file's name is left there."""
    name, at, when = given.rpartition("@")
    if not at or Path(given).exists():
        return Path(given), "before"
    if when.isdecimal():
        return Path(name), int(when)
    if when not in {"before", "after"}:
        message = f"{given!r}: after the @ stands `before`, `after` or a TSC, not {when!r}"
        raise UsageError(message)
    return Path(name), when


def _version(given: str | None) -> tuple[int, int] | None:
    if given is None:
        return None
    major, _, minor = given.partition(".")
    minor = minor.partition(".")[0]
    if not (major.isdecimal() and minor.isdecimal()):
        message = f"--xen-version {given!r}: expected a version such as 4.17"
        raise UsageError(message)
    return int(major), int(minor)


def find_timing_kind(given: str | None) -> "Timing":
    """Read where times come from. Raises `UsageError`."""
    from evtrace.tracefile.family import Timing  # noqa: PLC0415  when it runs

    kinds = {"hardware": Timing.HARDWARE, "emulated-cpu": Timing.EMULATED_CPU}
    if given is not None and given not in kinds:
        message = f"--timing {given!r}: expected one of {', '.join(kinds)}"
        raise UsageError(message)
    return kinds[given] if given else Timing.UNKNOWN


# --- summary -----------------------------------------------------------------------------------


def remark(text: str) -> None:
    """Say something beside the result."""
    print(f"evtrace: {printable(text)}", file=sys.stderr)  # noqa: T201  a command's remark


def summary(sources: "Sources", outcome: "Outcome") -> "Iterator[str]":
    """Give a line or more on each domain, and what could not be read."""
    yield from outcome.damage
    yield f"imported {', '.join(sources.names)}"
    for dom, guest in sorted(sources.guests.items()):
        yield from _of_domain(dom, guest, outcome)


def _of_domain(dom: int, guest: "GuestTrace", outcome: "Outcome") -> "Iterator[str]":
    calls = f"{guest.calls.paired} calls"
    if outcome.occupancy.last_tsc:
        calls += f" ({outcome.calls_inside(dom, guest)} in xentrace's time)"
    yield f"d{dom}: {calls}, {guest.runs} handler runs; {outcome.clocks[dom].describe(dom)}"
    halves = len(guest.calls.calls) - guest.calls.paired
    if halves:
        yield f"d{dom}: {halves} calls of which only the entry or only the return was seen"
    if guest.other_irqs:
        yield f"d{dom}: {guest.other_irqs} handlers of irqs that are no event channels left out"
    for kind, count in guest.text.unparsed.items():
        yield f"d{dom}: {count} lines not understood, such as {guest.text.examples[kind]}"
