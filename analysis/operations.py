"""Operations left of a minimised trace: a line each, to be read and to be pasted in a mail."""

from collections.abc import Iterable, Iterator

from evtrace.analysis.interleaving.steps import call_text, result_text, virq_name
from evtrace.replay.minimise.units import Sort, Unit
from evtrace.replay.results import Results
from evtrace.timeline import Kind, Row
from evtrace.tracefile.family import ChannelBits
from evtrace.xen.abi import PortState


def channel_lines(units: Iterable[Unit]) -> Iterator[str]:
    """Say how the ports stand that the operations are about and do not open."""
    kept = list(units)
    used = {channel for unit in kept if unit.sort.is_operation for channel in unit.channels}
    rows = [row for unit in kept if unit.sort is Sort.STATE for row in unit.rows]
    rows = [row for row in rows if row.kind == Kind.CHANNEL]
    shown = [row for row in rows if (row.dom or 0, row.port or 0) in used]
    if shown:
        yield "Open before:"
        yield from map(_channel, shown)
        yield ""


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
    return f"  d{row.dom}:{row.port} v{row.vcpu} {state.name.lower()}{to}{said}"


def operation_lines(units: Iterable[Unit], whole: Results, kept: int) -> Iterator[str]:
    """Say what is done, in order, with the verdicts; `kept` is the `seq` of what is shown."""
    verdicts = {run.seq: str(run.cause) for run in whole.runs}
    verdicts |= {send.seq: str(send.fate) for send in whole.sends}
    lines = [(unit, _told(unit)) for unit in units]
    width = max((len(text) for _, text in lines), default=0)
    yield f"{'TSC':>15} {'vCPU':<6} operation"
    for unit, text in lines:
        said = [verdicts[row.seq] for row in unit.rows if row.seq in verdicts]
        said += ["<-- kept"] if any(row.seq == kept for row in unit.rows) else []
        where = f"d{unit.dom}v{unit.vcpu}"
        line = f"{unit.rows[0].tsc_lo:>15} {where:<6} {text:<{width}}"
        yield f"{line}  {' '.join(said)}".rstrip()


def _told(unit: Unit) -> str:
    if unit.sort is Sort.UPCALL:
        return "upcall"
    told = [text for row in unit.rows if (text := _step(row))]
    indent = "  " if unit.sort is Sort.RUN else ""
    if unit.call is not None and unit.call.exit is not None:
        ended = unit.call.exit
        result = result_text(ended.op or 0, ended.rc, ended.words)
        told.append(result) if result else None
    return indent + _joined(told)


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
