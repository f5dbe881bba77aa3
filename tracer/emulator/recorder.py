"""The recorder: what of the machine's doings reaches the trace file, and with which TSC.

Records are written as they happen, so memory does not grow with the run. Stamps never repeat: the
order of the file is the order of the machine.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Final, Protocol

from evtrace.timeline import Kind, RecordClass
from evtrace.tracefile.family import FACTS_STREAM
from evtrace.tracefile.records import encode, encode_family

if TYPE_CHECKING:
    from evtrace.tracefile.writer import TraceWriter
    from evtrace.tracer.emulator.engine import Engine

STOCK_CLASSES: Final = RecordClass.HYPERCALL | RecordClass.SCHED | RecordClass.HVM | RecordClass.IRQ


@unique
class Capture(StrEnum):
    """How much is recorded: what xentrace shows (C1), kernel probes too (C4), every step (C5)."""

    STOCK = "stock"
    PROBES = "probes"
    FULL = "full"


_PROBES = RecordClass.CALL | RecordClass.UPCALL | RecordClass.HANDLER | RecordClass.EOI
CAPTURED: Final[dict[Capture, RecordClass]] = {
    Capture.STOCK: RecordClass(0),
    Capture.PROBES: _PROBES,
    Capture.FULL: _PROBES | RecordClass.MEMORY | RecordClass.QUEUE | RecordClass.RAISE,
}
"""Classes of guest records that a capture holds, beside Xen's own."""

_CLASS_OF: Final[dict[Kind, RecordClass]] = {
    Kind.CALL_ENTER: RecordClass.CALL,
    Kind.CALL_EXIT: RecordClass.CALL,
    Kind.DOMAIN_CREATED: RecordClass.CALL,
    Kind.DOMAIN_DESTROYED: RecordClass.CALL,
    Kind.VIRQ_RAISED: RecordClass.RAISE,
    Kind.PIRQ_RAISED: RecordClass.RAISE,
    Kind.UPCALL_ENTER: RecordClass.UPCALL,
    Kind.UPCALL_EXIT: RecordClass.UPCALL,
    Kind.HANDLER_ENTER: RecordClass.HANDLER,
    Kind.HANDLER_EXIT: RecordClass.HANDLER,
    Kind.IRQ_BOUND: RecordClass.HANDLER,
    Kind.IRQ_UNBOUND: RecordClass.HANDLER,
    Kind.MASK: RecordClass.MEMORY,
    Kind.UNMASK: RecordClass.MEMORY,
    Kind.CLEAR: RecordClass.MEMORY,
    Kind.SET: RecordClass.MEMORY,
    Kind.CONSUME: RecordClass.QUEUE,
    Kind.EOI: RecordClass.EOI,
}


_OF_THE_TOOLSTACK = frozenset({Kind.DOMAIN_CREATED, Kind.DOMAIN_DESTROYED})


class Tape(Protocol):
    """Where records go: a trace file, or a fault of the capture in front of it."""

    def append(self, stream: int, record: bytes) -> None:
        """Take one or several whole records of a stream."""


class Recorder:
    """Stamps records and passes on those that the capture holds."""

    def __init__(self, engine: "Engine", capture: Capture) -> None:
        self.capture = capture
        self.clock: Callable[[int, int], int] = _exact
        """(stream, stamp) -> the TSC that this pCPU shows; a fault of the capture may change it."""
        self._engine = engine
        self._tape: Tape | None = None
        self._kinds = {kind for kind, cls in _CLASS_OF.items() if cls in CAPTURED[capture]}
        self._stamp = 0
        self.records = 0
        self.uncaptured: set[int] = set()
        """Domains inside which nothing is captured."""

    @property
    def running(self) -> bool:
        """Whether records are being kept."""
        return self._tape is not None

    def start(self, tape: "Tape | TraceWriter") -> None:
        """Keep records from now on."""
        self._tape = tape

    def stop(self) -> None:
        """Keep no more records."""
        self._tape = None

    def stamp(self, stream: int = FACTS_STREAM) -> int:
        """Give the TSC of what happens now on a pCPU: later than every one given before."""
        now, stamp = self._engine.now, self._stamp + 1
        self._stamp = stamp = max(stamp, now)
        return stamp if self.clock is _exact else self.clock(stream, stamp)

    def stock(self, pcpu: int, event: int, words: Sequence[int], *, timed: bool = True) -> int:
        """Write a record of Xen's own; gives its TSC."""
        tsc = self.stamp(pcpu)
        if self._tape is not None:
            self.records += 1
            self._tape.append(pcpu, encode(event, words, tsc if timed else None))
        return tsc

    def family(self, pcpu: int, kind: Kind, dom: int, vcpu: int, *words: int) -> int:
        """Write a record of evtrace's family, if it is captured; gives its TSC either way."""
        tsc = self.stamp(pcpu)
        if self._tape is not None and kind in self._kinds and self._sees(dom, kind):
            self.records += 1
            self._tape.append(pcpu, encode_family(kind, dom, vcpu, words, tsc))
        return tsc

    def _sees(self, dom: int, kind: Kind) -> bool:
        return dom not in self.uncaptured or kind in _OF_THE_TOOLSTACK

    def write_facts(self, records: bytes) -> None:
        """Write records of the facts stream as they are; xentrace knows none, and so no stock."""
        if self._tape is not None and self.capture is not Capture.STOCK:
            self._tape.append(FACTS_STREAM, records)


def _exact(_: int, stamp: int) -> int:
    return stamp
