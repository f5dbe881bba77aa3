"""One run of the emulator into a trace file: facts, snapshot, the run, coverage, truth."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from typing import IO, TYPE_CHECKING, Final

from evtrace.errors import CannotWriteError, UsageError
from evtrace.tracefile.channels import encode_channels
from evtrace.tracefile.family import (
    ALL_DOMAINS,
    ALL_VCPUS,
    FAMILY_VERSION,
    FactKey,
    GuestHabits,
    GuestType,
    HzSource,
    SnapshotSource,
    TextPurpose,
)
from evtrace.tracefile.records import encode_coverage, encode_fact, encode_text
from evtrace.tracefile.writer import TraceWriter
from evtrace.tracer.emulator.recorder import CAPTURED, STOCK_CLASSES
from evtrace.xen.abi import FormName

if TYPE_CHECKING:
    from evtrace.guest.profiles import GuestProfile
    from evtrace.tracer.emulator.lab import Lab

PROGRESS_EVERY: Final = 20_000
"""Actions of the engine between two reports of progress."""


class ScenarioError(UsageError):
    """A scenario, or a program of it, raised what it did not catch."""

    def __init__(self, error: Exception) -> None:
        """Name the place in the scenario's code and what was raised there."""
        frames = extract_tb(error.__traceback__)
        place = next((at for at in reversed(frames) if not _is_ours(at.filename)), frames[-1])
        what = f"{type(error).__name__}: {error}"
        super().__init__(f"{place.filename}:{place.lineno}: in {place.name}: {what}")


def _is_ours(filename: str) -> bool:
    """Tell whether code is the emulator's own, not a scenario's."""
    path = Path(filename)
    return path.parent.name != "scenarios" and "emulator" in path.parts[-3:-1]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a run came to."""

    records: int
    seconds: float
    """Time that passed on the machine."""
    interrupted: bool


class Session:
    """Runs a scenario on a lab and writes what is captured."""

    def __init__(
        self,
        lab: "Lab",
        writer: TraceWriter,
        source: str,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._lab = lab
        self._writer = writer
        self._source = source
        self._progress = progress
        self._forms: dict[int, FormName] = {}
        """Of the domains that there were when the recording began."""
        lab.on_record = self._begin

    def run(self, scenario: "Callable[[Lab], None]", limit: float | None = None) -> Recorded:
        """Set the scenario up, record it to its end or for `limit` seconds."""
        lab = self._lab
        try:
            self._play(scenario, limit)
        except (CannotWriteError, UsageError):
            raise
        except Exception as error:  # programs may be a user's: whatever they raise is told plainly
            raise ScenarioError(error) from error
        start = lab.recording_since or 0
        self._end(start)
        seconds = lab.settings.timing.seconds(lab.engine.now - start)
        return Recorded(lab.recorder.records, seconds, lab.engine.stopped)

    def _play(self, scenario: "Callable[[Lab], None]", limit: float | None) -> None:
        lab = self._lab
        scenario(lab)
        lab.record_from_here()
        start = lab.recording_since or 0
        if limit is not None:
            lab.engine.limit = start + lab.settings.timing.cycles(limit * 1_000_000_000)
        while lab.engine.run(PROGRESS_EVERY):
            self._progress()
        self._progress()

    def _begin(self) -> None:
        """Start the recorder; write the facts, and the channels there are."""
        lab = self._lab
        lab.recorder.start(lab.spoil(self._writer))
        self._fact(FactKey.FORMAT_VERSION, ALL_DOMAINS, FAMILY_VERSION)
        self._fact(FactKey.TSC_HZ, ALL_DOMAINS, lab.settings.timing.tsc_hz, HzSource.RECORDER)
        version = lab.settings.xen_version
        if version is not None:
            self._fact(FactKey.XEN_VERSION, ALL_DOMAINS, version[0] << 16 | version[1])
        self._fact(FactKey.TIMING, ALL_DOMAINS, lab.settings.timing.kind)
        self._text(TextPurpose.SOURCE, ALL_DOMAINS, self._source)
        for (dom, irq), name in lab.irq_names.items():
            self._text(TextPurpose.IRQ_NAME, dom, f"{irq} {name}")
        tsc = lab.recorder.stamp()
        for dom, kernel in lab.kernels.items():
            self._forms[dom] = kernel.domain.form.name
            source = SnapshotSource.EMULATOR
            lab.recorder.write_facts(encode_fact(FactKey.SNAPSHOT, dom, 0, source, tsc=tsc))
            for record in encode_channels(kernel.domain, tsc):
                lab.recorder.write_facts(record)

    def _end(self, start: int) -> None:
        """Write what is known only now: domains, coverage, the rest of the truth."""
        lab = self._lab
        end = lab.recorder.stamp()
        for dom, kernel in lab.kernels.items():
            domain = kernel.domain
            kind = GuestType.HVM if domain.is_hvm else GuestType.PV
            self._fact(FactKey.GUEST_TYPE, dom, kind)
            self._fact(FactKey.VCPUS, dom, len(domain.vcpus))
            self._fact(FactKey.GUEST_HABITS, dom, _habits(kernel.habits))
            form = self._forms.get(dom, domain.form.name)
            self._fact(FactKey.FORM, dom, int(form is FormName.FIFO))
            self._text(TextPurpose.DOMAIN_NAME, dom, lab.names[dom])
        self._cover(start, end)
        lab.hypervisor.truth.finish(lab.hypervisor.ports_at_end())
        lab.recorder.stop()

    def _cover(self, start: int, end: int) -> None:
        recorder = self._lab.recorder
        classes = CAPTURED[recorder.capture]
        if classes:
            for dom in (dom for dom in self._lab.names if dom not in self._lab.uncaptured):
                tsc = recorder.stamp()
                recorder.write_facts(encode_coverage(dom, ALL_VCPUS, classes, start, end, tsc=tsc))
        tsc = recorder.stamp()
        stock = encode_coverage(ALL_DOMAINS, ALL_VCPUS, STOCK_CLASSES, start, end, tsc=tsc)
        recorder.write_facts(stock)

    def _fact(self, key: FactKey, dom: int, value: int, value2: int = 0) -> None:
        recorder = self._lab.recorder
        recorder.write_facts(encode_fact(key, dom, value, value2, tsc=recorder.stamp()))

    def _text(self, purpose: TextPurpose, dom: int, text: str) -> None:
        recorder = self._lab.recorder
        recorder.write_facts(encode_text(purpose, text, dom=dom, tsc=recorder.stamp()))


def _habits(guest: "GuestProfile") -> GuestHabits:
    """Give what a replay has to know of a kernel."""
    masked = GuestHabits.MASKED_AT_START * guest.masked_at_start
    return GuestHabits(masked | GuestHabits.UNMASK_RECHECKS * guest.unmask_rechecks)


def record(
    lab: "Lab",
    scenario: "Callable[[Lab], None]",
    path: Path,
    *,
    source: str,
    truth: Path | None = None,
    limit: float | None = None,
    force: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> Recorded:
    """Run a scenario into the trace file `path`, and what is true of it into `truth`.

    `progress` is called every now and then. Setting `lab.engine.stopped` ends the run early; the
    trace is whole all the same.
    """
    with ExitStack() as stack:
        writer = stack.enter_context(TraceWriter(path, force=force))
        if truth is not None:
            lab.hypervisor.truth.start(stack.enter_context(_open(truth)), {"scenario": source})
        recorded = Session(lab, writer, source, progress).run(scenario, limit)
    lab.spoil_file(path)
    return recorded


def _open(path: Path) -> IO[str]:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        message = f"{path}: cannot write: {error.strerror}"
        raise CannotWriteError(message) from error
