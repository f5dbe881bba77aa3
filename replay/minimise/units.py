"""Units: records that belong together, so that they stay or go together.

A call is its entry, its exit and its hypercall record; what a guest does with one port in an upcall
is one unit, from taking it off its queue to the unmask after its driver is done; a mask and the
unmask that undoes it are one. A channel of a snapshot is a unit that is no operation.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum, unique

from evtrace.replay.calls import Call
from evtrace.replay.tokens import Channel
from evtrace.timeline import NO_CALL, Kind, Row
from evtrace.tracefile.family import FactKey, TextPurpose
from evtrace.xen.abi import EvtchnOp, HYPERVISOR_event_channel_op

Vcpu = tuple[int, int]
"""(domain, vCPU)."""


@unique
class Sort(StrEnum):
    """What a unit is."""

    CALL = "call"
    UPCALL = "upcall"
    RUN = "run"
    """What a guest does with one port in an upcall; it may pass it over."""
    ACCESS = "access"
    """What a guest does to its memory elsewhere."""
    RAISE = "raise"
    DOMAIN = "domain"
    IRQ = "irq"
    """A guest ties an irq to a port, or frees it."""
    HYPERCALL = "hypercall"
    """Any other hypercall."""
    STATE = "state"
    """A snapshot, or a channel as it shows it: no operation."""

    @property
    def is_operation(self) -> bool:
        """Whether somebody does something."""
        return self is not Sort.STATE


@dataclass(slots=True, eq=False)
class Unit:
    """Records that stay or go together."""

    place: int
    sort: Sort
    dom: int
    vcpu: int
    rows: list[Row]
    upcall: "Unit | None" = None
    """The upcall that it is a part of."""
    call: Call | None = None
    channels: set[Channel] = field(default_factory=set)
    """Ports that it is about."""
    vcpus: set[Vcpu] = field(default_factory=set)
    """vCPUs that are to be told of it."""
    is_late: bool = False
    """Of a snapshot that is not the first one of its domain."""
    needs: set[int] = field(default_factory=set)
    """Places of the units without which it would be another thing, or none."""

    @property
    def first(self) -> int:
        """`seq` of its first record."""
        return self.rows[0].seq

    @property
    def last(self) -> int:
        """`seq` of its last record."""
        return max(row.seq for row in self.rows)


_ALWAYS = frozenset({Kind.LOST, Kind.FACT, Kind.COVERAGE, Kind.TEXT})

_SCHEDULER = frozenset({Kind.RUNSTATE, Kind.WAKE, Kind.BLOCK})
_RAISED = frozenset({Kind.VIRQ_RAISED, Kind.PIRQ_RAISED, Kind.IRQ_HANDLED})
_IN_RUN = frozenset({Kind.CONSUME, Kind.CLEAR, Kind.MASK, Kind.HANDLER_ENTER, Kind.HANDLER_EXIT})


class Grouping:
    """Parts the rows of a trace into units."""

    def __init__(self, rows: Iterable[Row]) -> None:
        """Take `rows`, which are in timeline order."""
        self.units: list[Unit] = []
        self.always: list[Row] = []
        """Rows that are never left out: without them more would be claimed than was captured."""
        self.scheduler: list[Row] = []
        """Rows of the scheduler, which are nobody's operation."""
        self._snapshots: dict[int, Unit] = {}
        self._calls: dict[Vcpu, list[Unit]] = {}
        self._upcalls: dict[Vcpu, Unit] = {}
        self._running: dict[Vcpu, list[Unit]] = {}
        self._handling: dict[Vcpu, Unit] = {}
        self._masker: dict[Channel, Unit] = {}
        self._unmasking: dict[tuple[Vcpu, int], Unit] = {}
        for row in rows:
            self._take(row)

    def _take(self, row: Row) -> None:
        kind, where = Kind(row.kind), (row.dom or 0, row.vcpu or 0)
        if kind is Kind.CHANNEL or (kind is Kind.FACT and row.a0 == FactKey.SNAPSHOT):
            self._snapshot(row)
        elif kind in _ALWAYS:
            if not _is_log(row):
                self.always.append(row)
        elif kind in _SCHEDULER:
            self.scheduler.append(row)
        elif kind is Kind.CALL_ENTER:
            self._enter_call(row, where)
        elif kind is Kind.CALL_EXIT:
            self._exit_call(row, where)
        elif kind is Kind.HYPERCALL:
            self._hypercall(row, where)
        elif kind is Kind.UPCALL_ENTER:
            self._handling.pop(where, None)
            self._running.pop(where, None)
            self._upcalls[where] = self._add(Sort.UPCALL, row)
        elif kind is Kind.UPCALL_EXIT:
            self._exit_upcall(row, where)
        else:
            self._step(kind, row, where)

    def _add(self, sort: Sort, row: Row) -> Unit:
        dom, vcpu = row.dom or 0, row.vcpu or 0
        unit = Unit(len(self.units), sort, dom, vcpu, [row], self._upcalls.get((dom, vcpu)))
        if sort is Sort.UPCALL:
            unit.upcall = None
        self.units.append(unit)
        return unit

    def _snapshot(self, row: Row) -> None:
        """Take what a snapshot shows; the first one of a domain makes the others superfluous."""
        unit = self._add(Sort.STATE, row)
        first = self._snapshots.setdefault(unit.dom, unit)
        unit.needs |= {first.place} - {unit.place}
        unit.is_late = row.tsc_lo != first.rows[0].tsc_lo
        if row.kind == Kind.CHANNEL:
            self._about(unit, row)

    # --- calls ---------------------------------------------------------------------------------

    def _enter_call(self, row: Row, where: Vcpu) -> None:
        unmasking = None
        if row.op == EvtchnOp.CLOSE:
            self._masker.pop((where[0], row.a0 or 0), None)  # its next owner masks for himself
        elif row.op == EvtchnOp.RESET:
            self._masker.clear()
        if row.op == EvtchnOp.UNMASK and row.a0 is not None:
            unmasking = self._unmasking.pop((where, row.a0), None)
        if unmasking is not None:
            unmasking.rows.append(row)
            unit = unmasking
        else:
            unit = self._add(Sort.CALL, row)
        unit.call = Call(row)
        self._calls.setdefault(where, []).append(unit)

    def _exit_call(self, row: Row, where: Vcpu) -> None:
        for waiting in [self._calls.get(where, []), *self._calls.values()]:
            for unit in reversed(waiting):
                if unit.call is not None and _is_end(unit.call.enter, row):
                    unit.call.exit = row
                    unit.rows.append(row)
                    waiting.remove(unit)
                    return
        self._add(Sort.CALL, row)

    def _hypercall(self, row: Row, where: Vcpu) -> None:
        if row.op is None or row.op == HYPERVISOR_event_channel_op:
            waiting = self._calls.get(where, [])
            for unit in reversed(waiting):
                if unit.call is not None and unit.call.record is None:
                    unit.call.record = row
                    if row.tsc_lo == row.tsc_hi:
                        unit.rows.append(row)  # what has no time of its own narrows nothing
                    return
        self._add(Sort.HYPERCALL, row)

    # --- upcalls and memory --------------------------------------------------------------------

    def _exit_upcall(self, row: Row, where: Vcpu) -> None:
        self._handling.pop(where, None)
        upcall = self._upcalls.pop(where, None)
        if upcall is None:
            self._add(Sort.UPCALL, row)
        else:
            upcall.rows.append(row)

    def _step(self, kind: Kind, row: Row, where: Vcpu) -> None:
        if kind in _RAISED:
            self._add(Sort.RAISE, row)
        elif kind in {Kind.DOMAIN_CREATED, Kind.DOMAIN_DESTROYED}:
            self._add(Sort.DOMAIN, row)
        elif kind in {Kind.IRQ_BOUND, Kind.IRQ_UNBOUND}:
            self._about(self._add(Sort.IRQ, row), row)
        else:
            self._about(self._unit_of(kind, row, where), row)

    @staticmethod
    def _about(unit: Unit, row: Row) -> None:
        if row.port is not None:
            unit.channels.add((row.dom or 0, row.port))

    def _unit_of(self, kind: Kind, row: Row, where: Vcpu) -> Unit:
        """Find the unit that a step of a guest belongs to, or begin one; takes it in."""
        channel = (where[0], row.port or 0)
        unit = self._known_unit(kind, row, where)
        if unit is None:
            is_run = kind is Kind.HANDLER_ENTER or (
                where in self._upcalls and kind in _IN_RUN and not self._running.get(where)
            )
            unit = self._add(Sort.RUN if is_run else Sort.ACCESS, row)
            if is_run:
                self._handling[where] = unit
        else:
            unit.rows.append(row)
        match kind:
            case Kind.MASK:
                self._masker[channel] = unit
            case Kind.UNMASK:
                self._masker.pop(channel, None)
                self._unmasking[where, channel[1]] = unit
            case Kind.HANDLER_ENTER:
                self._running.setdefault(where, []).append(unit)
            case Kind.HANDLER_EXIT:
                running = self._running.get(where, [])
                self._running[where] = [one for one in running if one is not unit]
        return unit

    def _known_unit(self, kind: Kind, row: Row, where: Vcpu) -> Unit | None:
        channel = (where[0], row.port or 0)
        running = self._running.get(where, [])
        if kind is Kind.HANDLER_EXIT:
            return next((unit for unit in reversed(running) if _has_irq(unit, row)), None)
        if kind in {Kind.UNMASK, Kind.EOI} and channel in self._masker:
            return self._masker[channel]
        inside = next((unit for unit in running if channel in unit.channels), None)
        if inside is not None and kind is not Kind.HANDLER_ENTER:
            return inside
        handling = self._handling.get(where)
        if handling is None or running:
            return None
        begins_anew = kind is Kind.CONSUME or (
            kind in {Kind.CLEAR, Kind.HANDLER_ENTER}
            and any(one.kind == kind for one in handling.rows)
        )
        same = channel in handling.channels or row.port is None
        return handling if same and not begins_anew else None


def _is_log(row: Row) -> bool:
    return row.kind == Kind.TEXT and (row.a0 or 0) & 0xFF == TextPurpose.LOG


def _has_irq(unit: Unit, row: Row) -> bool:
    return any(one.kind == Kind.HANDLER_ENTER and one.irq == row.irq for one in unit.rows)


def _is_end(enter: Row, row: Row) -> bool:
    if enter.dom != row.dom or enter.op != row.op or enter.call_id != row.call_id:
        return False
    return row.call_id != NO_CALL or enter.vcpu == row.vcpu
