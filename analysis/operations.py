"""Operations left of a minimised trace, in words."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from evtrace.analysis.interleaving.steps import call_text, result_text, virq_name
from evtrace.replay.minimise.units import Sort, Unit
from evtrace.replay.results import Results
from evtrace.timeline import Kind, Row
from evtrace.tracefile.family import ChannelBits
from evtrace.xen.abi import PortState


class Operation(NamedTuple):
    """One operation, in words, with the verdicts on it."""

    tsc: int
    dom: int
    vcpu: int
    text: str
    verdicts: tuple[str, ...]
    """Causes of runs and fates of sends."""
    is_kept: bool
    """It is what is to be shown, or has it."""
    is_inner: bool
    """It happens in the upcall above it."""


def open_before(units: Iterable[Unit]) -> list[str]:
    """Say how the ports stand that the operations are about and do not open."""
    kept = list(units)
    used = {channel for unit in kept if unit.sort.is_operation for channel in unit.channels}
    rows = [row for unit in kept if unit.sort is Sort.STATE for row in unit.rows]
    rows = [row for row in rows if row.kind == Kind.CHANNEL]
    return [_channel(row) for row in rows if (row.dom or 0, row.port or 0) in used]


def _channel(row: Row) -> str:
    bits = ChannelBits((row.a1 or 0) & ~0xFF)
    state, about = PortState((row.a1 or 0) & 0xFF), row.a2 or 0
    to = {
        PortState.INTERDOMAIN: f" to d{about}:{row.a3}",
        PortState.UNBOUND: f" for d{about}",
        PortState.VIRQ: f" {virq_name(about)}",
        PortState.PIRQ: f" {about}",
    }.get(state, "")
    said = ", pending" if ChannelBits.PENDING in bits else ""
    said += ", masked" if ChannelBits.MASKED in bits else ""
    return f"d{row.dom}:{row.port} v{row.vcpu} {state.name.lower()}{to}{said}"


def list_operations(units: Iterable[Unit], whole: Results, kept: int) -> list[Operation]:
    """Say what is done, in order; `kept` is the `seq` of what is shown."""
    verdicts = {run.seq: str(run.cause) for run in whole.runs}
    verdicts |= {send.seq: str(send.fate) for send in whole.sends}
    return [
        Operation(
            unit.rows[0].tsc_lo,
            unit.dom,
            unit.vcpu,
            _told(unit),
            tuple(verdicts[row.seq] for row in unit.rows if row.seq in verdicts),
            is_kept=any(row.seq == kept for row in unit.rows),
            is_inner=unit.sort is Sort.RUN,
        )
        for unit in units
    ]


def operation_lines(operations: Sequence[Operation]) -> Iterator[str]:
    """Give a line each, to be read and to be pasted in a mail."""
    texts = ["  " * one.is_inner + one.text for one in operations]
    width = max(map(len, texts), default=0)
    yield f"{'TSC':>15} {'vCPU':<6} operation"
    for one, text in zip(operations, texts, strict=True):
        said = [*one.verdicts, *(["<-- kept"] if one.is_kept else [])]
        where = f"d{one.dom}v{one.vcpu}"
        yield f"{one.tsc:>15} {where:<6} {text:<{width}}  {' '.join(said)}".rstrip()


def _told(unit: Unit) -> str:
    if unit.sort is Sort.UPCALL:
        return "upcall"
    told = [text for row in unit.rows if (text := _step(row))]
    if unit.call is not None and unit.call.exit is not None:
        ended = unit.call.exit
        result = result_text(ended.op or 0, ended.rc, ended.words)
        told.append(result) if result else None
    return _joined(told)


def _joined(told: list[str]) -> str:
    return ", ".join(told).replace(", = ", " = ")


def _step(row: Row) -> str:
    kind, number = Kind(row.kind), row.a0 or 0
    if kind is Kind.CALL_ENTER:
        return call_text(row.op or 0, row.words)
    if kind is Kind.VIRQ_RAISED:
        return f"Xen raises {virq_name(number)}"
    text = _TEXTS.get(kind, "").format(port=row.port, irq=row.irq, number=number)
    return text + (" (no work)" if _no_work(row) else "")


_TEXTS = {
    Kind.PIRQ_RAISED: "Xen raises PIRQ {number}",
    Kind.IRQ_HANDLED: "Xen handles irq {irq}",
    Kind.DOMAIN_CREATED: "is created",
    Kind.DOMAIN_DESTROYED: "is destroyed",
    Kind.HANDLER_ENTER: "handler of irq {irq}",
    Kind.IRQ_BOUND: "irq {irq} is port {port}",
    Kind.IRQ_UNBOUND: "irq {irq} is freed",
    Kind.MASK: "mask {port}",
    Kind.UNMASK: "unmask {port}",
    Kind.CLEAR: "clear {port}",
    Kind.SET: "set {port}",
    Kind.CONSUME: "unlink {port}",
    Kind.EOI: "eoi {port}",
}


def _no_work(row: Row) -> bool:
    return row.kind == Kind.EOI and bool((row.a0 or 0) & 1)
