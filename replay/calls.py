"""Calls: CALL_ENTER and CALL_EXIT paired, each with the hypercall record that narrows it.

A call takes effect at one instant of its interval. xentrace's own record of the hypercall, where
there is one, lies after the entry and before the effect, so the call is handed on at that record's
place in the order of the timeline. A call is handed on only when its exit and the exits of every
call that could have changed its answer are known; until then the rows behind it wait.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from evtrace.timeline import NO_CALL, Kind, Row
from evtrace.xen.abi import DOMID_SELF, EvtchnOp, HYPERVISOR_event_channel_op
from evtrace.xen.ops import OP_SPECS, Field

HELD_ROWS = 20_000
"""A call that has not returned after so many rows is taken as never returning."""

CHANGES_PORTS = frozenset(
    {
        EvtchnOp.BIND_INTERDOMAIN,
        EvtchnOp.BIND_VIRQ,
        EvtchnOp.BIND_PIRQ,
        EvtchnOp.CLOSE,
        EvtchnOp.ALLOC_UNBOUND,
        EvtchnOp.BIND_IPI,
        EvtchnOp.RESET,
        EvtchnOp.RESET_CONT,
        EvtchnOp.INIT_CONTROL,
        EvtchnOp.EXPAND_ARRAY,
    },
)
"""Operations that can change what an overlapping call answers."""


@dataclass(slots=True, eq=False)
class Call:
    """One EVTCHNOP_* call: its entry, its exit and its hypercall record, where these were seen."""

    enter: Row
    record: Row | None = None
    exit: Row | None = None
    done: bool = False
    """The model has executed it already, out of turn."""
    op: int = field(init=False)
    args: tuple[int, ...] | None = field(init=False)
    """Arguments in the order of `inputs(op)`; None when a probe did not see all of them."""

    def __post_init__(self) -> None:
        """Decode the operation and its arguments."""
        self.op = self.enter.op or 0
        self.args = _joined(inputs(self.op), self.enter.words)

    @property
    def dom(self) -> int:
        """The calling domain."""
        return self.enter.dom or 0

    @property
    def vcpu(self) -> int:
        """The vCPU on which the call was entered."""
        return self.enter.vcpu or 0

    @property
    def lo(self) -> int:
        """Earliest host TSC at which the call can have taken effect."""
        return (self.record or self.enter).tsc_lo

    @property
    def hi(self) -> int:
        """Latest host TSC at which the call can have taken effect; `lo` if it never returned."""
        return self.exit.tsc_hi if self.exit else (self.record or self.enter).tsc_hi

    @property
    def rc(self) -> int | None:
        """What it returned."""
        return self.exit.rc if self.exit else None

    @property
    def outputs(self) -> tuple[int, ...]:
        """Outputs in the order of `ops.output_names`; ends early where a probe saw no more."""
        return self.exit.words if self.exit else ()

    def touches(self) -> set[int]:
        """Give the domains whose port tables the call reads or writes."""
        doms = {self.dom}
        for argument, value in zip(inputs(self.op), self.args or (), strict=False):
            if argument.name in {"dom", "remote_dom"} and value != DOMID_SELF:
                doms.add(value)
        return doms


def conflict(one: Call, other: Call) -> bool:
    """Tell whether the order of two overlapping calls can show in their answers."""
    changes = one.op in CHANGES_PORTS or other.op in CHANGES_PORTS
    return changes and bool(one.touches() & other.touches())


@dataclass(slots=True)
class _Slot:
    """A place in the order of the timeline; empty once its call moved to its record's place."""

    item: Row | Call | None


class CallPairing:
    """Turns rows into rows and `Call`s, in the order in which they can have taken effect.

    CALL_ENTER and CALL_EXIT rows become calls; a HYPERCALL row that belongs to one goes into it.
    Any other stays a row: a CALL_EXIT whose entry was not seen, too.
    """

    def __init__(
        self, rows: Iterable[Row], held_rows: int = HELD_ROWS, *, ends_at_gaps: bool = False
    ) -> None:
        """Pair the calls of `rows`, which are in timeline order.

        `ends_at_gaps`: where records of a pCPU were dropped, the ends of its calls may be among
        them.
        """
        self._ends_at_gaps = ends_at_gaps
        self._rows = rows
        self._held_rows = held_rows
        self._held: deque[_Slot] = deque()
        self._slots: dict[int, _Slot] = {}  # id(open call) -> its slot
        self._open: dict[int, Call] = {}  # id(call) -> call, in order of entry
        self._loose: list[tuple[Row, _Slot]] = []  # records that no open call of their vCPU took
        self._held_changes = 0

    def __iter__(self) -> Iterator[Row | Call]:
        """Yield rows and calls."""
        for row in self._rows:
            self._take(row)
            if len(self._held) > self._held_rows:
                self._give_up_oldest()
            yield from self._drain()
        self._open.clear()
        self._slots.clear()
        yield from self._drain()

    def rivals(self, call: Call) -> list[Call]:
        """Give the calls behind `call` that overlap it and whose order with it can show."""
        if not self._held_changes:
            return []
        found = []
        for slot in self._held:
            item = slot.item
            if isinstance(item, Call):
                if item.lo > call.hi:
                    break
                if not item.done and item is not call and conflict(call, item):
                    found.append(item)
            elif item is not None and item.tsc_lo > call.hi:
                break
        return found

    def _take(self, row: Row) -> None:
        match row.kind:
            case Kind.CALL_ENTER:
                call = Call(row)
                slot = _Slot(call)
                self._held.append(slot)
                self._slots[id(call)] = slot
                self._open[id(call)] = call
                self._held_changes += call.op in CHANGES_PORTS
            case Kind.CALL_EXIT:
                self._close(row)
            case Kind.HYPERCALL if row.op == HYPERVISOR_event_channel_op or row.op is None:
                self._take_record(row)
            case Kind.LOST if self._ends_at_gaps:
                self._give_up(row.pcpu)
                self._held.append(_Slot(row))
            case _:
                self._held.append(_Slot(row))

    def _give_up(self, pcpu: int | None) -> None:
        """Wait no longer for the calls of a pCPU: what ends or places them may be lost."""
        for call in [call for call in self._open.values() if call.enter.pcpu == pcpu]:
            del self._open[id(call)]
            del self._slots[id(call)]

    def _take_record(self, row: Row) -> None:
        call = self._caller(row)
        slot = _Slot(row if call is None else call)
        self._held.append(slot)
        if call is None:
            self._loose.append((row, slot))
        else:
            self._move(call, row, slot)

    def _move(self, call: Call, record: Row, slot: _Slot) -> None:
        """Let `call` take effect at its hypercall record's place."""
        call.record = record
        self._slots[id(call)].item = None
        self._slots[id(call)] = slot
        slot.item = call

    def _caller(self, record: Row) -> Call | None:
        """Give the innermost open call of the record's vCPU that has no record yet.

        Where no scheduler record told the vCPU, the record goes to the only call it can belong to.
        """
        waiting = [call for call in reversed(self._open.values()) if call.record is None]
        if record.dom is None:
            return waiting[0] if len(waiting) == 1 else None
        for call in waiting:
            if call.dom == record.dom and call.vcpu == record.vcpu:
                return call
        return None

    def _close(self, row: Row) -> None:
        call = self._match(row)
        if call is None:
            self._held.append(_Slot(row))  # its entry was not seen: nothing tells its arguments
            return
        call.exit = row
        if call.record is None and call.vcpu != row.vcpu:
            self._claim_after_migration(call, row)
        del self._open[id(call)]
        del self._slots[id(call)]
        if not self._open:
            self._loose.clear()

    def _match(self, row: Row) -> Call | None:
        for call in reversed(self._open.values()):
            if call.dom != row.dom or call.op != row.op:
                continue
            if row.call_id == call.enter.call_id and row.call_id != NO_CALL:
                return call
            if row.call_id == call.enter.call_id == NO_CALL and row.vcpu == call.vcpu:
                return call
        return None

    def _claim_after_migration(self, call: Call, row: Row) -> None:
        """Find the record of a call whose task moved to another vCPU before the hypercall."""
        for place, (record, slot) in enumerate(self._loose):
            after = record.tsc_lo >= call.enter.tsc_lo
            if after and record.dom == row.dom and record.vcpu == row.vcpu:
                self._move(call, record, slot)
                del self._loose[place]
                return

    def _give_up_oldest(self) -> None:
        oldest = next(iter(self._open), None)
        if oldest is not None:
            del self._open[oldest]
            del self._slots[oldest]

    def _drain(self) -> Iterator[Row | Call]:
        while self._held:
            item = self._held[0].item
            if isinstance(item, Call) and self._must_wait(item):
                return
            self._held.popleft()
            if item is not None:
                yield item
                if isinstance(item, Call):
                    self._held_changes -= item.op in CHANGES_PORTS

    def _must_wait(self, call: Call) -> bool:
        if id(call) in self._open:
            return True
        return any(conflict(call, other) for other in self._open.values() if other.lo <= call.hi)


def inputs(op: int) -> tuple[Field, ...]:
    """Give the arguments of an operation; none for one that Xen does not know."""
    return _INPUTS.get(op, ())


_INPUTS: dict[int, tuple[Field, ...]] = {spec.op: spec.inputs for spec in OP_SPECS.values()}


def _joined(fields: tuple[Field, ...], words: tuple[int, ...]) -> tuple[int, ...] | None:
    """Join 32-bit words to the fields' values; None if one is not all there."""
    values: list[int] = []
    place = 0
    for member in fields:
        count = 2 if member.width == 8 else 1
        part = words[place : place + count]
        if len(part) < count:
            return None
        value = sum(word << 32 * i for i, word in enumerate(part))
        values.append(value & (1 << 8 * member.width) - 1)
        place += count
    return tuple(values)
