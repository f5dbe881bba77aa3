"""The recorder: probes and xentrace together, set up, read while they record, and taken down.

The text of the probes is written as it comes, so that what was recorded survives the recorder.
"""

import errno
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from evtrace.errors import CannotWriteError
from evtrace.tracer.host.ledger import Entry, Ledger
from evtrace.tracer.host.machine import Machine
from evtrace.tracer.host.pipe import PipeCopy, copied
from evtrace.tracer.host.probes import Probe
from evtrace.tracer.host.snapshot import Listed, take_snapshot
from evtrace.tracer.host.tracefs import Tracefs
from evtrace.tracer.host.xentrace import BUFFER_PAGES, Xentrace, run_xentrace
from evtrace.tracer.importers.ftrace import LISTED_MARK

TEXT = "ftrace.txt"
RAW = "xentrace.raw"

_ROOM_BYTES = 1 << 16
_WAIT_S = 0.05
_REPORT_S = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be recorded, and where to."""

    folder: Path
    tracefs: Tracefs | None
    """None to record without probes."""
    probes: list[Probe] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    buffer_kb: int = 16384
    """Of each CPU."""
    xentrace: Path | None = None
    """The program; None to record without."""
    xentrace_pages: int = BUFFER_PAGES
    snapshots: bool = True
    domains: Collection[int] = ()
    """Whose channels are listed; none: all."""
    seconds: float | None = None
    heading: str = ""
    """What the text's first lines say of its origin."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a recording is doing."""

    seconds: float
    events: int
    events_per_s: float
    lost: int
    fill: float
    """Of the fullest ring, 0 to 1."""
    xentrace_bytes: int


@dataclass(slots=True)
class Captured:
    """What a recording gave: files of its folder, None where there is none."""

    text: Path | None = None
    xentrace: Path | None = None
    before: Listed | None = None
    after: Listed | None = None
    status: Status | None = None
    refused: list[str] = field(default_factory=list)
    """Probes and functions that the kernel did not take, with its reason."""
    remarks: list[str] = field(default_factory=list)
    is_complete: bool = False
    """It lasted as long as it was to."""


class Recorder:
    """One recording."""

    def __init__(
        self,
        plan: Plan,
        machine: Machine,
        stop: threading.Event,
        report: Callable[[Status], None],
    ) -> None:
        """Do nothing yet; `stop` ends the recording, `report` is called every second."""
        self.captured = Captured()
        """Filled while recording; of use after an error too."""
        self._plan = plan
        self._machine = machine
        self._stop = stop
        self._report = report

    def run(self) -> Captured:
        """Record until it is stopped or the plan's time is over.

        Everything that was set up is taken down whatever happens. Raises `CannotRecordError`, and
        `CannotWriteError` when the disk is full; the files so far stay in the plan's folder.
        """
        ledger = Ledger(self._machine)
        with ledger.recording(self._plan.folder) as entry, ExitStack() as stack:
            probes: list[Probe] = []
            if self._plan.tracefs is not None:
                stack.enter_context(ledger.unoptimized(entry))
                probes = stack.enter_context(self._defined(self._plan.tracefs, entry))
            self._record(probes, entry)
        self.captured.after = self._listed("after")
        return self.captured

    def _listed(self, when: str) -> Listed | None:
        if not self._plan.snapshots:
            return None
        remarks = self.captured.remarks
        return take_snapshot(self._machine, self._plan.folder, when, self._plan.domains, remarks)

    @contextmanager
    def _defined(self, tracefs: Tracefs, entry: Entry) -> Iterator[list[Probe]]:
        """Hold the instance and the probes that the kernel takes."""
        probes = []
        try:
            tracefs.make_instance(self._plan.buffer_kb)
            for probe in self._plan.probes:
                try:
                    tracefs.define(probe)
                    probes.append(probe)
                except OSError as error:
                    self.captured.refused.append(f"{probe.name}: {error.strerror or error}")
            yield probes
        finally:
            entry.left += tracefs.take_down()

    def _record(self, probes: list[Probe], entry: Entry) -> None:
        """Record: the probes outside, the list of the channels and then xentrace in their time."""
        plan, captured = self._plan, self.captured
        with ExitStack() as stack:
            text = running = None
            if plan.tracefs is not None:
                captured.text = plan.folder / TEXT
                captured.refused += plan.tracefs.switch_on(probes, plan.functions)
                text = stack.enter_context(copied(plan.tracefs, captured.text, plan.heading))
            captured.before = self._listed("before")
            if plan.tracefs is not None and plan.snapshots:
                self._mark(plan.tracefs)
            if plan.xentrace is not None:
                captured.xentrace = plan.folder / RAW
                running = stack.enter_context(
                    run_xentrace(plan.xentrace, captured.xentrace, plan.xentrace_pages)
                )
                entry.xentrace = running.pid
                entry.xentrace_started = self._machine.start_time(running.pid) or ""
                Ledger(self._machine).write(entry)
            meter = _Meter(plan)
            self._watch(text, running, meter)
        captured.status = meter.read()
        missed = plan.tracefs.missed() if plan.tracefs else 0
        if missed:
            captured.remarks.append(f"{missed} times a probe was passed while another was handled")

    def _mark(self, tracefs: Tracefs) -> None:
        """Say in the text that the channels are listed."""
        try:
            tracefs.mark(LISTED_MARK)
        except OSError as error:
            why = error.strerror or error
            remark = f"trace_marker: {why}: ports that changed while listed may show wrongly"
            self.captured.remarks.append(remark)

    def _watch(self, text: PipeCopy | None, running: Xentrace | None, meter: "_Meter") -> None:
        """Copy and report until it is time to stop."""
        reported = 0.0
        while not self._stop.is_set():
            if text is not None:
                text.copy()
            complaint = running.complaint() if running else None
            if complaint is not None:
                self.captured.remarks.append(f"xentrace ended by itself: {complaint}")
                _refuse_full_disk(self._plan.folder)
                running = None
                if text is None:
                    return
            if self._plan.seconds is not None and meter.seconds >= self._plan.seconds:
                self.captured.is_complete = True
                return
            if meter.seconds - reported >= _REPORT_S:
                reported = meter.seconds
                self._report(meter.read())
            self._stop.wait(_WAIT_S)
        self.captured.is_complete = self._plan.seconds is None


class _Meter:
    """Reads how the recording is doing."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._start = self._last = time.monotonic()
        self._events = 0
        self._ring = plan.tracefs.buffer_bytes() if plan.tracefs else 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def read(self) -> Status:
        now = time.monotonic()
        cpus = self._plan.tracefs.stats() if self._plan.tracefs else []
        events = sum(cpu.events for cpu in cpus)
        rate = (events - self._events) / max(now - self._last, 1e-9)
        self._last, self._events = now, events
        fullest = max((cpu.waiting_bytes for cpu in cpus), default=0)
        raw = self._plan.folder / RAW
        return Status(
            now - self._start,
            events,
            rate,
            sum(cpu.lost for cpu in cpus),
            fullest / self._ring if self._ring else 0,
            raw.stat().st_size if raw.exists() else 0,
        )


def _refuse_full_disk(folder: Path) -> None:
    """Raise `CannotWriteError` if there is no room left for xentrace."""
    room = os.statvfs(folder)
    if room.f_bavail * room.f_frsize < _ROOM_BYTES:
        message = f"{folder}: cannot write: {os.strerror(errno.ENOSPC)}"
        raise CannotWriteError(message)
