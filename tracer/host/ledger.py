"""The ledger: what a recording sets up, written down before it does, so that all can be undone.

A recorder that is killed leaves probes behind, which cost time as long as they are there; `clean`
finds them by the ledger, and by their own names.
"""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from evtrace.errors import CannotRecordError, CannotWriteError
from evtrace.tracer.host.machine import Machine
from evtrace.tracer.host.tracefs import Tracefs, find_tracefs

OPTIMIZATION = Path("proc/sys/debug/kprobes-optimization")
"""Whether probes become jumps. Such a probe is handled with interrupts on, and the probes that an
interrupt meets meanwhile are lost; with it off a probe is a breakpoint, which masks interrupts."""

_PATH = Path("run/evtrace/recording.json")


@dataclass(slots=True)
class Entry:
    """One recording: who it is and what it has set up; a time tells whether a pid is still its."""

    pid: int
    started: str
    folder: str
    """Where the capture is written."""
    xentrace: int = 0
    xentrace_started: str = ""
    optimization: str = ""
    """What is to be written back to `OPTIMIZATION`."""
    left: list[str] = field(default_factory=list)
    """What could not be taken down."""


class Ledger:
    """The ledger of one machine; one recording at a time stands in it."""

    def __init__(self, machine: Machine) -> None:
        """Read nothing yet."""
        self._machine = machine
        self._path = machine.root / _PATH

    def read(self) -> Entry | None:
        """Give the recording that stands in it."""
        try:
            fields = json.loads(self._path.read_text("utf-8"))
            return Entry(**fields)
        except (OSError, ValueError, TypeError):
            return None

    def write(self, entry: Entry) -> None:
        """Write a recording down. Raises `CannotWriteError`."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps(asdict(entry)), "utf-8")
            new.replace(self._path)
        except OSError as error:
            message = f"{self._path}: cannot write: {error.strerror or error}"
            raise CannotWriteError(message) from error

    def is_running(self, entry: Entry) -> bool:
        """Tell whether the recorder of an entry still runs."""
        return self._machine.start_time(entry.pid) == entry.started

    def refuse_another(self) -> None:
        """Raise `CannotRecordError` if another recorder runs here or left something behind.

        The text of a kernel that has probes shows their breakpoints: it is not read before this.
        """
        before = self.read()
        if before is not None:
            if self.is_running(before):
                message = f"another recorder runs here (process {before.pid})"
                raise CannotRecordError(message)
            message = (
                f"a recorder (process {before.pid}) was ended before it could take down its "
                "probes: run `evtrace record --host --clean` first"
            )
            raise CannotRecordError(message)

    @contextmanager
    def recording(self, folder: Path) -> Iterator[Entry]:
        """Hold an entry while recording; it stays if something could not be taken down.

        Raises `CannotRecordError` if another recorder runs or left something behind.
        """
        self.refuse_another()
        pid = os.getpid()
        entry = Entry(pid, self._machine.start_time(pid) or "", str(folder.resolve()))
        self.write(entry)
        try:
            yield entry
        finally:
            if entry.left:
                self.write(entry)
            else:
                self._path.unlink(missing_ok=True)

    @contextmanager
    def unoptimized(self, entry: Entry) -> Iterator[None]:
        """Keep probes from becoming jumps, as far as the kernel lets itself be told."""
        path = self._machine.root / OPTIMIZATION
        entry.optimization = self._machine.text(str(OPTIMIZATION))
        self.write(entry)
        try:
            if entry.optimization:
                path.write_text("0\n", "utf-8")
            yield
        finally:
            restore_optimization(self._machine, entry)

    def forget(self) -> None:
        """Take the entry out."""
        self._path.unlink(missing_ok=True)


def restore_optimization(machine: Machine, entry: Entry) -> None:
    """Write back what the kernel did before."""
    if entry.optimization:
        with suppress(OSError):
            (machine.root / OPTIMIZATION).write_text(f"{entry.optimization}\n", "utf-8")


def clean(machine: Machine) -> Iterator[str]:
    """Take down what a killed recorder left, and say what that was.

    Raises `CannotRecordError` while a recorder runs, and if the kernel refuses.
    """
    ledger = Ledger(machine)
    entry = ledger.read()
    if entry is not None and ledger.is_running(entry):
        message = f"a recorder runs here (process {entry.pid}): end it with Ctrl-C or SIGTERM"
        raise CannotRecordError(message)
    if entry is not None and entry.xentrace:
        yield from _end_xentrace(machine, entry)
    place = find_tracefs(machine.root)
    if place is not None:
        yield from _take_down(Tracefs(place))
    if entry is not None:
        restore_optimization(machine, entry)
        ledger.forget()
        yield f"the ended recording's capture is in {entry.folder}"


def _end_xentrace(machine: Machine, entry: Entry) -> Iterator[str]:
    is_ours = machine.start_time(entry.xentrace) == entry.xentrace_started
    if is_ours:
        with suppress(ProcessLookupError):
            os.kill(entry.xentrace, signal.SIGTERM)
            yield f"ended xentrace (process {entry.xentrace})"


def _take_down(tracefs: Tracefs) -> Iterator[str]:
    try:
        if tracefs.remove_instance():
            yield f"removed {tracefs.instance}"
        removed = tracefs.undefine()
    except OSError as error:
        message = f"{tracefs.root}: cannot take the probes down: {error.strerror or error}"
        raise CannotRecordError(message) from error
    if removed:
        yield f"removed {removed} probes"
