"""Scripted scenarios: what a script says, done step by step on the lab (evtrace/script.py).

Each step begins when the one before has ended; steps of one vCPU that follow each other are done by
one thread, without a pause. A call that Xen refuses is a step like any other.
"""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from evtrace.errors import UsageError
from evtrace.guest import bits
from evtrace.script import (
    NOBODYS,
    OPENING,
    Action,
    Script,
    ScriptDomain,
    ScriptPort,
    ScriptStep,
    read_script,
    virq_number,
)
from evtrace.timeline import Kind
from evtrace.tracer.emulator.faults import find_fault
from evtrace.tracer.emulator.linux import Linux
from evtrace.tracer.emulator.small import SmallKernel
from evtrace.xen.abi import DOMID_SELF, EvtchnOp, FormName, PortState

if TYPE_CHECKING:
    from collections.abc import Callable

    from evtrace.tracer.emulator.kernel import Kernel
    from evtrace.tracer.emulator.lab import Lab
    from evtrace.tracer.emulator.linux import Handler
    from evtrace.tracer.emulator.steps import Task

_WAIT_US: Final = 10_000
"""A handler that has not run by then is not waited for any longer."""
_SETTLE_US: Final = 100
"""What the vCPUs have to run once, before the first step; and to take what the last provoked."""
_OFFSTAGE: Final = frozenset({*NOBODYS, Action.RAISE_VIRQ, Action.RAISE_PIRQ, Action.DESTROY})
"""Actions that are not a guest's."""
_PLAIN_CALLS: Final = {
    Action.BIND_VCPU: EvtchnOp.BIND_VCPU,
    Action.SET_PRIORITY: EvtchnOp.SET_PRIORITY,
    Action.STATUS: EvtchnOp.STATUS,
    Action.CLOSE: EvtchnOp.CLOSE,
    Action.SEND: EvtchnOp.SEND,
}


def load_script(path: Path) -> "Callable[..., None]":
    """Make a scenario of a script; raises `UsageError` and `NoInputError`."""
    script = read_script(path)
    for step in script.steps:
        if step.fault is not None:
            find_fault(step.fault)

    def play(lab: "Lab", *, faults: bool = True) -> None:
        Play(lab, script, with_faults=faults).start()

    play.__doc__ = f"{script.about}\n\nfaults: no: without the faults that steps name."
    return play


class Play:
    """One script on one lab."""

    def __init__(self, lab: "Lab", script: Script, *, with_faults: bool = True) -> None:
        """Do nothing yet; `start` sets the lab up."""
        self._lab = lab
        self._script = script
        self._with_faults = with_faults
        self._kernels: dict[str, Kernel] = {}
        self.ports: dict[str, tuple[int, int]] = {}
        """Name of a port -> the last (domain, port) that it stood for."""
        self._irqs: dict[str, int] = {}
        self._place = 0
        self._runs: Counter[str] = Counter()
        self._awaited: Counter[str] = Counter()
        self._waiting: str | None = None
        self._turn = 0

    def start(self) -> None:
        """Start the domains, open the ports; the steps begin with the recording."""
        for domain in self._script.domains:
            self._kernels[domain.name] = self._start_domain(domain)
        for port in self._script.ports:
            kernel = self._kernels[port.dom]
            if port.name not in self.ports:
                self._lab.prepare(kernel, self._open(kernel, port))
                if port.peer is not None and port.peer not in self.ports:
                    self._bind_peer(port)
        for port in self._script.ports:
            if not port.masked:
                kernel = self._kernels[port.dom]
                task = self._request(port.name, kernel, late_eoi=port.late_eoi, work=port.work)
                self._lab.prepare(kernel, task)
        self._lab.total = len(self._script.steps)
        self._lab.when_recording(0.0, self._begin)

    def _start_domain(self, domain: ScriptDomain) -> "Kernel":
        if domain.kernel != "linux":
            return self._lab.small_domain(domain.name, domain.domid, kernel=domain.kernel)
        form = FormName(domain.form) if domain.form else None
        return self._lab.domain(
            domain.name, domain.domid, vcpus=domain.vcpus, form=form, pvh=domain.pvh
        )

    def _begin(self) -> None:
        """Let every vCPU run once, so that the recording tells that it sleeps; then begin."""
        self._runs.clear()
        for kernel in self._kernels.values():
            for cpu in kernel.cpus:
                self._lab.start(kernel, _look_around(), cpu.number)
        self._lab.engine.after(self._settling, self._next)

    @property
    def _settling(self) -> int:
        """Cycles that are waited before the first step, and after the last."""
        return self._lab.settings.timing.cycles(_SETTLE_US * 1_000)

    # --- ports that are open before ---------------------------------------------------------------

    def _open(self, kernel: "Kernel", port: ScriptPort) -> "Task":
        """Open a port, and the other end of it."""
        if port.virq is not None:
            number = yield self._find_virq(kernel, virq_number(port.virq), port.vcpu)
        elif port.pirq is not None:
            number = yield kernel.demand(EvtchnOp.BIND_PIRQ, port.pirq, 0)
        elif port.ipi:
            number = yield kernel.demand(EvtchnOp.BIND_IPI, port.vcpu)
        elif port.unbound_for is not None:
            number = yield kernel.alloc_unbound(self._kernels[port.unbound_for].dom)
        else:
            number = yield kernel.alloc_unbound(self._peer(port)[0].dom)
        self.ports[port.name] = (kernel.dom, number)
        if port.vcpu and not port.ipi and port.virq is None:
            yield kernel.demand(EvtchnOp.BIND_VCPU, number, port.vcpu)

    def _find_virq(self, kernel: "Kernel", virq: int, vcpu: int) -> "Task":
        """Give the port that the kernel has bound to a VIRQ when it started, or bind it."""
        for port in kernel.domain.ports:
            bound = port.state is PortState.VIRQ and port.virq == virq
            if bound and port.notify_vcpu == vcpu:
                return port.number
        return (yield kernel.demand(EvtchnOp.BIND_VIRQ, virq, vcpu))

    def _peer(self, port: ScriptPort) -> "tuple[Kernel, ScriptPort]":
        """Give the other end of an interdomain port, and whose it is."""
        peer = next(other for other in self._script.ports if other.name == port.peer)
        return self._kernels[peer.dom], peer

    def _bind_peer(self, port: ScriptPort) -> None:
        """Let the other end bind to a port that waits for it."""
        binder, peer = self._peer(port)
        dom, number = self.ports[port.name]

        def bind() -> "Task":
            bound = yield binder.demand(EvtchnOp.BIND_INTERDOMAIN, dom, number)
            self.ports[peer.name] = (binder.dom, bound)
            if peer.vcpu:
                yield binder.demand(EvtchnOp.BIND_VCPU, bound, peer.vcpu)

        self._lab.prepare(binder, bind())

    # --- the steps --------------------------------------------------------------------------------

    def _next(self) -> None:
        """Begin the next step, whoever does it."""
        if self._place == len(self._script.steps):
            self._lab.engine.after(self._settling, lambda: None)
            return
        self._lab.done = self._place
        step = self._script.steps[self._place]
        if step.do in _OFFSTAGE:
            self._place += 1
            self._arm(step)
            self._do_offstage(step)
        else:
            kernel = self._kernel(step)
            self._lab.start(kernel, self._do_all(step, kernel), step.vcpu)

    def _kernel(self, step: ScriptStep) -> "Kernel":
        kernel = self._kernels[step.dom]
        if kernel.dom not in self._lab.kernels:
            self._refuse(f"{step.dom} was destroyed")
        return kernel

    def _do_offstage(self, step: ScriptStep) -> None:
        lab = self._lab
        match step.do:
            case Action.PAUSE:
                lab.engine.after(lab.settings.timing.cycles(step.number("us") * 1_000), self._next)
                return
            case Action.WAIT:
                self._wait(step)
                return
            case Action.DESTROY:
                lab.destroy_domain(self._kernel(step))
            case _:
                kernel = self._kernel(step)
                cpu = kernel.cpus[step.vcpu]
                if step.do is Action.RAISE_VIRQ:
                    lab.hypervisor.raise_virq(cpu, virq_number(step.text("virq")))
                else:
                    lab.hypervisor.raise_pirq(kernel.dom, step.number("pirq"), cpu.pcpu)
        lab.engine.after(1, self._next)

    def _wait(self, step: ScriptStep) -> None:
        name = step.text("port")
        self._awaited[name] += step.number("runs", 1)
        if self._runs[name] >= self._awaited[name]:
            self._lab.engine.after(0, self._next)
            return
        self._waiting, self._turn = name, self._turn + 1
        us = step.number("timeout_us", _WAIT_US)
        cycles = self._lab.settings.timing.cycles(us * 1_000)
        self._lab.engine.after(cycles, self._give_up, self._turn)

    def _give_up(self, turn: int) -> None:
        """Wait no longer."""
        if self._waiting is not None and turn == self._turn:
            self._awaited[self._waiting] = self._runs[self._waiting]
            self._waiting = None
            self._next()

    def _ran(self, name: str) -> None:
        """Note that a handler has run."""
        self._runs[name] += 1
        if self._waiting == name and self._runs[name] >= self._awaited[name]:
            self._waiting = None
            self._lab.engine.after(0, self._next)

    def _do_all(self, step: ScriptStep, kernel: "Kernel") -> "Task":
        """Do a step, and those after it on the same vCPU."""
        where, steps = (step.dom, step.vcpu), self._script.steps
        while True:
            self._place += 1
            self._arm(step)
            yield self._do(step, kernel)
            if self._place == len(steps):
                break
            step = steps[self._place]
            if step.do in _OFFSTAGE or (step.dom, step.vcpu) != where:
                break
        self._lab.engine.after(0, self._next)

    def _arm(self, step: ScriptStep) -> None:
        if step.fault is not None and self._with_faults:
            find_fault(step.fault).inject(self._lab, 0.0)

    def _do(self, step: ScriptStep, kernel: "Kernel") -> "Task":
        if step.do in OPENING:
            yield self._open_now(step, kernel)
        elif step.do in _PLAIN_CALLS:
            yield self._call(step, kernel)
        elif step.do is Action.RESET:
            yield kernel.hypercall(EvtchnOp.RESET, DOMID_SELF)
        elif step.do is Action.POLL:
            names = step.values["ports"]
            listed = names if isinstance(names, tuple) else ()
            numbers = [self._number(name, kernel) for name in listed]
            yield kernel.poll(numbers, step.number("timeout_us", _WAIT_US))
        else:
            yield self._on_irq(step, kernel)

    def _open_now(self, step: ScriptStep, kernel: "Kernel") -> "Task":
        name = step.text("port")
        match step.do:
            case Action.ALLOC_UNBOUND:
                remote = self._kernels[step.text("for")].dom
                call = kernel.hypercall(EvtchnOp.ALLOC_UNBOUND, DOMID_SELF, remote)
            case Action.BIND_INTERDOMAIN:
                dom, port = self._named(step.text("to"))
                call = kernel.hypercall(EvtchnOp.BIND_INTERDOMAIN, dom, port)
            case Action.BIND_VIRQ:
                virq = virq_number(step.text("virq"))
                call = kernel.hypercall(EvtchnOp.BIND_VIRQ, virq, step.number("vcpu"))
            case Action.BIND_IPI:
                call = kernel.hypercall(EvtchnOp.BIND_IPI, step.number("vcpu"))
            case _:
                call = kernel.hypercall(EvtchnOp.BIND_PIRQ, step.number("pirq"), 0)
        answer = yield call
        if answer.ret >= 0:
            self.ports[name] = (kernel.dom, answer.out[0])
            self._irqs.pop(name, None)

    def _call(self, step: ScriptStep, kernel: "Kernel") -> "Task":
        number = self._number(step.text("port"), kernel)
        more = [step.number(key) for key in ("vcpu", "priority") if key in step.values]
        if step.do is Action.STATUS:
            yield kernel.hypercall(EvtchnOp.STATUS, DOMID_SELF, number)
        else:
            yield kernel.hypercall(_PLAIN_CALLS[step.do], number, *more)

    def _on_irq(self, step: ScriptStep, kernel: "Kernel") -> "Task":
        """Do what a kernel does with its irqs, and with its memory."""
        name = step.text("port")
        number = self._number(name, kernel)
        match step.do:
            case Action.REQUEST:
                late_eoi = bool(step.values.get("late_eoi", False))
                work = bool(step.values.get("work", True))
                yield self._request(name, kernel, late_eoi=late_eoi, work=work)
            case Action.MASK:
                yield self._mask(name, kernel, number)
            case Action.UNMASK:
                yield self._unmask(name, kernel, number)
            case Action.CLEAR:
                kernel.clear(number)
            case Action.SET:
                cpu = kernel.current
                bits.set_pending(kernel.domain, number)
                tsc = cpu.emit(Kind.SET, number)
                self._lab.hypervisor.truth.retriggered(kernel.dom, cpu.number, number, tsc)
            case _:
                if isinstance(kernel, Linux) and name in self._irqs:
                    yield kernel.unbind_from_irqhandler(self._irqs.pop(name))
                else:
                    yield kernel.hypercall(EvtchnOp.CLOSE, number)

    def _request(self, name: str, kernel: "Kernel", *, late_eoi: bool, work: bool) -> "Task":
        """Give a port its handler, and unmask it."""
        number = self._number(name, kernel)
        handler = self._handler(name, kernel, late_eoi=late_eoi, work=work)
        if isinstance(kernel, Linux):
            irq = yield self._irq(name, kernel, late_eoi=late_eoi)
            yield kernel.request_irq(irq, handler, name.replace(" ", "_"))
        elif isinstance(kernel, SmallKernel):
            yield kernel.bind_event_channel(number, handler)

    def _irq(self, name: str, kernel: Linux, *, late_eoi: bool = False) -> "Task":
        """Give the irq of a port, a new one if it has none."""
        if name not in self._irqs:
            number = self._number(name, kernel)
            known = kernel.irq_of(number)
            if known is None:
                known = yield kernel.bind_evtchn_to_irq(number, late_eoi=late_eoi)
            self._irqs[name] = known
        return self._irqs[name]

    def _mask(self, name: str, kernel: "Kernel", number: int) -> "Task":
        if isinstance(kernel, Linux):
            yield kernel.disable_irq((yield self._irq(name, kernel)))
        elif isinstance(kernel, SmallKernel):
            yield kernel.mask_event_channel(number)

    def _unmask(self, name: str, kernel: "Kernel", number: int) -> "Task":
        if isinstance(kernel, Linux):
            yield kernel.enable_irq((yield self._irq(name, kernel)))
        elif isinstance(kernel, SmallKernel):
            yield kernel.unmask_event_channel(number)

    def _handler(self, name: str, kernel: "Kernel", *, late_eoi: bool, work: bool) -> "Handler":
        timer = self._is_timer(name, kernel)

        def handle(irq: int) -> "Task":
            if timer:
                yield kernel.timer_interrupt()
            if late_eoi and isinstance(kernel, Linux):
                yield kernel.xen_irq_lateeoi(irq, spurious=not work)
            self._ran(name)
            yield from ()

        return handle

    def _is_timer(self, name: str, kernel: "Kernel") -> bool:
        """Tell whether the kernel's own timers hang on a port."""
        port = kernel.domain.port(self._number(name, kernel))
        return port is not None and port.state is PortState.VIRQ and port.virq == 0

    # --- names --------------------------------------------------------------------------------

    def _named(self, name: str) -> tuple[int, int]:
        if name not in self.ports:
            self._refuse(f"{name} was not opened")
        return self.ports[name]

    def _number(self, name: str, kernel: "Kernel") -> int:
        """Give the number of a port of a domain."""
        dom, number = self._named(name)
        if dom != kernel.dom:
            self._refuse(f"{name} is no port of {self._lab.names[kernel.dom]}")
        return number

    def _refuse(self, what: str) -> NoReturn:
        message = f"step {self._place} of the script: {what}"
        raise UsageError(message)


def _look_around() -> "Task":
    yield 100
