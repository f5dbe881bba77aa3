"""Whether the scenario of a minimised trace shows the same on the emulator, with which fault."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evtrace.errors import UsageError
from evtrace.tracefile.partial import PartialFile

if TYPE_CHECKING:
    from evtrace.commands.minimising import Found
    from evtrace.replay.minimise.scenario import Scenario
    from evtrace.script import Script


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A scenario, and what became of it on the emulator."""

    path: Path
    steps: int
    is_shown: bool
    fault: str
    """With which fault alone it is shown; empty: with none."""

    def __str__(self) -> str:
        """Say it in a line."""
        shown = "the emulator shows it" if self.is_shown else "the emulator does not show it"
        only = f" with the fault {self.fault}, not without" if self.fault else ""
        return f"{self.path}: {self.steps} steps; {shown}{only}"


def reproduce(
    found: "Found", name: str, path: Path, folder: Path, *, force: bool
) -> Reproduction | None:
    """Write the scenario; find out if the emulator shows what `name` calls, on the same port.

    `folder` is for recordings. None, and nothing is written, if no guest does anything.
    """
    from evtrace.replay.minimise.scenario import make_scenario  # noqa: PLC0415

    trace = found.whole.trace
    about = f"{found.fact.sentence} ({found.of_trace})"
    made = make_scenario(found.minimal.units, trace.facts, found.fact, about)
    if made is None:
        return None
    fault = _find_fault(found, name, made, folder)
    script = made.with_fault(fault) if fault else made.script
    options = f"--scenario {path}" + (f" --xen {found.whole.xen}" if found.whole.xen else "")
    comments = [f"evtrace record {options}"]
    comments += (
        [f"and without the fault: evtrace record {options} --set faults=no"] if fault else []
    )
    target = PartialFile(path, force=force)
    with target, target.open() as file:
        file.write(script.toml(comments).encode())
    return Reproduction(path, len(script.steps), fault is not None, fault or "")


def _find_fault(found: "Found", name: str, made: "Scenario", folder: Path) -> str | None:
    """Give the fault with which the emulator shows the fact, "" for none; None: it does not."""
    from evtrace.replay.minimise.scenario import FAULTS  # noqa: PLC0415

    if _shows(found, name, made, made.script, folder):
        return ""
    faults = [
        fault for known in (name, *sorted(found.fact.names)) for fault in FAULTS.get(known, ())
    ]
    for fault in dict.fromkeys(faults):
        if _shows(found, name, made, made.with_fault(fault), folder):
            return fault
    return None


def _shows(found: "Found", name: str, made: "Scenario", script: "Script", folder: Path) -> bool:
    """Run a script on the emulator and look for the fact on the ports of the same names."""
    from evtrace.api import Trace  # noqa: PLC0415
    from evtrace.replay.minimise.showing import facts  # noqa: PLC0415
    from evtrace.tracer.emulator.lab import Lab, Settings  # noqa: PLC0415
    from evtrace.tracer.emulator.scripted import Play  # noqa: PLC0415
    from evtrace.tracer.emulator.session import record  # noqa: PLC0415
    from evtrace.xen.profiles import HEAD  # noqa: PLC0415

    profile = found.whole.trace.profile(found.whole.xen) if found.whole.xen else HEAD
    lab = Lab(Settings(xen=profile))
    play = Play(lab, script)
    path = folder / "played.bin"
    try:
        record(lab, lambda _: play.start(), path, source="--scenario", limit=1.0, force=True)
    except UsageError:
        return False
    fact = found.fact
    called = {one for channel in fact.channels for one in made.names.get(channel, ())}
    ports = {play.ports[one] for one in called if one in play.ports}
    doms = {dom for dom, _ in fact.channels}
    with Trace(path) as played:
        return any(
            other.kind == fact.kind
            and name in {*other.names, other.kind}
            and (bool(other.channels & ports) if ports else {d for d, _ in other.channels} == doms)
            for other in facts(played.replay(found.whole.xen))
        )
