"""The hypercalls of a trace, in order, as two traces can compare them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from evtrace.replay.calls import Call, CallPairing, inputs
from evtrace.replay.comparison import describe_answer
from evtrace.replay.snapshots import SeenDomain, SnapshotCollector
from evtrace.timeline import Kind, Row
from evtrace.xen.abi import DOMID_SELF, EvtchnOp

_ADDRESSES: Final = frozenset({"control_gfn", "offset", "array_gfn"})
"""Arguments that say where in memory something lies: no two boots need agree on them."""


@dataclass(frozen=True, slots=True)
class Made:
    """One call: who asked for what, and what was answered."""

    seq: int
    tsc: int
    dom: int
    vcpu: int
    op: int
    args: tuple[tuple[str, int], ...] | None
    """By name, without addresses; DOMID_SELF is the caller's number. None: not all were seen."""
    rc: int | None
    out: tuple[int, ...]

    @property
    def answer(self) -> str:
        """What was answered, in words: an error, what was returned, or that all is well."""
        if self.rc == 0 and self.out:
            return " ".join(map(str, self.out))
        return describe_answer(self.op, self.rc, self.out)

    def given(self, name: str) -> int | None:
        """Give an argument by its name."""
        return dict(self.args or ()).get(name)


@dataclass(frozen=True, slots=True)
class Told:
    """What the rows of a trace tell beside its runs and sends."""

    calls: list[Made]
    """Those whose entry was seen, in the order in which they took effect."""
    snapshots: list[SeenDomain]


def read_rows(rows: Iterable[Row]) -> Told:
    """Take calls and snapshots from the rows of a trace, in one pass."""
    collector = SnapshotCollector()
    calls = [
        _made(item) for item in CallPairing(_watched(rows, collector)) if isinstance(item, Call)
    ]
    return Told(calls, [seen for together in collector.finished() for seen in together])


def _watched(rows: Iterable[Row], collector: SnapshotCollector) -> Iterator[Row]:
    for row in rows:
        if row.kind in {Kind.CHANNEL, Kind.FACT}:
            collector.take(row)
        else:
            yield row


def _made(call: Call) -> Made:
    where = call.enter.seq, call.enter.tsc_lo, call.dom, call.vcpu, call.op
    return Made(*where, _named(call), call.rc, call.outputs)


def _named(call: Call) -> tuple[tuple[str, int], ...] | None:
    if call.args is None:
        return None
    names = (field.name for field in inputs(call.op))
    return tuple(
        (name, call.dom if "dom" in name and value == DOMID_SELF else value)
        for name, value in zip(names, call.args, strict=False)
        if name not in _ADDRESSES
    )


def op_name(op: int) -> str:
    """Name an operation as Xen's header does, in small letters."""
    try:
        return EvtchnOp(op).name.lower()
    except ValueError:
        return f"op {op}"
