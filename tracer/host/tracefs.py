"""tracefs: the kernel's tracing files, and an instance in it that is the recorder's own.

Probes belong to the whole kernel; that they are on, their filters, clock and buffer are the
instance's, so that no other user of tracing is disturbed.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from evtrace.errors import CannotRecordError
from evtrace.tracer.host.probes import GROUP, IRQ_EVENTS, Probe

CLOCK = "x86-tsc"
PLACES = ("sys/kernel/tracing", "sys/kernel/debug/tracing")


@dataclass(frozen=True, slots=True)
class CpuStats:
    """What the ring of one CPU tells of itself."""

    events: int = 0
    """Written so far."""
    lost: int = 0
    """Overwritten before they were read, or dropped."""
    waiting_bytes: int = 0


def find_tracefs(root: Path) -> Path | None:
    """Give where tracefs is mounted; None if nowhere."""
    places = (root / place for place in PLACES)
    return next((place for place in places if (place / "trace_clock").exists()), None)


class Tracefs:
    """The files under one mount of tracefs. What the kernel refuses raises OSError."""

    def __init__(self, root: Path) -> None:
        """Touch nothing yet."""
        self.root = root
        self.instance = root / "instances" / GROUP

    # --- probes, which are the kernel's -------------------------------------------------------

    def define(self, probe: Probe) -> None:
        """Define a probe, switched off."""
        _write(self.root / "kprobe_events", probe.definition, append=True)

    def defined(self) -> list[str]:
        """Give the names of the probes of our group."""
        try:
            lines = (self.root / "kprobe_events").read_text("utf-8").splitlines()
        except OSError:
            return []
        heads = (line.split(maxsplit=1)[0].partition(":")[2] for line in lines if line.strip())
        return [head.removeprefix(f"{GROUP}/") for head in heads if head.startswith(f"{GROUP}/")]

    def undefine(self) -> int:
        """Remove the probes of our group; give how many."""
        names = self.defined()
        for name in names:
            _write(self.root / "kprobe_events", f"-:{GROUP}/{name}", append=True)
        return len(names)

    # --- the instance --------------------------------------------------------------------------

    def make_instance(self, buffer_kb: int) -> None:
        """Make the instance, its clock the TSC, not recording. Raises `CannotRecordError`."""
        try:
            self.instance.mkdir(exist_ok=True)
            self.set("tracing_on", "0")
            self.set("trace_clock", CLOCK)
            self.set("buffer_size_kb", str(buffer_kb))
        except OSError as error:
            message = f"{self.instance}: cannot set up: {error.strerror or error}"
            raise CannotRecordError(message) from error

    def remove_instance(self) -> bool:
        """Switch everything in the instance off and remove it; tell whether it was there."""
        if not self.instance.exists():
            return False
        self.set("tracing_on", "0")
        if (self.instance / "events" / GROUP).exists():
            self.enable(GROUP, "0")
        self.set("current_tracer", "nop")
        self.instance.rmdir()
        return True

    def take_down(self) -> list[str]:
        """Remove instance and probes; give what the kernel refused."""
        refused = []
        for step in (self.remove_instance, self.undefine):
            try:
                step()
            except OSError as error:
                refused.append(f"{self.root}: {error.strerror or error}")
        return refused

    def set(self, name: str, value: str) -> None:
        """Write to a file of the instance."""
        _write(self.instance / name, value)

    def enable(self, event: str, value: str = "1") -> None:
        """Switch an event or a group of events on."""
        self.set(f"events/{event}/enable", value)

    def switch_on(self, probes: list[Probe], functions: list[str]) -> list[str]:
        """Let the instance take probes, functions and irq events; give what the kernel refused."""
        refused = []
        for probe in probes:
            try:
                if probe.filter:
                    self.set(f"events/{GROUP}/{probe.name}/filter", probe.filter)
                self.enable(f"{GROUP}/{probe.name}")
            except OSError as error:
                refused.append(f"{probe.name}: {error.strerror or error}")
        refused += self._follow_functions(functions)
        for event in IRQ_EVENTS:
            try:
                self.enable(event)
            except OSError as error:
                refused.append(f"{event}: {error.strerror or error}")
        return refused

    def _follow_functions(self, functions: list[str]) -> Iterator[str]:
        """Start the function tracer on the functions that it knows; of some it follows none."""
        known = 0
        for function in functions:
            with suppress(OSError):
                _write(self.instance / "set_ftrace_filter", function, append=True)
                known += 1
        if not known:  # without a filter it would follow every function of the kernel
            if functions:
                yield "the function tracer: none of the functions"
            return
        try:
            self.set("current_tracer", "function")
        except OSError as error:
            yield f"the function tracer: {error.strerror or error}"

    def mark(self, text: str) -> None:
        """Put a line of our own into the text."""
        self.set("trace_marker", text)

    def missed(self) -> int:
        """Give how often a probe of ours was passed while another was being handled."""
        try:
            lines = (self.root / "kprobe_profile").read_text("utf-8").splitlines()
        except OSError:
            return 0
        own, fields = set(self.defined()), [line.split() for line in lines]
        return sum(int(at[2]) for at in fields if len(at) == 3 and at[0] in own)

    # --- the ring --------------------------------------------------------------------------------

    def stats(self) -> list[CpuStats]:
        """Give what the ring of each CPU tells of itself."""
        files = sorted(self.instance.glob("per_cpu/cpu*/stats"))
        return [_stats(file.read_text("utf-8")) for file in files]

    def buffer_bytes(self) -> int:
        """Give the size of the ring of one CPU."""
        text = (self.instance / "buffer_size_kb").read_text("utf-8").split()
        return int(text[0]) * 1024 if text and text[0].isdecimal() else 0


def _stats(text: str) -> CpuStats:
    values: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        values[name.strip()] = int(value) if value.strip().isdecimal() else 0
    lost = values.get("overrun", 0) + values.get("dropped events", 0)
    lost += values.get("commit overrun", 0)
    events = values.get("entries", 0) + values.get("read events", 0) + values.get("overrun", 0)
    return CpuStats(events, lost, values.get("bytes", 0))


def _write(path: Path, text: str, *, append: bool = False) -> None:
    """Write a line. A file of tracefs that is opened to be emptied may forget what others set."""
    flags = os.O_WRONLY | (os.O_APPEND if append else os.O_TRUNC)
    file = os.open(path, flags)
    try:
        os.write(file, f"{text}\n".encode())
    finally:
        os.close(file)
