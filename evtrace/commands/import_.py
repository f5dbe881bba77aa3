"""`evtrace import`: captures of other tools, joined into one trace."""

import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from evtrace.errors import CannotRecordError, NoInputError, UsageError

if TYPE_CHECKING:
    from evtrace.tracefile.family import Timing
    from evtrace.tracer.importers.assembly import Outcome, Sources
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
        typer.Option(metavar="DOM=FILE", help="trace-cmd's trace.dat of a domain."),
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
    from evtrace.tracer.importers.assembly import Sources, assemble  # noqa: PLC0415  when it runs

    sources = Sources(xentrace=xentrace)
    if xentrace is not None:
        sources.names.append(f"xentrace {xentrace.name}")
    _add_snapshots(sources, lsevtchn or [], debug_keys or [])
    _add_guests(sources, ftrace or [], trace_dat or [])
    if not sources.names:
        message = "nothing to import: give --xentrace, --ftrace or a snapshot"
        raise UsageError(message)
    sources.xen_version = _version(xen_version)
    sources.timing = _timing(timing)
    outcome = assemble(sources, output, force=force)
    for line in _summary(sources, outcome):
        print(line, file=sys.stderr)  # noqa: T201  remarks of a command


# --- sources -----------------------------------------------------------------------------------


def _add_snapshots(sources: "Sources", lsevtchn: list[str], debug_keys: list[str]) -> None:
    from evtrace.tracer.importers.snapshots import parse_debug_keys, parse_lsevtchn  # noqa: PLC0415

    for given in debug_keys:
        path, when = _when(given)
        with _open_text(path) as text:
            _add_snapshot(sources, f"debug-keys {path.name}", when, parse_debug_keys(text))
    for given in lsevtchn:
        dom, rest = _domain_of(given) if _names_domain(given) else (None, given)
        path, when = _when(rest)
        with _open_text(path) as text:
            _add_snapshot(sources, f"lsevtchn {path.name}", when, parse_lsevtchn(text, dom))


def _add_snapshot(sources: "Sources", name: str, when: str | int, seen: "Snapshot") -> None:
    sources.names.append(f"{name}@{when}")
    present = sources.snapshots.setdefault(when, seen)
    if present is not seen:
        for channel in present.merge(seen):
            remark = f"evtrace: {name}: another snapshot of that time differs on {channel}"
            print(remark, file=sys.stderr)  # noqa: T201  remarks of a command


def _add_guests(sources: "Sources", ftrace: list[str], trace_dat: list[str]) -> None:
    for given in ftrace:
        dom, name = _domain_of(given)
        with _open_text(Path(name)) as text:
            _add_guest(sources, dom, Path(name), "ftrace", text)
    for given in trace_dat:
        dom, name = _domain_of(given)
        with _trace_cmd_report(Path(name)) as text:
            _add_guest(sources, dom, Path(name), "trace-dat", text)


def _add_guest(sources: "Sources", dom: int, path: Path, option: str, text: IO[str]) -> None:
    from evtrace.tracer.importers.ftrace import parse_ftrace  # noqa: PLC0415  when it runs
    from evtrace.tracer.importers.guest import read_guest  # noqa: PLC0415

    if dom in sources.guests:
        message = f"d{dom} was given twice: one text of each domain"
        raise UsageError(message)
    timers: dict[int, int] = {}
    for snapshot in sources.snapshots.values():
        timers |= snapshot.timer_ports(dom)
    sources.guests[dom] = read_guest(parse_ftrace(str(path), text), timers)
    sources.names.append(f"{option} {dom}={path.name}")


def _open_text(path: Path) -> IO[str]:
    """Open a text, decompressed if its name ends in .zst; bytes that are no UTF-8 are replaced."""
    try:
        raw = path.open("rb")
    except OSError as error:
        message = f"{path}: cannot read: {error.strerror or error}"
        raise NoInputError(message) from error
    if path.suffix == ".zst":
        import zstandard  # noqa: PLC0415  only for .zst

        stream = zstandard.ZstdDecompressor().stream_reader(raw, closefd=True)
        return io.TextIOWrapper(stream, errors="replace")
    return io.TextIOWrapper(raw, errors="replace")


def _trace_cmd_report(path: Path) -> IO[str]:
    """Let trace-cmd print its binary file as text with raw TSCs."""
    program = shutil.which("trace-cmd")
    if program is None:
        message = (
            f"{path}: reading it needs trace-cmd, which is not installed (apt install trace-cmd)"
        )
        raise CannotRecordError(message)
    done = subprocess.run(  # noqa: S603  the path of a program that was looked up
        [program, "report", "-t", "--nodate", "-i", str(path)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().splitlines()
        message = f"{path}: trace-cmd cannot read it: {why[-1] if why else 'no reason given'}"
        raise NoInputError(message)
    return io.TextIOWrapper(io.BytesIO(done.stdout), errors="replace")


# --- options -----------------------------------------------------------------------------------


def _names_domain(given: str) -> bool:
    return given.partition("=")[0].removeprefix("d").isdecimal() and "=" in given


def _domain_of(given: str) -> tuple[int, str]:
    if not _names_domain(given):
        message = f"{given!r}: expected DOM=FILE, as 0=dom0.txt"
        raise UsageError(message)
    dom, _, name = given.partition("=")
    return int(dom.removeprefix("d")), name


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


def _timing(given: str | None) -> "Timing":
    from evtrace.tracefile.family import Timing  # noqa: PLC0415  when it runs

    kinds = {"hardware": Timing.HARDWARE, "emulated-cpu": Timing.EMULATED_CPU}
    if given is not None and given not in kinds:
        message = f"--timing {given!r}: expected one of {', '.join(kinds)}"
        raise UsageError(message)
    return kinds[given] if given else Timing.UNKNOWN


def _summary(sources: "Sources", outcome: "Outcome") -> list[str]:
    from evtrace.timeline import Kind  # noqa: PLC0415  when it runs

    lines = list(outcome.warnings)
    for dom, guest in sorted(sources.guests.items()):
        runs = sum(event.kind == Kind.HANDLER_ENTER for event in guest.events)
        clock = outcome.clocks[dom]
        lines.append(
            f"d{dom}: {len(guest.calls.calls)} calls, {runs} handler runs; {clock.describe(dom)}",
        )
        if guest.calls.unopened:
            lines.append(f"d{dom}: {guest.calls.unopened} returns of calls entered before")
        for kind, count in guest.text.unparsed.items():
            lines.append(f"d{dom}: {count} lines not understood: {guest.text.examples[kind]}")
    return lines
