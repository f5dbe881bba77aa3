"""`evtrace record --host`, `--guest`, `--script`: a real Xen host, recorded with kernel probes."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from evtrace.commands.import_ import (
    add_debug_keys,
    add_guest,
    add_lsevtchn,
    find_timing_kind,
    remark,
    summary,
)
from evtrace.commands.interruption import held_signals
from evtrace.errors import CannotRecordError, CannotWriteError, ExitCode, UsageError
from evtrace.printable import printable

if TYPE_CHECKING:
    from evtrace.tracer.host.machine import Machine
    from evtrace.tracer.host.preflight import Preflight
    from evtrace.tracer.host.recorder import Captured, Plan, Status
    from evtrace.tracer.importers.assembly import Sources

_OUTPUTS = {"host": "trace.bin", "guest": "ftrace.txt", "script": "setup.sh"}


@dataclass(frozen=True, slots=True)
class HostRequest:
    """The options of one call."""

    mode: str
    """`host`, `guest` or `script`."""
    output: Path | None
    force: bool
    check: bool
    clean: bool
    domains: tuple[int, ...]
    with_xentrace: bool
    with_probes: bool
    timing: str | None
    seconds: float | None
    buffer_kb: int
    keep: bool
    kernel: Path | None
    modules: Path | None
    running: bool

    @property
    def path(self) -> Path:
        """Where the result goes."""
        return self.output or Path(_OUTPUTS[self.mode])


def record_real(request: HostRequest) -> None:
    """Do what was asked."""
    from evtrace.tracer.host.machine import Machine  # noqa: PLC0415  when it runs

    machine = Machine()
    if request.mode == "script":
        _write_script(request)
    elif request.clean:
        _clean(machine)
    else:
        _record(request, machine)


# --- without recording ----------------------------------------------------------


def _clean(machine: "Machine") -> None:
    from evtrace.tracer.host.ledger import clean  # noqa: PLC0415  when it runs

    if not machine.is_root:
        message = "taking probes down takes root: run it with sudo"
        raise CannotRecordError(message)
    _print([*clean(machine)] or ["nothing was left"])


def _check(seen: "Preflight") -> None:
    from evtrace.tracer.host.preflight import refuse  # noqa: PLC0415  when it runs

    width = max(len(check.what) for check in seen.checks)
    _print(f"{check.what:{width}}  {check.answer:6}  {check.found}" for check in seen.checks)
    refuse(seen)


def _write_script(request: HostRequest) -> None:
    from evtrace.tracefile.partial import PartialFile  # noqa: PLC0415  when it runs
    from evtrace.tracer.host.code import merge  # noqa: PLC0415
    from evtrace.tracer.host.images import module_files, read_kernel, read_modules  # noqa: PLC0415
    from evtrace.tracer.host.running import read_running  # noqa: PLC0415
    from evtrace.tracer.host.script import write_script  # noqa: PLC0415

    if request.running == (request.kernel is not None):
        message = "--script is for a kernel: give --kernel FILE, or --running for this one"
        raise UsageError(message)
    if request.modules is not None and request.kernel is None:
        message = "--modules goes with --kernel"
        raise UsageError(message)
    with PartialFile(request.path, force=request.force) as partial, partial.open() as file:
        code = read_running() if request.kernel is None else read_kernel(request.kernel)
        if request.modules is not None:
            code = merge(code, read_modules(module_files(request.modules)))
        script = write_script(code, request.path.name, request.buffer_kb)
        file.write(script.encode())
    probes = sum(line.startswith("probe ") for line in script.splitlines())
    remark(f"{request.path}: {probes} probes for {code.banner or 'an unknown kernel'}")


# --- recording ----------------------------------------------------------


def _record(request: HostRequest, machine: "Machine") -> None:
    from evtrace.tracer.host.recorder import Recorder  # noqa: PLC0415  when it runs

    seen = _examined(request, machine)
    if request.check:
        _check(seen)
        return
    folder = _make_folder(request.path)
    with held_signals() as stop, _live_line() as show:
        recorder = Recorder(_plan(request, seen, folder), machine, stop, show)
        with _kept(folder, recorder.captured):
            captured = recorder.run()
    for line in captured.remarks + captured.refused:
        remark(line)
    with _kept(folder, captured):
        if request.mode == "guest":
            _hand_over_text(captured, request.path)
        else:
            _assemble(request, machine, captured)
    if not request.keep:
        shutil.rmtree(folder, ignore_errors=True)
    _print([*_result(request, captured)])
    if not captured.is_complete:
        raise typer.Exit(ExitCode.INTERRUPTED)


def _examined(request: HostRequest, machine: "Machine") -> "Preflight":
    """Find out what can be recorded; unless that alone is asked for, refuse where it is nothing."""
    from evtrace.tracefile.partial import PartialFile  # noqa: PLC0415  when it runs
    from evtrace.tracer.host.ledger import Ledger  # noqa: PLC0415
    from evtrace.tracer.host.preflight import examine, refuse  # noqa: PLC0415

    Ledger(machine).refuse_another()
    if not request.check:
        find_timing_kind(request.timing)
        PartialFile(request.path, force=request.force)  # before there is anything to lose
    seen = examine(machine, request.buffer_kb, guest=request.mode == "guest")
    seen.tracefs = seen.tracefs if request.with_probes else None
    seen.xentrace = seen.xentrace if request.with_xentrace else None
    if not request.check:
        refuse(seen)
        for check in seen.checks:
            if check.answer != "yes":
                remark(f"{check.what}: {check.found}")
    return seen


def _make_folder(output: Path) -> Path:
    """Make the folder for what is recorded; one that a killed recorder left is kept."""
    folder = output.with_name(f"{output.name}.capture")
    try:
        folder.mkdir()
    except FileExistsError as error:
        message = (
            f"{folder}: is there already, with what another recording got; "
            "import it, move it or remove it"
        )
        raise CannotWriteError(message) from error
    except OSError as error:
        message = f"{folder}: cannot write: {error.strerror or error}"
        raise CannotWriteError(message) from error
    return folder


@contextmanager
def _kept(folder: Path, captured: "Captured") -> Iterator[None]:
    """Say of an error where what was recorded is, and how it becomes a trace."""
    try:
        yield
    except (CannotRecordError, CannotWriteError) as error:
        if not any(folder.iterdir()):
            folder.rmdir()
            raise
        way = _import_line(folder, captured)
        message = f"{error}; what was recorded so far is in {folder}: {way}"
        raise type(error)(message) from error


def _plan(request: HostRequest, seen: "Preflight", folder: Path) -> "Plan":
    from evtrace.tracer.host.recorder import Plan  # noqa: PLC0415  when it runs

    machine = seen.machine
    version = ".".join(map(str, machine.xen_version or ("?",)))
    heading = (
        "# tracer: function\n#\n"
        f"# evtrace record --{request.mode}; Xen {version}; {machine.text('proc/version')}\n"
    )
    return Plan(
        folder=folder,
        tracefs=seen.tracefs,
        probes=seen.probes,
        functions=seen.functions,
        buffer_kb=request.buffer_kb,
        xentrace=seen.xentrace,
        snapshots=seen.snapshots,
        domains=(0, *request.domains) if request.domains else (),
        seconds=request.seconds,
        heading=heading,
    )


def _import_line(folder: Path, captured: "Captured") -> str:
    """Give the command that makes a trace of what was recorded."""
    words = ["evtrace import"]
    if captured.xentrace is not None:
        words.append(f"--xentrace {folder / captured.xentrace.name}")
    if captured.text is not None:
        words.append(f"--ftrace 0={folder / captured.text.name}")
    if captured.before is not None and captured.before.lsevtchn is not None:
        words.append(f"--lsevtchn {captured.before.lsevtchn}")
    if captured.before is not None and captured.before.debug_keys is not None:
        words.append(f"--debug-keys {captured.before.debug_keys}")
    return " ".join([*words, "-o trace.bin"])


# --- the trace ----------------------------------------------------------


def _hand_over_text(captured: "Captured", output: Path) -> None:
    if captured.text is None:
        message = "nothing was recorded"
        raise CannotRecordError(message)
    try:
        captured.text.replace(output)
    except OSError as error:
        message = f"{output}: cannot write: {error.strerror or error}"
        raise CannotWriteError(message) from error


def _assemble(request: HostRequest, machine: "Machine", captured: "Captured") -> None:
    """Make the trace, as `evtrace import` does of the same files."""
    from evtrace.tracer.importers.assembly import Sources, assemble  # noqa: PLC0415  when it runs

    sources = Sources(
        xentrace=captured.xentrace,
        timing=find_timing_kind(request.timing or "hardware"),
        xen_version=machine.xen_version,
    )
    if captured.xentrace is not None:
        sources.names.append(f"xentrace {captured.xentrace.name}")
    for when, listed in (("before", captured.before), ("after", captured.after)):
        if listed is not None and listed.debug_keys is not None:
            add_debug_keys(sources, f"{listed.debug_keys}@{when}")
        if listed is not None and listed.lsevtchn is not None:
            add_lsevtchn(sources, f"{listed.lsevtchn}@{when}")
    if captured.text is not None:
        add_guest(sources, "ftrace", f"0={captured.text}")
    _leave_out(sources, request.domains)
    outcome = assemble(sources, request.path, force=request.force)
    for line in summary(sources, outcome):
        remark(line)


def _leave_out(sources: "Sources", domains: tuple[int, ...]) -> None:
    """Take the channels of domains that were not asked for out of the snapshots."""
    for snapshot in sources.snapshots.values() if domains else ():
        for dom in snapshot.domains.keys() - {0, *domains}:
            del snapshot.domains[dom]


def _result(request: HostRequest, captured: "Captured") -> Iterator[str]:
    status = captured.status
    if status is None:
        return
    yield (
        f"{request.path}: {status.seconds:.1f} s, {status.events:,} events, "
        f"{status.lost:,} lost, {status.xentrace_bytes:,} bytes of xentrace"
    )


# --- the terminal ----------------------------------------------------------


@contextmanager
def _live_line() -> Iterator["_Show"]:
    """Show how the recording is doing, on a terminal only."""
    show = _Show(sys.stderr.isatty())
    try:
        yield show
    finally:
        show.end()


class _Show:
    def __init__(self, is_shown: bool) -> None:
        self._is_shown = is_shown
        self._width = 0

    def __call__(self, status: "Status") -> None:
        if self._is_shown:
            line = (
                f"{status.seconds:6.0f} s  {status.events_per_s:9,.0f} events/s  "
                f"{status.lost:,} lost  buffer {status.fill:4.0%}  "
                f"xentrace {status.xentrace_bytes / 1e6:,.1f} MB"
            )
            self._width = max(self._width, len(line))
            print(f"\r{line:{self._width}}", end="", file=sys.stderr, flush=True)  # noqa: T201

    def end(self) -> None:
        if self._width:
            print(file=sys.stderr)  # noqa: T201  a command's remark


def _print(lines: "Iterator[str] | list[str]") -> None:
    print("\n".join(printable(line) for line in lines))  # noqa: T201  a command prints
