"""The timeline: one schema, one row per record that matters for event channels.

Everything after the trace file reads this table: the replay folds over its rows, the analyses
over its frames. `Kind` is also the numbering of evtrace's own record family in the file
(docs/trace-format.md): a family record's event is `TRC_GUEST | 0xe00 | kind`.
"""

from enum import IntEnum, IntFlag, unique
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import polars as pl

HOST_CLOCK = -1
"""`clock` of rows that carry the host's TSC; otherwise it is the domain whose TSC it is."""

NO_CALL = 0
"""`call_id` of a call that is to be paired by nesting alone."""


@unique
class Kind(IntEnum):
    """What a row says. Below 0x10: read off a stock xentrace record; above: evtrace's family."""

    HYPERCALL = 0x01
    """A vCPU entered a hypercall (`op` is its number); no arguments, no result."""
    RUNSTATE = 0x02
    """`op` is old << 4 | new runstate; the row names the vCPU that changed."""
    WAKE = 0x03
    BLOCK = 0x04
    VMEXIT = 0x05
    VMENTRY = 0x06
    INJECT = 0x07
    """Xen injects vector `a0` into the guest at the next entry."""
    IRQ_HANDLED = 0x08
    """Xen handled the physical interrupt `irq`."""
    LOST = 0x09
    """`a0` records of this pCPU were dropped between `tsc_lo` and `tsc_hi`."""

    CALL_ENTER = 0x10
    """EVTCHNOP `op` starts; a0.. are its arguments."""
    CALL_EXIT = 0x11
    """EVTCHNOP `op` ends with `rc`; a0.. are its outputs."""
    DOMAIN_CREATED = 0x12
    DOMAIN_DESTROYED = 0x13
    VIRQ_RAISED = 0x14
    PIRQ_RAISED = 0x15
    UPCALL_ENTER = 0x18
    UPCALL_EXIT = 0x19
    HANDLER_ENTER = 0x1A
    HANDLER_EXIT = 0x1B
    IRQ_BOUND = 0x1C
    """The guest ties `irq` to `port`."""
    IRQ_UNBOUND = 0x1D
    MASK = 0x20
    UNMASK = 0x21
    CLEAR = 0x22
    SET = 0x23
    CONSUME = 0x24
    """FIFO: the guest takes `port` off its queue."""
    EOI = 0x28
    """The driver is done with `port`; a0 bit 0: it found no work (XEN_EOI_FLAG_SPURIOUS)."""
    CHANNEL = 0x30
    """One channel of a snapshot, as it stood at the row's time."""
    FACT = 0x31
    COVERAGE = 0x32
    TEXT = 0x33


@unique
class Runstate(IntEnum):
    """xen/include/public/vcpu.h, RUNSTATE_*."""

    RUNNING = 0
    RUNNABLE = 1
    BLOCKED = 2
    OFFLINE = 3


class RecordClass(IntFlag):
    """Classes of records a capture can hold for a domain; a verdict names those it needed."""

    HYPERCALL = 1
    """That a hypercall was made (stock xentrace)."""
    SCHED = 2
    """Runstates, wakes and blocks (stock xentrace)."""
    HVM = 4
    """VM exits, entries and injections (stock xentrace)."""
    IRQ = 8
    """Physical interrupts that Xen handled (stock xentrace)."""
    CALL = 16
    """EVTCHNOP_* with arguments and results."""
    UPCALL = 32
    HANDLER = 64
    MEMORY = 128
    """Mask, unmask, clear and set in the shared memory."""
    QUEUE = 256
    """FIFO: the guest's own unlinking of words."""
    EOI = 512
    """The driver's verdict on whether there was work."""
    RAISE = 1024
    """VIRQs and PIRQs at the moment Xen raises them."""


def class_names(classes: int) -> list[str]:
    """Name the classes in a set of them, e.g. `["call", "handler"]`."""
    return [cls.name.lower() for cls in RecordClass(classes) if cls.name]


class Row(NamedTuple):
    """One row of the timeline as the replay walks it; field order is `schema()`'s."""

    seq: int
    tsc_lo: int
    tsc_hi: int
    clock: int
    pcpu: int | None
    dom: int | None
    vcpu: int | None
    kind: int
    op: int | None
    call_id: int | None
    port: int | None
    irq: int | None
    rc: int | None
    a0: int | None
    a1: int | None
    a2: int | None
    a3: int | None
    a4: int | None
    a5: int | None
    file_offset: int

    @property
    def words(self) -> tuple[int, ...]:
        """The words a0.. that the record held; what is absent at the end was not observed."""
        return tuple(
            word
            for word in (self.a0, self.a1, self.a2, self.a3, self.a4, self.a5)
            if word is not None
        )


def schema() -> "pl.Schema":
    """Give the columns of the timeline.

    `seq` ranks (tsc, pcpu, offset in file) and is kept by every conversion. `tsc_lo` and `tsc_hi`
    are host TSC cycles and equal when the time is exact; a record without a TSC lies between its
    neighbours, one of a domain with its own clock within that clock's offset interval. `pcpu` is
    null where the stream is not that of a physical CPU. Null means: not observed, never 0.
    """
    import polars as pl  # noqa: PLC0415  polars costs 0.3 s and `evtrace --help` needs none

    return pl.Schema(
        {
            "seq": pl.UInt64,
            "tsc_lo": pl.Int64,
            "tsc_hi": pl.Int64,
            "clock": pl.Int32,
            "pcpu": pl.Int32,
            "dom": pl.UInt16,
            "vcpu": pl.UInt16,
            "kind": pl.UInt8,
            "op": pl.UInt32,
            "call_id": pl.UInt32,
            "port": pl.UInt32,
            "irq": pl.Int32,
            "rc": pl.Int32,
            "a0": pl.UInt32,
            "a1": pl.UInt32,
            "a2": pl.UInt32,
            "a3": pl.UInt32,
            "a4": pl.UInt32,
            "a5": pl.UInt32,
            "file_offset": pl.UInt64,
        },
    )
