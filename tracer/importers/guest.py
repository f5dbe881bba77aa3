"""Guest events: what a domain's kernel did, read off its ftrace text.

Function lines of the event-channel code carry no port. The port is that of the dispatch they stand
in, of the handler that follows them, or of the next line of their task that names one.
"""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evtrace.timeline import Kind, RecordClass
from evtrace.tracer.importers.calls import CallPairs, ProbedCall, is_entry, is_return, number
from evtrace.tracer.importers.ftrace import FtraceText, Line
from evtrace.tracer.importers.irqs import IrqMap
from evtrace.xen.abi import EvtchnOp

if TYPE_CHECKING:
    from collections.abc import Callable

UPCALL_DEPTH = {
    "__xen_pv_evtchn_do_upcall": 0,
    "xen_pv_evtchn_do_upcall": 0,
    "__xen_evtchn_do_upcall": 0,
    "xen_hvm_evtchn_do_upcall": 0,
    "xen_evtchn_do_upcall": 1,
    "evtchn_2l_handle_events": 2,
    "evtchn_fifo_handle_events": 2,
}
"""Functions of one upcall, outermost first; the tracer drops some of each."""

_SCAN = 2
_MEMORY = re.compile(r"evtchn_(2l|fifo)_(mask|unmask|clear_pending|set_pending)$")
_MEMORY_KINDS = {
    "mask": Kind.MASK,
    "unmask": Kind.UNMASK,
    "clear_pending": Kind.CLEAR,
    "set_pending": Kind.SET,
}
_TIMER = re.compile(r"timer(\d+)$")
_PORT_CALLS = frozenset({EvtchnOp.CLOSE, EvtchnOp.BIND_VCPU, EvtchnOp.UNMASK})
EOI_FUNCTIONS = ("xen_irq_lateeoi",)


@dataclass(slots=True)
class GuestEvent:
    """One event of a domain, in its own TSC."""

    tsc: int
    vcpu: int
    kind: Kind
    port: int | None = None
    irq: int | None = None
    words: tuple[int, ...] = ()
    """Words that are neither port nor irq."""
    call: ProbedCall | None = None


@dataclass(slots=True)
class GuestTrace:
    """Everything one domain's text tells."""

    text: FtraceText
    events: list[GuestEvent] = field(default_factory=list)
    calls: CallPairs = field(default_factory=CallPairs)
    irqs: IrqMap = field(default_factory=IrqMap)
    classes: RecordClass = field(default_factory=lambda: RecordClass(0))
    fifo: bool | None = None
    """The form whose functions were seen."""
    other_irqs: int = 0
    """Handler entries of irqs that are no event channels."""

    @property
    def vcpus(self) -> int:
        """Number of vCPUs that the text shows."""
        return max((line.cpu for line in self.text.lines), default=-1) + 1


@dataclass(slots=True)
class _Cpu:
    """What a vCPU is in the midst of."""

    depth: int = -1
    """How deep in the functions of an upcall; -1: in none."""
    dispatched: int | None = None
    """Port that handle_irq_for_port was given and whose handler has not started."""
    cleared: list[GuestEvent] = field(default_factory=list)
    """Clearings that wait for the handler that tells their port."""
    running: list[int] = field(default_factory=list)
    """irqs whose handlers run."""


def read_guest(text: FtraceText, timer_ports: dict[int, int]) -> GuestTrace:
    """Translate a text; `timer_ports` gives the port of each vCPU's timer, where a snapshot did."""
    return _Translation(text, timer_ports).run()


class _Translation:
    def __init__(self, text: FtraceText, timer_ports: dict[int, int]) -> None:
        self._trace = GuestTrace(text)
        self._timer_ports = timer_ports
        self._cpus: dict[int, _Cpu] = {}
        self._portless: dict[str, list[GuestEvent]] = {}  # task -> masks that wait for a port
        self._binding: dict[str, list[int]] = {}  # task -> ports being bound
        self._unbinding: dict[str, int] = {}  # task -> irq being unbound
        self._steps: dict[str, Callable[[Line, _Cpu], None]] = {
            "handle_irq_for_port": self._dispatch,
            "irq_handler_entry": self._handler_entry,
            "irq_handler_exit": self._handler_exit,
            "unbind_from_irqhandler": self._unbind,
            "unbind_from_irq": self._unbind,
            **dict.fromkeys(UPCALL_DEPTH, self._upcall),
            **dict.fromkeys(EOI_FUNCTIONS, self._eoi),
        }

    def run(self) -> GuestTrace:
        for line in self._trace.text.lines:
            cpu = self._cpus.setdefault(line.cpu, _Cpu())
            step = self._steps.get(line.name)
            if step is not None:
                step(line, cpu)
            elif is_entry(line) or is_return(line):
                self._probe(line)
            elif line.name.startswith("bind_"):
                self._bind(line)
            elif (memory := _MEMORY.match(line.name)) is not None:
                self._memory(line, cpu, memory)
        self._resolve()
        return self._trace

    def _add(self, line: Line, kind: Kind, **known: int | None) -> GuestEvent:
        event = GuestEvent(line.tsc, line.cpu, kind, **known)  # type: ignore[arg-type]  # port, irq
        self._trace.events.append(event)
        return event

    # --- upcalls and handlers ----------------------------------------------------------------

    def _upcall(self, line: Line, cpu: _Cpu) -> None:
        """Open an upcall, unless the line is a deeper function of the one that is open.

        A scan after a scan is the loop inside one upcall.
        """
        depth = UPCALL_DEPTH[line.name]
        self._note_form(line.name)
        if depth <= cpu.depth and not depth == cpu.depth == _SCAN:
            cpu.depth = -1
        if cpu.depth < 0:
            self._add(line, Kind.UPCALL_ENTER)
            self._trace.classes |= RecordClass.UPCALL
        cpu.depth = depth

    def _dispatch(self, line: Line, cpu: _Cpu) -> None:
        cpu.dispatched = number(line.values.get("port"))

    def _handler_entry(self, line: Line, cpu: _Cpu) -> None:
        irq = number(line.values.get("irq"))
        if irq is None:
            return
        trace, name = self._trace, line.values.get("name", "")
        trace.irqs.names[irq] = name
        trace.classes |= RecordClass.HANDLER
        if cpu.dispatched is not None:
            trace.irqs.see(irq, cpu.dispatched, line.tsc)
        timer = _TIMER.match(name)
        if timer is not None and int(timer[1]) in self._timer_ports:
            trace.irqs.see(irq, self._timer_ports[int(timer[1])], line.tsc)
        for event in cpu.cleared:
            event.irq = irq
        cpu.cleared.clear()
        cpu.dispatched = None
        cpu.running.append(irq)
        self._add(line, Kind.HANDLER_ENTER, irq=irq)

    def _handler_exit(self, line: Line, cpu: _Cpu) -> None:
        irq = number(line.values.get("irq"))
        if irq is None:
            return
        if irq in cpu.running:
            del cpu.running[cpu.running.index(irq) :]
        event = self._add(line, Kind.HANDLER_EXIT, irq=irq)
        event.words = (int(line.values.get("ret") == "handled"),)

    # --- shared memory -------------------------------------------------------------------------

    def _memory(self, line: Line, cpu: _Cpu, memory: re.Match[str]) -> None:
        self._note_form(line.name)
        self._trace.classes |= RecordClass.MEMORY
        event = self._add(line, _MEMORY_KINDS[memory[2]])
        event.port = number(line.values.get("port"))
        if event.port is not None:
            self._name_portless(line.task, event.port)
        elif event.kind == Kind.CLEAR:
            self._clear(event, cpu)
        elif "ack" in line.caller and cpu.dispatched is not None:
            event.port = cpu.dispatched
        elif line.task in self._unbinding:
            event.irq = self._unbinding[line.task]
        else:
            self._portless.setdefault(line.task, []).append(event)

    def _clear(self, event: GuestEvent, cpu: _Cpu) -> None:
        if cpu.dispatched is not None:
            event.port = cpu.dispatched
        elif cpu.running:
            event.irq = cpu.running[-1]
        else:
            cpu.cleared.append(event)

    def _name_portless(self, task: str, port: int) -> None:
        for event in self._portless.pop(task, []):
            event.port = port

    def _eoi(self, line: Line, cpu: _Cpu) -> None:
        del cpu
        event = self._add(line, Kind.EOI, irq=number(line.values.get("irq")))
        flags = number(line.values.get("eoi_flags", line.values.get("flags")))
        if flags is not None:
            event.words = (flags,)
            self._trace.classes |= RecordClass.EOI

    # --- calls and binding -----------------------------------------------------------------------

    def _probe(self, line: Line) -> None:
        self._trace.classes |= RecordClass.CALL
        if is_entry(line):
            call = self._trace.calls.enter(line)
            self._add(line, Kind.CALL_ENTER).call = call
            if call.op in _PORT_CALLS and call.port is not None:
                self._name_portless(line.task, call.port)
            return
        returned = self._trace.calls.leave(line)
        if returned is not None:
            self._add(line, Kind.CALL_EXIT).call = returned
            if returned.op == EvtchnOp.CLOSE and line.task in self._unbinding:
                self._trace.irqs.unbind(self._unbinding.pop(line.task), line.tsc)

    def _bind(self, line: Line) -> None:
        """Learn irq and port from the probes on a function that binds and on its return."""
        port, irq = number(line.values.get("port")), number(line.values.get("irq"))
        ports = self._binding.setdefault(line.task, [])
        if port is not None:
            ports.append(port)
        elif irq is not None and irq >= 0 and ports:
            bound = ports.pop()
            if self._trace.irqs.port(irq, line.tsc) not in {None, bound}:
                self._trace.irqs.unbind(irq, line.tsc - 1)  # its unbinding was not seen
            self._trace.irqs.see(irq, bound, line.tsc)
            self._add(line, Kind.IRQ_BOUND, irq=irq, port=bound)

    def _unbind(self, line: Line, cpu: _Cpu) -> None:
        del cpu
        irq = number(line.values.get("irq"))
        if irq is not None:
            self._unbinding[line.task] = irq
            self._add(line, Kind.IRQ_UNBOUND, irq=irq)

    def _note_form(self, name: str) -> None:
        if "_fifo_" in name:
            self._trace.fifo = True
        elif "_2l_" in name:
            self._trace.fifo = False

    def _resolve(self) -> None:
        """Give each event its port, now that the whole text has told the irqs."""
        trace = self._trace
        kept = []
        for event in trace.events:
            if event.port is None and event.irq is not None:
                event.port = trace.irqs.port(event.irq, event.tsc)
            if event.kind in {Kind.HANDLER_ENTER, Kind.HANDLER_EXIT} and event.port is None:
                trace.other_irqs += event.kind == Kind.HANDLER_ENTER
                continue
            kept.append(event)
        trace.events = kept
