"""A guest kernel on its vCPUs: threads, timers, hypercalls, the frame of an upcall.

What kinds of kernels have in common. `linux` and `small` add their interrupt layers.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from evtrace.guest import bits, queue, scan
from evtrace.timeline import Kind
from evtrace.tracer.emulator.steps import Completion, GuestError, Hypercall, Task, Until, Wait
from evtrace.tracer.emulator.vcpu import VirtualCpu
from evtrace.xen.abi import (
    DOMID_SELF,
    FIFO_MASKED,
    FIFO_PENDING,
    PAGE_WORDS,
    EvtchnOp,
    HYPERVISOR_event_channel_op,
    HYPERVISOR_hvm_op,
    HYPERVISOR_sched_op,
    HYPERVISOR_vcpu_op,
    VCPUOP_register_vcpu_info,
)
from evtrace.xen.machine import Answer

if TYPE_CHECKING:
    from evtrace.guest.profiles import GuestProfile
    from evtrace.tracer.emulator.lab import Lab
    from evtrace.xen.domain import Domain

_STACK_SWITCH = 3
_MULTICALL = 13
_SET_SEGMENT_BASE = 25
_VCPU_UP = 2
_SET_SINGLESHOT_TIMER = 8
_XEN_VERSION = 17
_SCHEDOP_BLOCK, _SCHEDOP_POLL = 1, 3

_TAKES_GFN = frozenset({EvtchnOp.INIT_CONTROL, EvtchnOp.EXPAND_ARRAY})
"""Their first argument has 64 bits, so two words of a record."""

_CONTROL_GFN = 0x1000
_ARRAY_GFN = 0x2000
"""Guest pages that a kernel lends for its control blocks and its array of event words."""

UPCALL_LIMIT = 10_000
"""Scans of one upcall after which a guest is taken to be stuck."""


class Kernel(ABC):
    """The kernel of one domain. Its public methods are tasks: a program yields them."""

    def __init__(self, lab: "Lab", domain: "Domain", habits: "GuestProfile", name: str) -> None:
        self.lab = lab
        self.domain = domain
        self.dom = domain.domid
        self.habits = habits
        self.name = name
        self.cpus: list[VirtualCpu] = []
        self.current: VirtualCpu
        """The vCPU that executes right now."""

    # Hypercalls

    def hypercall(self, op: EvtchnOp, *args: int) -> Task:
        """Call event_channel_op; gives Xen's `Answer`."""
        lab, cpu = self.lab, self.current
        call_id = lab.next_call_id()
        op_call = op | call_id << 8
        words = (args[0] & 0xFFFF_FFFF, args[0] >> 32, *args[1:]) if op in _TAKES_GFN else args
        entered = cpu.emit(Kind.CALL_ENTER, op_call, *words)
        answer: Answer = yield Hypercall(
            HYPERVISOR_event_channel_op,
            lambda: lab.hypervisor.event_channel_op(cpu, op, args, entered),
        )
        cpu.emit(Kind.CALL_EXIT, op_call, answer.ret, *answer.out)
        return answer

    def demand(self, op: EvtchnOp, *args: int) -> Task:
        """Call event_channel_op; gives its first output, or None; raises `GuestError`."""
        answer: Answer = yield self.hypercall(op, *args)
        if answer.ret < 0:
            raise GuestError(op, args, answer.ret)
        return answer.out[0] if answer.out else None

    def alloc_unbound(self, remote_dom: int, dom: int = DOMID_SELF) -> Task:
        """EVTCHNOP_alloc_unbound; gives the port."""
        return self.demand(EvtchnOp.ALLOC_UNBOUND, dom, remote_dom)

    def close(self, port: int) -> Task:
        """EVTCHNOP_close."""
        return self.demand(EvtchnOp.CLOSE, port)

    def send(self, port: int) -> Task:
        """EVTCHNOP_send; gives Xen's `Answer`, which drivers do not look at."""
        return self.hypercall(EvtchnOp.SEND, port)

    def block(self) -> Task:
        """Wait for an upcall: SCHEDOP_block, or HLT in an HVM guest."""
        cpu = self.current
        cpu.irqs_off = True
        hypervisor = self.lab.hypervisor
        yield Hypercall(
            HYPERVISOR_sched_op,
            lambda: hypervisor.block(cpu),
            {0: _SCHEDOP_BLOCK},
            is_hlt=True,
        )

    def poll(self, ports: Sequence[int], timeout_us: float | None = None) -> Task:
        """SCHEDOP_poll: wait until one of `ports` is pending or an upcall is due."""
        cpu, lab = self.current, self.lab
        deadline = None
        if timeout_us is not None:
            deadline = cpu.now + lab.costs.profile.cycles(timeout_us * 1_000)
        yield Hypercall(
            HYPERVISOR_sched_op,
            lambda: lab.hypervisor.poll(cpu, ports, deadline),
            {0: _SCHEDOP_POLL},
        )

    def force_callback(self) -> Task:
        """Look in on Xen, so that an upcall that is due comes (xen_force_evtchn_callback)."""
        yield Hypercall(_XEN_VERSION, lambda: Answer(0))

    def context_switch(self) -> Task:
        """Change to another thread, which a PV kernel does by a multicall."""
        subcalls = (_STACK_SWITCH, _SET_SEGMENT_BASE)
        yield Hypercall(_MULTICALL, lambda: Answer(0), {1: len(subcalls)}, subcalls)

    def register_vcpu_info(self, vcpu: int) -> Task:
        """VCPUOP_register_vcpu_info of a vCPU, which has not started unless it is this one."""
        cpu, hypervisor = self.cpus[vcpu], self.lab.hypervisor
        shown = {0: VCPUOP_register_vcpu_info, 1: vcpu}
        yield Hypercall(HYPERVISOR_vcpu_op, lambda: hypervisor.register_vcpu_info(cpu), shown)

    def set_upcall_vector(self) -> Task:
        """HVMOP_set_evtchn_upcall_vector of this vCPU: its vector comes at once."""
        cpu, hypervisor = self.current, self.lab.hypervisor
        yield Hypercall(HYPERVISOR_hvm_op, lambda: hypervisor.set_upcall_vector(cpu))

    def bring_up(self, vcpu: int) -> Task:
        """Let another vCPU of the domain start: VCPUOP_up."""
        cpu, hypervisor = self.cpus[vcpu], self.lab.hypervisor
        cpu.irqs_off = cpu.irqs_off and cpu.has_run
        yield Hypercall(HYPERVISOR_vcpu_op, lambda: hypervisor.vcpu_up(cpu), {0: _VCPU_UP, 1: vcpu})

    # The FIFO form

    def enter_fifo(self, vcpu: int) -> Task:
        """Give a vCPU its control block, empty; the first one switches the domain to FIFO."""
        bits.fill_page(self.domain, _CONTROL_GFN + vcpu, 0)
        queue.forget_heads(self.cpus[vcpu].model)
        yield self.demand(EvtchnOp.INIT_CONTROL, _CONTROL_GFN + vcpu, 0, vcpu)

    def map_port(self, port: int) -> Task:
        """Lend pages for event words up to `port`'s; the guest's own part of a FIFO bind."""
        fifo = self.domain.fifo
        while fifo is not None and port >= len(fifo.array) * PAGE_WORDS:
            gfn = _ARRAY_GFN + len(fifo.array)
            if self.habits.masked_at_start:
                bits.fill_page(self.domain, gfn, FIFO_MASKED)
            yield self.demand(EvtchnOp.EXPAND_ARRAY, gfn)

    # Threads and time

    def spawn(self, program: Task, vcpu: int = 0) -> None:
        """Start a thread on a vCPU that is awake or will be."""
        self.cpus[vcpu].spawn(program)

    def sleep(self, seconds: float) -> Task:
        """Let the thread sleep; a timer wakes it."""
        cpu = self.current
        deadline = cpu.now + self.lab.costs.profile.cycles(seconds * 1_000_000_000)
        mine = Completion()
        yield self._arm_timer(cpu, deadline, mine)
        yield Wait(mine)

    def _arm_timer(self, cpu: VirtualCpu, deadline: int, sleeper: Completion) -> Task:
        hypervisor = self.lab.hypervisor
        heappush(cpu.timers, (deadline, self.lab.next_order(), sleeper))
        if cpu.timers[0][2] is sleeper:
            yield Hypercall(
                HYPERVISOR_vcpu_op,
                lambda: hypervisor.set_timer(cpu, deadline),
                {0: _SET_SINGLESHOT_TIMER, 1: cpu.number},
            )

    def timer_interrupt(self) -> Task:
        """Wake the threads whose time has come; ask for the next timer."""
        cpu = self.current
        while cpu.timers and cpu.timers[0][0] <= cpu.now:
            sleeper = heappop(cpu.timers)[2]
            yield self.complete(sleeper)
        if cpu.timers:
            deadline, hypervisor = cpu.timers[0][0], self.lab.hypervisor
            yield Hypercall(
                HYPERVISOR_vcpu_op,
                lambda: hypervisor.set_timer(cpu, deadline),
                {0: _SET_SINGLESHOT_TIMER, 1: cpu.number},
            )

    def wait_for_completion(self, completion: Completion) -> Task:
        """Let the thread wait until `complete`; gives the value told there."""
        return (yield Wait(completion))

    def complete(self, completion: Completion, value: object = None) -> Task:
        """Let one thread go on that waits, on whichever vCPU, or the next one that comes."""
        if not completion.threads:
            completion.done.append(value)
            return
        thread = completion.threads.popleft()
        thread.frames[-1].value = value
        thread.cpu.ready.append(thread)
        if thread.cpu is not self.current:
            yield self.reschedule(thread.cpu)

    @abstractmethod
    def reschedule(self, cpu: VirtualCpu) -> Task:
        """Make another vCPU look for threads that are ready."""

    def idle(self, cpu: VirtualCpu) -> Task:
        """Run where no thread is ready: the idle loop of a vCPU."""
        del cpu
        while True:
            yield self.block()

    # Log

    def log(self, text: str) -> Task:
        """Print a line to the kernel's log."""
        self.lab.log(self, text)
        yield self.lab.costs.profile.printk

    def until(self, label: str) -> Task:
        """Wait busily for the scripted time of `label`, where the timing has one."""
        due = self.lab.scripted(label)
        if due is not None:
            yield Until(due)

    # Upcalls

    def upcall(self, cpu: VirtualCpu) -> Task:
        """Handle an upcall: scan until the flag stays clear."""
        truth = self.lab.hypervisor.truth
        truth.upcall_enter(cpu.dom, cpu.number, cpu.emit(Kind.UPCALL_ENTER))
        model, memory = cpu.model, self.lab.costs.profile.memory
        for _ in range(UPCALL_LIMIT):
            bits.clear_upcall_pending(model)
            yield memory
            if self.domain.fifo is not None:
                yield self._scan_fifo(cpu)
            else:
                yield self._scan_two_level(cpu)
            if not model.upcall_pending:
                break
        cpu.emit(Kind.UPCALL_EXIT)
        truth.upcall_exit(cpu.dom, cpu.number, self.domain.form.pending)

    def _scan_two_level(self, cpu: VirtualCpu) -> Task:
        for port in scan.find_active(cpu.model, self.habits.scan):
            yield self.handle_port(cpu, port)

    def _scan_fifo(self, cpu: VirtualCpu) -> Task:
        memory = self.lab.costs.profile.memory
        for port, word in queue.take_words(cpu.model):
            if word is None:
                continue
            cpu.emit(Kind.CONSUME, port)
            self.lab.hypervisor.truth.consumed(cpu.dom, cpu.number, port)
            yield memory
            if word & FIFO_PENDING and not word & FIFO_MASKED:
                yield self.handle_port(cpu, port)

    @abstractmethod
    def handle_port(self, cpu: VirtualCpu, port: int) -> Task:
        """Handle one port that a scan found."""

    # Accesses to the shared memory, each recorded

    def mask(self, port: int) -> None:
        """Set the mask bit."""
        bits.mask(self.domain, port)
        self.current.emit(Kind.MASK, port)
        self.lab.hypervisor.truth.silenced(self.dom, port)

    def clear(self, port: int) -> None:
        """Clear the pending bit."""
        cpu = self.current
        bits.clear_pending(self.domain, port)
        cpu.emit(Kind.CLEAR, port)
        self.lab.hypervisor.truth.cleared(cpu.dom, cpu.number, port)

    def run_handler(self, cpu: VirtualCpu, irq: int, port: int, handler: Task) -> Task:
        """Run the handler of a port, between the records of its start and end."""
        truth, lab = self.lab.hypervisor.truth, self.lab
        yield lab.costs.profile.dispatch
        tsc = cpu.emit(Kind.HANDLER_ENTER, irq, port)
        truth.handler_enter(
            cpu.dom, cpu.number, port, irq, tsc, unbound=lab.hypervisor.has_no_peer(cpu.dom, port)
        )
        yield lab.costs.profile.handler
        handled: Any = yield handler
        cpu.emit(Kind.HANDLER_EXIT, irq, port, int(handled is not False))
        truth.handler_exit(cpu.dom, cpu.number, port)
