"""Guest events: what a domain's kernel did, read off its ftrace text.

Function lines of the event-channel code carry no port. The port is that of the event being handled
on the vCPU, of the bind or unbind in progress, or of the next line of the task that names one.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from evtrace.timeline import Kind, RecordClass
from evtrace.tracer.importers.calls import (
    ProbedCall,
    is_entry,
    is_readable,
    is_return,
    number,
)
from evtrace.tracer.importers.dispatch import UPCALL_DEPTH, VcpuContext
from evtrace.tracer.importers.events import GuestEvent, GuestTrace
from evtrace.tracer.importers.ftrace import FtraceText, Line
from evtrace.tracer.importers.listing import cut
from evtrace.tracer.importers.tasks import TaskContext
from evtrace.tracer.importers.tasks import is_return as returns
from evtrace.xen.abi import EvtchnOp, Virq

if TYPE_CHECKING:
    from collections.abc import Callable

_MEMORY = re.compile(r"evtchn_(2l|fifo)_(mask|unmask|clear_pending|set_pending)$")
_MEMORY_KINDS = {
    "mask": Kind.MASK,
    "unmask": Kind.UNMASK,
    "clear_pending": Kind.CLEAR,
    "set_pending": Kind.SET,
}
_TIMER = re.compile(r"timer(\d+)$")
_HVM_ENTRY = re.compile(r"(?:__|asm_)?sysvec_xen_hvm_callback$|xen_hvm_callback_vector$")
_PV_ENTRY = re.compile(r"(?:__)?xen_pv_evtchn_do_upcall$|(?:exc|asm_exc)_xen_hypervisor_callback$")


def read_guest(text: FtraceText, timer_ports: Mapping[int, int]) -> GuestTrace:
    """Translate a text; `timer_ports` gives the port of each vCPU's timer, where a snapshot did."""
    return _Translation(text, timer_ports).run()


class _Translation:
    def __init__(self, text: FtraceText, timer_ports: Mapping[int, int]) -> None:
        self._trace = GuestTrace(text)
        self._timer_ports = dict(timer_ports)
        self._vcpus: dict[int, VcpuContext] = {}
        self._tasks: dict[tuple[str, bool], TaskContext] = {}
        self._memory_lines: dict[int, tuple[str, GuestEvent]] = {}  # vCPU -> if it was its last
        self._steps: dict[str, Callable[[Line], None]] = {
            "handle_irq_for_port": self._dispatch,
            "irq_handler_entry": self._handler_entry,
            "irq_handler_exit": self._handler_exit,
            "unbind_from_irqhandler": self._unbind,
            "unbind_from_irq": self._unbind,
            "xen_irq_lateeoi": self._eoi,
            **dict.fromkeys(UPCALL_DEPTH, self._upcall),
        }

    def run(self) -> GuestTrace:
        gaps: dict[int, list[int]] = {}
        for cpu, place in sorted(self._trace.text.gaps, reverse=True):
            gaps.setdefault(cpu, []).append(place)
        for line in self._trace.text.lines:
            lost = gaps.get(line.cpu)
            while lost and lost[-1] < line.number:
                lost.pop()
                self._trace.calls.doubt(line.cpu)
                self._vcpu(line.cpu).leave_irq()
            self._take(line)
        self._resolve()
        cut(self._trace)
        return self._trace

    def _take(self, line: Line) -> None:
        if line.in_irq is False:
            self._leave_irq(line)
        step = self._steps.get(line.name)
        memory = _MEMORY.match(line.name)
        if memory is not None:
            self._memory(line, memory)
        else:
            self._memory_lines.pop(line.cpu, None)
        if step is not None:
            step(line)
        elif is_entry(line) or is_return(line):
            self._probe(line)
        elif line.name.startswith("bind_") and not line.caller:
            self._bind(line)

    def _leave_irq(self, line: Line) -> None:
        """Note that no interrupt is handled; older kernels enter their upcalls in this state."""
        if line.name not in UPCALL_DEPTH:
            self._vcpu(line.cpu).leave_irq()

    def _vcpu(self, cpu: int) -> VcpuContext:
        return self._vcpus.setdefault(cpu, VcpuContext())

    def _task(self, line: Line) -> TaskContext:
        return self._tasks.setdefault(line.context, TaskContext(self._trace.irqs))

    def _add(self, line: Line, kind: Kind) -> GuestEvent:
        event = GuestEvent(line.tsc, line.cpu, kind)
        self._trace.events.append(event)
        return event

    def _number(self, line: Line, *names: str) -> int | None:
        """Give the value of the first field that is there; complain if it is no number."""
        text = next((line.values[name] for name in names if name in line.values), None)
        value = number(text)
        if text is not None and value is None:
            self._complain(line)
        return value

    def _complain(self, line: Line) -> None:
        values = " ".join(f"{name}={value}" for name, value in line.values.items())
        self._trace.text.complain(line.number, f"{line.name}: {values}")

    # --- upcalls and handlers ----------------------------------------------------------------

    def _upcall(self, line: Line) -> None:
        self._note_kernel(line)
        if self._vcpu(line.cpu).upcall(UPCALL_DEPTH[line.name]):
            self._add(line, Kind.UPCALL_ENTER)
            self._trace.classes |= RecordClass.UPCALL

    def _dispatch(self, line: Line) -> None:
        self._vcpu(line.cpu).start(self._number(line, "port"))

    def _handler_entry(self, line: Line) -> None:
        irq = self._number(line, "irq")
        if irq is None:
            return
        trace, name = self._trace, line.values.get("name", "")
        trace.irqs.names[irq] = name
        trace.classes |= RecordClass.HANDLER
        dispatch = self._vcpu(line.cpu).enter_handler(irq)
        if dispatch.port is not None:
            trace.irqs.see(irq, dispatch.port, line.tsc)
        timer = _TIMER.match(name)
        if timer is not None and int(timer[1]) in self._timer_ports:
            trace.irqs.see(irq, self._timer_ports[int(timer[1])], line.tsc)
        self._add(line, Kind.HANDLER_ENTER).irq = irq

    def _handler_exit(self, line: Line) -> None:
        irq = self._number(line, "irq")
        if irq is None:
            return
        self._vcpu(line.cpu).exit_handler(irq)
        event = self._add(line, Kind.HANDLER_EXIT)
        event.irq = irq
        result = line.values.get("ret", line.values.get("return"))
        event.words = (int(result == "handled"),) if result else ()

    def _eoi(self, line: Line) -> None:
        """Take the driver's verdict; a function line alone says neither of what nor which."""
        irq, flags = self._number(line, "irq"), self._number(line, "eoi_flags", "flags")
        if irq is None:
            return
        event = self._add(line, Kind.EOI)
        event.irq = irq
        if flags is not None:
            event.words = (flags,)
            self._trace.classes |= RecordClass.EOI

    # --- shared memory -------------------------------------------------------------------------

    def _memory(self, line: Line, memory: re.Match[str]) -> None:
        self._note_kernel(line)
        port = self._number(line, "port")
        name, last = self._memory_lines.get(line.cpu, ("", None))
        if last is not None and name == line.name and (last.port is None) != (port is None):
            del self._memory_lines[line.cpu]  # two tracers on one function
            if port is not None:
                last.port = port
                self._task(line).name(port=port)
            return
        self._trace.classes |= RecordClass.MEMORY
        event = self._add(line, _MEMORY_KINDS[memory[2]])
        event.port = port
        self._memory_lines[line.cpu] = (line.name, event)
        if port is not None:
            self._task(line).name(port=port)
        else:
            self._find_port(line, event)

    def _find_port(self, line: Line, event: GuestEvent) -> None:
        vcpu = self._vcpu(line.cpu)
        if event.kind is Kind.CLEAR and line.in_irq is not False:
            event.dispatch = vcpu.clear()
        elif event.kind is Kind.MASK and self._acknowledges(line, vcpu):
            event.dispatch = vcpu.acknowledge()
        else:
            self._task(line).access(event)

    @staticmethod
    def _acknowledges(line: Line, vcpu: VcpuContext) -> bool:
        """Tell whether a mask is part of handling an event."""
        dispatch = vcpu.dispatch
        if "ack" in line.caller:
            return line.in_irq is not False
        if line.in_irq is None and line.caller:
            return False
        handling = dispatch is not None and not dispatch.exited
        return handling and line.in_irq is not False

    # --- calls and binding -----------------------------------------------------------------------

    def _probe(self, line: Line) -> None:
        if not is_readable(line):
            self._complain(line)
            return
        self._trace.classes |= RecordClass.CALL
        if is_entry(line):
            self._call(line, self._trace.calls.enter(line))
        else:
            self._returned(line, self._trace.calls.leave(line))

    def _call(self, line: Line, call: ProbedCall) -> None:
        self._add(line, Kind.CALL_ENTER).call = call
        port = call.port_acted_on()
        if port is not None:
            self._task(line).name(port=port)
        elif line.in_irq is False:
            self._task(line).name()  # other business: no line will name their port

    def _returned(self, line: Line, call: ProbedCall) -> None:
        self._add(line, Kind.CALL_EXIT).call = call
        task, made = self._task(line), call.port_made()
        if made is not None:
            task.made(made)
            self._note_timer(call, made)
        if call.op == EvtchnOp.CLOSE:
            task.closed(line.tsc)

    def _note_timer(self, call: ProbedCall, port: int) -> None:
        """Learn the port of a vCPU's timer from the call that bound it."""
        match call.op, call.arguments():
            case EvtchnOp.BIND_VIRQ, (Virq.TIMER, vcpu):
                self._timer_ports[vcpu] = port

    def _bind(self, line: Line) -> None:
        """Learn irq and port from the probes on a function that binds and on its return."""
        task = self._task(line)
        if not returns(line.name):
            task.start_bind(line.name, line.tsc, self._number(line, "port", "evtchn"))
            return
        irq, bind = self._number(line, "irq"), task.end_bind(line.name)
        if bind is None or bind.port is None or irq is None or irq < 0:
            return
        self._trace.irqs.bind(irq, bind.port, bind.tsc)
        event = self._add(line, Kind.IRQ_BOUND)
        event.irq, event.port = irq, bind.port

    def _unbind(self, line: Line) -> None:
        irq = self._number(line, "irq")
        if irq is not None:
            self._task(line).start_unbind(irq, line.tsc)
            self._add(line, Kind.IRQ_UNBOUND).irq = irq

    def _note_kernel(self, line: Line) -> None:
        """Learn the form and the type of the domain from the names of its functions."""
        if "_fifo_" in line.name or "_2l_" in line.name:
            self._trace.fifo = "_fifo_" in line.name
        if _HVM_ENTRY.match(line.caller):
            self._trace.is_hvm = True
        elif _PV_ENTRY.match(line.caller) or _PV_ENTRY.match(line.name):
            self._trace.is_hvm = False

    def _resolve(self) -> None:
        """Give each event its port, now that the whole text has told the irqs."""
        trace = self._trace
        for task in self._tasks.values():
            task.settle_unbind()
        for event in trace.events:
            if event.port is None:
                event.port = self._resolved(event)
        kept = [event for event in trace.events if not self._is_foreign(event)]
        trace.other_irqs = sum(
            event.kind is Kind.HANDLER_ENTER and self._is_foreign(event) for event in trace.events
        )
        trace.events = kept

    def _resolved(self, event: GuestEvent) -> int | None:
        dispatch, irq = event.dispatch, event.irq
        if dispatch is not None:
            if dispatch.port is not None:
                return dispatch.port
            irq = dispatch.irq
        return None if irq is None else self._trace.irqs.port(irq, event.tsc)

    def _is_foreign(self, event: GuestEvent) -> bool:
        """Tell whether a handler is that of an irq which is no event channel."""
        if event.kind not in {Kind.HANDLER_ENTER, Kind.HANDLER_EXIT} or event.port is not None:
            return False
        return not _TIMER.match(self._trace.irqs.names.get(event.irq or 0, ""))
