"""By which check each fault of the emulator is caught, in each stored trace that it changes.

`python -m tests.emulator.caught` prints the table of docs/faults.md.
"""

import shlex
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evtrace.analysis.checks.judgement import Judged
from evtrace.analysis.checks.stored import Stored
from evtrace.commands.check import judge_stored
from evtrace.tracefile.reader import open_trace
from evtrace.tracer.emulator.catalogue import find_scenario, read_parameters
from evtrace.tracer.emulator.faults import FAULTS, Place, inject
from evtrace.tracer.emulator.lab import Lab, Settings
from evtrace.tracer.emulator.session import record
from evtrace.tracer.emulator.timing import find_timing
from evtrace.verdicts import Blame, FindingCode
from evtrace.xen.abi import FormName
from tests.stored_traces import TRACES, names, recorded, stored

LONGER = 1.5
"""A faulty run may take so many times as long; some faults keep a guest busy for ever."""

CAPTURE_CHECKS = {
    *("damage", "lost records"),
    *(f"finding.{code.name}" for code in FindingCode if code.blame is Blame.CAPTURE),
}


def is_of_capture(check: str) -> bool:
    """Tell whether a check is about the capture."""
    return check in CAPTURE_CHECKS or check.startswith("level of ")


def healthy() -> list[str]:
    """Name the stored traces of the emulator that have no fault and hold everything."""
    commands = {name: recorded(name) for name in names() if name.startswith("emu-")}
    return [
        name for name, text in commands.items() if "--fault" not in text and "stock" not in text
    ]


@dataclass(frozen=True)
class Caught:
    """A stored trace recorded anew with a fault, and what its check came to."""

    fault: str
    trace: str
    judged: Judged

    @property
    def failed(self) -> list[str]:
        return [check.name for check in self.judged.failed]

    @property
    def telling(self) -> str:
        """The check that tells most: a finding, a divergence, a count, a time; the capture last."""

        def rank(name: str) -> int:
            if is_of_capture(name):
                return 9
            if name.startswith("finding."):
                return 0
            order = ("divergences", "fate.LOST", "cause.UNPROVOKED", "cause.", "fate.", "spurious.")
            return next(
                (place for place, start in enumerate(order, 1) if name.startswith(start)), 7
            )

        return min(self.failed, key=rank, default="")


class Again:
    """Records a stored trace again, with a fault."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._path = folder / f"{name}.bin"
        self._healthy = stored(name)
        self._options = _options(name)
        shutil.copy(TRACES / f"{name}.toml", folder)
        self._path.write_bytes(self._healthy)
        with open_trace(self._path) as reader:
            lo, hi = reader.survey.extent or (0, 0)
            self._limit = LONGER * (hi - lo) / (reader.facts.tsc_hz or 1)

    def with_fault(self, fault: str) -> Caught | None:
        """Give what the check comes to; None if the fault changed nothing."""
        options = self._options
        lab = Lab(
            Settings(
                form=FormName(options.get("--form", "fifo")),
                pvh=options.get("--kind") == "pvh",
                timing=find_timing(options.get("--timing", "pinned-x86")),
            )
        )
        inject(lab, [fault])
        scenario = options.get("--scenario", "demo")
        play = find_scenario(str(TRACES / scenario) if ".py:" in scenario else scenario)
        settings = [options["--set"]] if "--set" in options else []
        values = read_parameters(play, settings)
        source = " ".join(["--scenario", Path(scenario).name, *settings])
        played = lambda lab: play(lab, **values)  # noqa: E731
        record(lab, played, self._path, source=source, limit=self._limit, force=True)
        if self._path.read_bytes() == self._healthy:
            return None
        return Caught(fault, self.name, judge_stored(Stored(str(self._path)), []))


def _options(name: str) -> dict[str, str]:
    """Give the options of the command that made a stored trace."""
    words = shlex.split(recorded(name))[2:]
    return dict(zip(words[::2], words[1::2], strict=True))


def caught(*places: Place) -> Iterator[Caught]:
    """Put each fault of some places into each healthy stored trace."""
    faults = [name for name, fault in FAULTS.items() if fault.place in places]
    with tempfile.TemporaryDirectory() as folder:
        for name in healthy():
            again = Again(name, Path(folder))
            yield from (found for fault in faults if (found := again.with_fault(fault)))


def table(found: list[Caught]) -> list[str]:
    """Give the rows of the table: fault, check, traces."""
    rows = defaultdict(list)
    for one in found:
        rows[one.fault, one.telling].append(one.trace.removeprefix("emu-"))
    order = list(FAULTS)
    return [
        f"| `{fault}` | `{check}` | {', '.join(traces)} |"
        for (fault, check), traces in sorted(
            rows.items(), key=lambda row: (order.index(row[0][0]), -len(row[1]), row[0][1])
        )
    ]


if __name__ == "__main__":
    asked = [Place(name) for name in sys.argv[1:]] or [Place.HYPERVISOR, Place.GUEST]
    print("\n".join(table(list(caught(*asked)))))
