"""Where a trace can be cut: what must not be parted, and when what was parted has ended.

A call that changes port tables stays whole, and so does the way from a bind, which sets the port
pending, to the port's first handler. Other calls and upcalls stay whole where that takes not much
more of the trace; else they are parted, and the slice claims to be complete only from their end on.
"""

from collections.abc import Iterable, Iterator
from enum import IntEnum

import polars as pl

from evtrace.timeline import Kind, Row
from evtrace.xen.abi import EvtchnOp

LONGEST = 20_000
"""Records; what takes more of them is cut all the same."""
REACH = 5_000
"""Records that a slice takes in more so that no call and no upcall is parted where it begins."""
UPCALL_ROWS = 500
"""An upcall has ended after so many rows; many a capture holds no UPCALL_EXIT."""

_KEEPS_TABLES = (EvtchnOp.SEND, EvtchnOp.UNMASK, EvtchnOp.STATUS, EvtchnOp.BIND_VCPU)
_CHANGES = {int(op) for op in EvtchnOp if op not in _KEEPS_TABLES}
_KINDS = (Kind.CALL_ENTER, Kind.CALL_EXIT, Kind.UPCALL_ENTER, Kind.UPCALL_EXIT)
_TAKEN = (Kind.CLEAR, Kind.HANDLER_ENTER)

Key = tuple[str | int | None, ...]


class Weight(IntEnum):
    """What is lost if a stretch of records is parted."""

    UPCALL = 0
    """Who is in a handler, and since when."""
    CALL = 1
    """Whether it took effect before the cut or after it."""
    TABLE = 2
    """A port table."""


def whole_rows() -> pl.Expr:
    """Select the rows of which `Wholes` is made."""
    return pl.col("kind").is_in([int(kind) for kind in (*_KINDS, *_TAKEN)])


class Wholes:
    """Stretches of records about the start and the end of a slice that no cut should part."""

    def __init__(self, rows: Iterable[Row], first: int, last: int) -> None:
        """Find them in `rows`, which are in timeline order, for a slice from `first` to `last`."""
        self._first, self._last = first, last
        self._open: dict[Key, list[Row]] = {}
        self._bound: dict[Key, int] = {}
        self._upcalls: dict[Key, int] = {}
        self._stretches: list[tuple[int, int, Weight]] = []
        for row in rows:
            self._take(row)

    def widened(self) -> tuple[int, int]:
        """Give the first and the last record of the slice that parts as little as can be."""
        last = self._last
        for start, end, weight in sorted(self._stretches):
            if weight is Weight.TABLE and start <= last < end:
                last = end
        firsts = [self._start(weight) for weight in Weight]
        return next((at for at in firsts if self._first - at <= REACH), firsts[-1]), last

    def _start(self, least: Weight) -> int:
        """Give the nearest record from which on nothing of a weight is parted."""
        first = self._first
        for start, end, weight in sorted(self._stretches, key=lambda stretch: -stretch[1]):
            if weight >= least and start < first <= end:
                first = start
        return first

    def _take(self, row: Row) -> None:
        match row.kind:
            case Kind.CALL_ENTER:
                self._open.setdefault(_call(row), []).append(row)
                if row.op == EvtchnOp.CLOSE:
                    self._bound.pop((row.dom, row.a0), None)
            case Kind.CALL_EXIT:
                entered = self._open.get(_call(row))
                if entered:
                    self._end(entered.pop(), row)
            case Kind.UPCALL_ENTER:
                self._upcalls[row.dom, row.vcpu] = row.seq
            case Kind.UPCALL_EXIT:
                self._add(self._upcalls.pop((row.dom, row.vcpu), None), row.seq, Weight.UPCALL)
            case _:
                self._add(self._bound.pop((row.dom, row.port), None), row.seq, Weight.TABLE)

    def _end(self, enter: Row, row: Row) -> None:
        self._add(enter.seq, row.seq, Weight.TABLE if row.op in _CHANGES else Weight.CALL)
        if row.op == EvtchnOp.BIND_INTERDOMAIN and row.rc == 0 and row.a0 is not None:
            self._bound[row.dom, row.a0] = enter.seq

    def _add(self, start: int | None, end: int, weight: Weight) -> None:
        """Note a stretch, if it is near the start of the slice or near its end."""
        if start is None or end - start > LONGEST:
            return
        before = start < self._first and end >= self._first - LONGEST
        after = end > self._last and start <= self._last + LONGEST
        if before or after:
            self._stretches.append((start, end, weight))


class Watch:
    """Passes rows on up to a `seq`, and keeps in mind what is under way."""

    def __init__(self, rows: Iterable[Row]) -> None:
        """Watch `rows`, which are in timeline order."""
        self._rows = iter(rows)
        self._next: Row | None = None
        self._open: dict[Key, int] = {}

    def until(self, first: int) -> Iterator[Row]:
        """Yield the rows before `first`."""
        for row in self._rows:
            if row.seq >= first:
                self._next = row
                return
            self._take(row)
            yield row

    def settle(self) -> int | None:
        """Give the time at which all that is under way has ended; None if nothing is."""
        left, settled = set(self._open), None
        row, number = self._next, 0
        while row is not None and left and number < LONGEST:
            if number == UPCALL_ROWS:
                left = {key for key in left if key[0] != "upcall"}
            again = left & _restarted(row)
            self._take(row)
            ended = again | (left - self._open.keys())
            if ended:
                left -= ended
                settled = row.tsc_hi
            row, number = next(self._rows, None), number + 1
        return settled

    def _take(self, row: Row) -> None:
        match row.kind:
            case Kind.CALL_ENTER:
                self._open["call", *_call(row)] = row.seq
                if row.op == EvtchnOp.CLOSE:
                    self._open.pop(("freed", row.dom, row.a0), None)
            case Kind.CALL_EXIT:
                self._open.pop(("call", *_call(row)), None)
            case Kind.IRQ_UNBOUND:
                self._open["freed", row.dom, row.port] = row.seq
            case Kind.IRQ_BOUND:
                self._open.pop(("freed", row.dom, row.port), None)
            case _:
                self._take_delivery(row)

    def _take_delivery(self, row: Row) -> None:
        vcpu = (row.dom, row.vcpu)
        match row.kind:
            case Kind.UPCALL_ENTER:
                self._open["upcall", *vcpu] = row.seq
            case Kind.UPCALL_EXIT:
                self._open.pop(("upcall", *vcpu), None)
                self._end_upcall(row)
            case Kind.CLEAR if ("upcall", *vcpu) in self._open:
                self._open["cleared", row.dom, row.port] = row.vcpu or 0
            case Kind.HANDLER_ENTER:
                self._open.pop(("cleared", row.dom, row.port), None)
                self._open["handler", *vcpu, row.irq] = row.seq
            case Kind.HANDLER_EXIT:
                self._open.pop(("handler", *vcpu, row.irq), None)

    def _end_upcall(self, row: Row) -> None:
        """Expect no handler any more of what the vCPU cleared."""
        for key in [key for key in self._open if key[:2] == ("cleared", row.dom)]:
            if self._open[key] == row.vcpu:
                del self._open[key]


def _restarted(row: Row) -> set[Key]:
    """Name what ends because it begins again."""
    return {("upcall", row.dom, row.vcpu)} if row.kind == Kind.UPCALL_ENTER else set()


def _call(row: Row) -> Key:
    """Tell calls apart: by their number, else by their vCPU."""
    return row.dom, row.op, row.call_id or None, None if row.call_id else row.vcpu
