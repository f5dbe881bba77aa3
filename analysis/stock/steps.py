"""Steps: what the machine walks, picked from the records of a batch column by column.

Most records of a capture are hypercalls, VM exits and the scheduler's own; of these only few say
something about who woke whom. What led to a wake-up is found here, too: the last record of its
pCPU that could have, unless another has shown since that the vCPU went on in the guest.
"""

from enum import IntEnum, unique
from typing import Final

import polars as pl

from evtrace.analysis.stock.names import VM_EXIT
from evtrace.timeline import HOST_CLOCK, Kind, Runstate

SUBCALL: Final = 0x0020200E
"""TRC_PV_HYPERCALL_SUBCALL: one entry of a multicall, written before it is executed."""

EVENT_CHANNEL_OPS: Final = (32, 16)
"""event_channel_op and its old form."""
_WAKING_OPS: Final = (*EVENT_CHANNEL_OPS, 33, 34, 36, 41)
"""Hypercalls that can wake another vCPU: physdev_op, hvm_op, domctl, dm_op."""
_VCPU_OP: Final = 24
_WAKING_VCPU_OPS: Final = (1, 11)
"""VCPUOP_up, VCPUOP_send_nmi."""

_PV_CLASS: Final = 0x00201000
_FROM_XEN_TOO: Final = (0x201009, 0x201109, 0x20100A, 0x20110A)
"""PV records that may be written in the middle of a hypercall: fix-ups of page faults."""

_PASSIVE_EXITS: Final = (0x01, 0x60, 0x07, 0x64, 0x0C, 0x78)
"""VM exits by which a vCPU wakes nobody: interrupt, interrupt window, HLT (Intel, AMD)."""


@unique
class Step(IntEnum):
    """What a step is; the other columns of a step depend on it."""

    ENTERED = 0
    """A vCPU's first record of PV code after it was scheduled in."""
    CALL = Kind.HYPERCALL
    """An event-channel hypercall."""
    RUNSTATE = Kind.RUNSTATE
    """`what` is old << 4 | new."""
    WAKE = Kind.WAKE
    """`what`: the means that led to it, null if none is visible, by `other` at `first`."""
    VMENTRY = Kind.VMENTRY
    """A vCPU's first VM entry after it was scheduled in."""
    INJECT = Kind.INJECT
    """Vector `what` is injected at that entry."""
    IRQ = Kind.IRQ_HANDLED
    """Xen is done with the host's interrupt `what`; `first`, `other`: its TSC at start and end."""
    LOST = Kind.LOST
    """`what` records were dropped from `first` on."""


StepRow = tuple[int, int, int | None, int, int | None, int | None, int | None]
"""`step`, `pcpu`, `vcpu` (packed; whom it is about), `tsc`, `what`, `first`, `other`."""

_KIND: Final = pl.col("kind")
_NOTHING: Final = -1


def proves_guest() -> pl.Expr:
    """Tell records of PV code: whatever hypercall came before has ended."""
    event = pl.col("event")
    return ((event & 0x0FFFF000) == _PV_CLASS) & ~event.is_in(_FROM_XEN_TOO)


def on_host() -> pl.Expr:
    """Tell records of a physical CPU, in the host's time."""
    return pl.col("pcpu").is_not_null() & (pl.col("clock") == HOST_CLOCK)


class Steps:
    """Picks the steps of each batch; holds what led where between batches."""

    def __init__(self) -> None:
        """Start where nothing led to anything."""
        self._led: dict[int, tuple[int, int]] = {}
        """pCPU -> means (`_NOTHING`: none) and TSC of what could lead to a wake-up."""

    def of(self, batch: pl.DataFrame) -> list[StepRow]:
        """Give the steps among annotated records (`tracefile.rows.annotated`), in their order."""
        seen = batch.filter(on_host()).with_columns(pv=proves_guest())
        kinds = [int(step) for step in Step if step] + [int(Kind.VMEXIT), int(Kind.BLOCK)]
        seen = seen.filter(_KIND.is_in(kinds) | pl.col("pv"))
        steps = self._led_to(seen).with_columns(step=_step()).filter(pl.col("step").is_not_null())
        return steps.select("step", "pcpu", "vcpu_word", _tsc(), _what(), _first(), _other()).rows()

    def _led_to(self, records: pl.DataFrame) -> pl.DataFrame:
        """Add `by` and `by_tsc`: what the last record that leads or ends says, up to each."""
        mark = pl.col("pv") | _KIND.is_in(
            [int(k) for k in (Kind.HYPERCALL, Kind.VMEXIT, Kind.VMENTRY, Kind.BLOCK, Kind.LOST)]
        )
        mark |= _switches()
        before = {pcpu: by for pcpu, (by, _) in self._led.items()}
        before_tsc = {pcpu: tsc for pcpu, (_, tsc) in self._led.items()}
        led = records.with_columns(
            by=pl.when(mark).then(_means().fill_null(_NOTHING)),
            by_tsc=pl.when(mark).then("tsc_lo"),
        ).with_columns(
            by=pl.col("by").forward_fill().over("pcpu").fill_null(_carried(before)),
            by_tsc=pl.col("by_tsc").forward_fill().over("pcpu").fill_null(_carried(before_tsc)),
        )
        ends = led.drop_nulls("by").group_by("pcpu").agg(pl.col("by", "by_tsc").last())
        self._led |= {pcpu: (by, tsc) for pcpu, by, tsc in ends.iter_rows()}
        return led


def _carried(values: dict[int, int]) -> pl.Expr:
    return pl.col("pcpu").replace_strict(values, default=None, return_dtype=pl.Int64)


def _switches() -> pl.Expr:
    running = int(Runstate.RUNNING)
    from_running = pl.col("op") // 16 == running
    return (_KIND == Kind.RUNSTATE) & (from_running | (pl.col("op") % 16 == running))


def _means() -> pl.Expr:
    """Give by what means a record can lead to a wake-up; null if it cannot."""
    op = pl.col("op").cast(pl.Int64)
    waking = op.is_in(_WAKING_OPS) | ((op == _VCPU_OP) & pl.col("a0").is_in(_WAKING_VCPU_OPS))
    reason = pl.col("a0").cast(pl.Int64)
    active = ~reason.is_in(_PASSIVE_EXITS)
    return (
        pl.when((_KIND == Kind.HYPERCALL) & waking)
        .then(op)
        .when((_KIND == Kind.VMEXIT) & active)
        .then(VM_EXIT + reason % VM_EXIT)
    )


def _step() -> pl.Expr:
    """Give the step that a record is; null if it is none."""
    stint = ["pcpu", _switches().cum_sum().over("pcpu").alias("stint")]
    entered = pl.col("pv") | (_KIND == Kind.VMENTRY)
    entries = entered.fill_null(value=False).cum_sum().over(stint)
    call = (_KIND == Kind.HYPERCALL) & pl.col("op").is_in(EVENT_CHANNEL_OPS)
    always = [int(k) for k in (Step.RUNSTATE, Step.WAKE, Step.IRQ, Step.LOST)]
    return (
        pl.when(call | _KIND.is_in(always))
        .then(_KIND.cast(pl.Int64))
        .when((_KIND == Kind.VMENTRY) & (entries == 1))
        .then(int(Step.VMENTRY))
        .when((_KIND == Kind.INJECT) & (entries == 0))
        .then(int(Step.INJECT))
        .when(pl.col("pv") & (entries == 1))
        .then(int(Step.ENTERED))
    )


def _tsc() -> pl.Expr:
    """Give the time of a step; a hypercall without a TSC has that of its VM exit."""
    return pl.when(_KIND == Kind.LOST).then("tsc_hi").otherwise("tsc_lo").alias("tsc")


def _what() -> pl.Expr:
    by = pl.when(pl.col("by") != _NOTHING).then("by")
    return (
        pl.when(_KIND.is_in([int(Kind.INJECT), int(Kind.LOST)]))
        .then(pl.col("a0").cast(pl.Int64))
        .when(_KIND == Kind.IRQ_HANDLED)
        .then(pl.col("irq").cast(pl.Int64))
        .when(_KIND == Kind.WAKE)
        .then(by)
        .otherwise(pl.col("op").cast(pl.Int64))
        .alias("what")
    )


def _first() -> pl.Expr:
    return (
        pl.when(_KIND == Kind.WAKE)
        .then("by_tsc")
        .when(_KIND == Kind.LOST)
        .then("tsc_lo")
        .otherwise(pl.col("a0").cast(pl.Int64))
        .alias("first")
    )


def _other() -> pl.Expr:
    running = pl.col("running").cast(pl.Int64)
    return (
        pl.when(_KIND == Kind.WAKE)
        .then(running)
        .otherwise(pl.col("a1").cast(pl.Int64))
        .alias("other")
    )
