"""Preflight: what this machine lets a recorder see, found out before anything is set up."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from evtrace.errors import CannotRecordError, EvtraceError
from evtrace.tracer.host.code import Code
from evtrace.tracer.host.machine import Machine
from evtrace.tracer.host.probes import Probe, call_probes, function_probes, traced_functions
from evtrace.tracer.host.running import read_running
from evtrace.tracer.host.sites import Found, find_sites
from evtrace.tracer.host.tracefs import CLOCK, Tracefs, find_tracefs


class Answer(StrEnum):
    """Whether something that recording needs is there."""

    YES = "yes"
    PARTLY = "partly"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    what: str
    answer: Answer
    found: str
    """What was found; if it is missing, what that costs or how to get it."""


@dataclass(slots=True)
class Preflight:
    """What was found, and what can be recorded with it."""

    machine: Machine
    buffer_kb: int
    checks: list[Check] = field(default_factory=list)
    tracefs: Tracefs | None = None
    """None if no probe can be set."""
    xentrace: Path | None = None
    """The program; None if it cannot be used."""
    snapshots: bool = False
    code: Code | None = None
    found: Found | None = None
    probes: list[Probe] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)

    def says(self, what: str) -> Check:
        """Give a check by its name."""
        return next(check for check in self.checks if check.what == what)

    @property
    def obstacle(self) -> str | None:
        """Say why nothing can be recorded; None if something can."""
        for needed in ("root", "Xen"):
            check = self.says(needed)
            if check.answer is Answer.NO:
                return check.found
        if self.tracefs is None and self.xentrace is None:
            return "neither probes nor xentrace can be used: " + "; ".join(
                f"{check.what}: {check.found}" for check in self.checks if check.answer is Answer.NO
            )
        return None


def examine(machine: Machine, buffer_kb: int, *, guest: bool) -> Preflight:
    """Look at a machine, as dom0 or as another `guest`; change nothing."""
    seen = Preflight(machine, buffer_kb)
    seen.checks += [_root(machine), _xen(machine, guest=guest)]
    seen.checks += _probing(seen)
    seen.checks.append(_buffers(seen))
    if not guest:
        seen.checks += _tools(seen)
    return seen


def _root(machine: Machine) -> Check:
    if machine.is_root:
        return Check("root", Answer.YES, "")
    return Check("root", Answer.NO, "recording on a real host takes root: run it with sudo")


def _xen(machine: Machine, *, guest: bool) -> Check:
    if not machine.is_xen:
        found = (
            "this machine does not run on Xen (/sys/hypervisor/type does not say so): "
            "record in dom0 of a Xen host, or leave --host out to use the emulator"
        )
        return Check("Xen", Answer.NO, found)
    version = machine.xen_version
    name = f"Xen {version[0]}.{version[1]}" if version else "Xen, of unknown version"
    if guest or machine.is_dom0:
        return Check("Xen", Answer.YES, f"{name}, {'dom0' if machine.is_dom0 else 'a guest'}")
    found = (
        f"{name}, but this is not dom0 (or xenfs is not mounted on /proc/xen): "
        "record a guest with --guest"
    )
    return Check("Xen", Answer.NO, found)


# --- probes --------------------------------------------------------------------------------------


def _probing(seen: Preflight) -> Iterator[Check]:
    machine = seen.machine
    place = find_tracefs(machine.root)
    if place is None:
        found = "not mounted or not readable: mount -t tracefs nodev /sys/kernel/tracing; no probes"
        yield Check("tracefs", Answer.NO, found)
        return
    yield Check("tracefs", Answer.YES, str(place))
    obstacles = list(_obstacles(machine, place))
    yield from obstacles
    if obstacles:
        return
    yield Check("kprobes", Answer.YES, f"clock {CLOCK}")
    try:
        seen.code = read_running(machine.root)
        seen.found = find_sites(seen.code)
    except EvtraceError as error:
        yield Check("call sites", Answer.NO, f"{error}; no calls, their arguments and results")
    else:
        yield _sites(seen, seen.code, seen.found)
    if seen.code is not None:
        seen.probes += function_probes(seen.code)
        yield _functions(seen, place, seen.code)
    if seen.probes:
        seen.tracefs = Tracefs(place)


def _obstacles(machine: Machine, place: Path) -> Iterator[Check]:
    """Say what keeps probes from being set."""
    if machine.architecture != "x86_64":
        found = f"{machine.architecture}: calls are found in x86-64 code only; no probes"
        yield Check("architecture", Answer.NO, found)
    if "[confidentiality]" in machine.text("sys/kernel/security/lockdown"):
        yield Check("lockdown", Answer.NO, "the kernel is locked down (confidentiality); no probes")
    if not os.access(place / "kprobe_events", os.W_OK):
        found = "no kprobe_events to write to: it takes root and CONFIG_KPROBE_EVENTS; no probes"
        yield Check("kprobes", Answer.NO, found)
    elif CLOCK not in machine.text(str((place / "trace_clock").relative_to(machine.root))):
        yield Check("kprobes", Answer.NO, f"no clock {CLOCK}, by which all is joined; no probes")


def _sites(seen: Preflight, code: Code, found: Found) -> Check:
    seen.probes += call_probes(found.sites, code.origin)
    inside = sum(not site.function.module for site in found.sites)
    modules = sorted({site.function.module for site in found.sites} - {""})
    text = f"{inside} in the kernel, {len(found.sites) - inside} in modules"
    if modules:
        text += f" ({', '.join(modules)})"
    blind = [site.name for site in found.sites if site.before is None]
    if blind:
        text += f"; of {', '.join(blind)} only the return is seen"
    if found.not_understood:
        text += f"; not understood, so not seen: {', '.join(found.not_understood)}"
    if not found.sites:
        return Check("call sites", Answer.NO, "none found; no calls, their arguments and results")
    partly = blind or found.not_understood
    return Check("call sites", Answer.PARTLY if partly else Answer.YES, text)


def _functions(seen: Preflight, place: Path, code: Code) -> Check:
    probes = [probe.name for probe in seen.probes if not probe.is_call]
    tracers = (place / "available_tracers").read_text("utf-8").split()
    if "function" in tracers:
        seen.functions = traced_functions(code)
        found = f"{len(probes)} probes, {len(seen.functions)} functions followed"
        return Check("functions", Answer.YES, found)
    found = f"{len(probes)} probes; no function tracer: no upcalls, masks and clears"
    return Check("functions", Answer.PARTLY, found)


def _buffers(seen: Preflight) -> Check:
    cpus = len(list((seen.machine.root / "sys/devices/system/cpu").glob("cpu[0-9]*"))) or 1
    needed = cpus * seen.buffer_kb
    available = 0
    for line in seen.machine.text("proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1])
    found = f"{needed // 1024} MiB ({seen.buffer_kb} KiB for each of {cpus} CPUs)"
    if available and needed > available // 2:
        found += f" of the {available // 1024} MiB that are free: choose a smaller --buffer"
        return Check("buffers", Answer.PARTLY, found)
    return Check("buffers", Answer.YES, found)


# --- Xen's tools ------------------------------------------------------------------------------


def _tools(seen: Preflight) -> Iterator[Check]:
    for name, costs in (
        ("xentrace", "no scheduling, no wakes, no hypercalls of other domains"),
        ("lsevtchn", "channels that exist already are known by what they do only"),
        ("xl", "no list of domains, no pending and mask bits at the start"),
    ):
        path = seen.machine.program(name)
        if path is None:
            yield Check(name, Answer.NO, f"not installed; {costs}")
        else:
            yield Check(name, Answer.YES, str(path))
            seen.snapshots |= name != "xentrace"
            seen.xentrace = path if name == "xentrace" else seen.xentrace
    if not (seen.machine.root / "dev/xen/privcmd").exists():
        seen.xentrace, seen.snapshots = None, False
        yield Check("/dev/xen/privcmd", Answer.NO, "missing: Xen's tools cannot reach Xen")


def refuse(seen: Preflight) -> None:
    """Raise `CannotRecordError` if nothing can be recorded."""
    if seen.obstacle is not None:
        raise CannotRecordError(seen.obstacle)
