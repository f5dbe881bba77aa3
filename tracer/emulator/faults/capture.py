"""Faults of the capture: the machine runs as ever, what is recorded of it is spoilt."""

from pathlib import Path
from struct import unpack_from
from typing import TYPE_CHECKING, Final

from evtrace.tracefile.clocks import LOST_RECORDS
from evtrace.tracefile.family import FACTS_STREAM
from evtrace.tracefile.records import CYCLES, encode
from evtrace.tracer.emulator.scheduler import IDLE_DOMAIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from evtrace.tracer.emulator.lab import Lab
    from evtrace.tracer.emulator.recorder import Tape

SPOILT_PCPU: Final = 1
"""The pCPU whose TSC is off."""
SKEW_NS: Final = 30_000
DRIFT_PPM: Final = 5_000

DROP_EVERY: Final = 150
DROPPED: Final = 12
"""Of so many records of a pCPU so many are dropped."""

RING_BYTES: Final = 4_096
READER_NS: Final = 1_000_000
"""Each pCPU's trace buffer, and how often it is emptied."""


class _Gap:
    """Records of one pCPU that were dropped since the last one that was kept."""

    __slots__ = ("count", "first_tsc", "last_tsc")

    def __init__(self) -> None:
        self.count = 0
        self.first_tsc = 0
        self.last_tsc = 0

    def drop(self, tsc: int | None) -> None:
        self.last_tsc = tsc or self.last_tsc
        if not self.count:
            self.first_tsc = self.last_tsc
        self.count += 1


class _Leak:
    """A tape that drops records of pCPUs and says so as Xen does (insert_lost_records)."""

    def __init__(self, lab: "Lab", tape: "Tape", at: float) -> None:
        self._lab = lab
        self._tape = tape
        self._at = at
        self._gaps: dict[int, _Gap] = {}

    def append(self, stream: int, record: bytes) -> None:
        """Pass a record on, or drop it."""
        if stream >= FACTS_STREAM:
            self._close_gaps(_tsc_of(record) or 0)
            self._tape.append(stream, record)
            return
        gap = self._gaps.setdefault(stream, _Gap())
        tsc = _tsc_of(record)
        keeps = self.keeps(stream, len(record)) or not self._lab.has_reached(self._at)
        if not keeps or (gap.count and tsc is None):
            gap.drop(tsc)
            return
        if gap.count and tsc is not None:
            self._tape.append(stream, self._lost(stream, gap, tsc))
            gap.count = 0
        gap.last_tsc = tsc or gap.last_tsc
        self._tape.append(stream, record)

    def _close_gaps(self, tsc: int) -> None:
        """Tell of gaps that may be the last of their pCPU: what is covered must not say more."""
        for stream, gap in self._gaps.items():
            if gap.count:
                self._tape.append(stream, self._lost(stream, gap, tsc))
                gap.count = 0

    def keeps(self, stream: int, size: int) -> bool:
        """Tell whether there is room for a record of `size` bytes."""
        raise NotImplementedError

    def _lost(self, stream: int, gap: _Gap, tsc: int) -> bytes:
        running = self._lab.scheduler.pcpus[stream].current
        dom, vcpu = (running.dom, running.number) if running else (IDLE_DOMAIN, stream)
        first = gap.first_tsc
        words = [gap.count, dom | vcpu << 16, first & 0xFFFFFFFF, first >> 32]
        return encode(LOST_RECORDS, words, tsc)


class _Dropping(_Leak):
    """Drops some records out of every so many."""

    def __init__(self, lab: "Lab", tape: "Tape", at: float) -> None:
        super().__init__(lab, tape, at)
        self._seen: dict[int, int] = {}

    def keeps(self, stream: int, size: int) -> bool:
        """Tell whether it is not this record's turn."""
        del size
        seen = self._seen[stream] = self._seen.get(stream, 0) + 1
        return seen % DROP_EVERY < DROP_EVERY - DROPPED


class _Ring(_Leak):
    """A buffer for each pCPU, emptied now and then."""

    def __init__(self, lab: "Lab", tape: "Tape", at: float) -> None:
        super().__init__(lab, tape, at)
        self._period = lab.settings.timing.cycles(READER_NS)
        self._used: dict[int, tuple[int, int]] = {}  # stream -> (period, bytes in it)

    def keeps(self, stream: int, size: int) -> bool:
        """Tell whether the buffer has room."""
        now = self._lab.engine.now // self._period
        period, used = self._used.get(stream, (now, 0))
        used = used if period == now else 0
        room = used + size <= RING_BYTES
        self._used[stream] = now, used + size * room
        return room


def _tsc_of(record: bytes) -> int | None:
    """Read the TSC of an encoded record."""
    (header,) = unpack_from("<I", record)
    return int(unpack_from("<Q", record, 4)[0]) if header & CYCLES else None


def lost_records(lab: "Lab", at: float) -> None:
    """Drop a few records of each pCPU every now and then."""
    lab.spoil = lambda tape: _Dropping(lab, tape, at)


def ring_overflow(lab: "Lab", at: float) -> None:
    """Let trace buffers of a few kilobytes overflow between two visits of their reader."""
    lab.spoil = lambda tape: _Ring(lab, tape, at)


def tsc_skew(lab: "Lab", at: float) -> None:
    """Let one pCPU's TSC be ahead of the others'."""
    cycles = lab.settings.timing.cycles(SKEW_NS)
    _set_clock(lab, at, lambda _: cycles)


def tsc_drift(lab: "Lab", at: float) -> None:
    """Let one pCPU's TSC run faster than the others'."""
    _set_clock(lab, at, lambda elapsed: elapsed * DRIFT_PPM // 1_000_000)


def _set_clock(lab: "Lab", at: float, ahead: "Callable[[int], int]") -> None:
    """Show `ahead(cycles since the fault began)` more on one pCPU."""

    def clock(stream: int, stamp: int) -> int:
        if stream != SPOILT_PCPU or not lab.has_reached(at):
            return stamp
        return stamp + ahead(stamp - lab.cycles_at(at))

    lab.recorder.clock = clock


def cut_file(lab: "Lab", at: float) -> None:
    """Cut the file where it stood at `at`, in the midst of a word; by default behind 3/4 of it."""

    def cut(path: Path) -> None:
        size = path.stat().st_size
        passed = lab.engine.now - (lab.recording_since or 0)
        share = min(1.0, lab.settings.timing.cycles(at * 1e9) / max(1, passed)) if at else 0.75
        with path.open("r+b") as file:
            file.truncate(max(0, int(size * share) // 4 * 4 - 2))

    lab.spoil_file = cut


FIRST_DOMU: Final = 1


def missing_source(lab: "Lab", at: float) -> None:
    """Capture nothing inside the domain with the highest number, or the first domU to come."""

    def act() -> None:
        lab.uncaptured.add(max(lab.kernels, default=FIRST_DOMU))

    del at  # a source is there from the start, or not at all
    lab.when_recording(0.0, act)
