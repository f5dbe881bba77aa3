"""A virtual CPU that runs: the code on it, the upcalls that interrupt it, its way into Xen and out.

An upcall starts only where Xen enters the guest: at the end of a hypercall, when the vCPU is
scheduled in, after an event-check IPI. While an upcall is handled no other one starts.
"""

from collections import deque
from types import GeneratorType
from typing import TYPE_CHECKING, Any, Final

from evtrace.guest import bits
from evtrace.timeline import Kind, Runstate
from evtrace.tracer.emulator import stock
from evtrace.tracer.emulator.scheduler import Priority
from evtrace.tracer.emulator.steps import GuestError, Step

if TYPE_CHECKING:
    from evtrace.tracer.emulator.engine import Action, Engine
    from evtrace.tracer.emulator.kernel import Kernel
    from evtrace.tracer.emulator.lab import Lab
    from evtrace.tracer.emulator.scheduler import Pcpu
    from evtrace.tracer.emulator.steps import Completion, Hypercall, Task
    from evtrace.xen.vcpu import Vcpu

_IRET = 23


YIELDED: Final = "a program yields whole nanoseconds, steps and tasks"


class Frame:
    """A call of guest code in progress."""

    __slots__ = ("is_interlude", "paused", "refusal", "task", "value")

    def __init__(self, task: "Task", *, is_interlude: bool = False) -> None:
        self.task = task
        self.is_interlude = is_interlude
        """Nobody called it: what it returns goes nowhere."""
        self.value: Any = None
        """What the `yield` at which it stands will give."""
        self.refusal: GuestError | None = None
        """What the `yield` at which it stands will raise."""
        self.paused: tuple[int, Action, tuple[Any, ...]] | None = None
        """It was interrupted: cycles left, and what then follows."""

    def resume(self) -> object:
        """Run it up to its next `yield`; gives what it yields."""
        refusal, value = self.refusal, self.value
        self.refusal = self.value = None
        step: object = self.task.send(value) if refusal is None else self.task.throw(refusal)
        return step


class Thread:
    """A thread of a guest kernel, bound to one vCPU."""

    __slots__ = ("cpu", "frames")

    def __init__(self, cpu: "VirtualCpu", task: "Task") -> None:
        self.cpu = cpu
        self.frames = [Frame(task)]


class VirtualCpu:
    """One vCPU of a domain, on a pCPU or waiting for one."""

    def __init__(
        self, lab: "Lab", kernel: "Kernel", model: "Vcpu", affinity: tuple[int, ...]
    ) -> None:
        self.kernel = kernel
        self.model = model
        self.dom = model.domain.domid
        self.number = model.vcpu_id
        self.is_hvm = model.domain.is_hvm
        self.affinity = affinity
        """pCPUs that it may run on."""
        # The scheduler's books.
        self.pcpu: Pcpu = lab.scheduler.pcpus[affinity[0]]
        """Where it runs, or ran last."""
        self.runstate = Runstate.BLOCKED
        self.state_since = 0
        self.waits = False
        """It is to block when the scheduler gets to it."""
        self.poll_ends: int | None = None
        """TSC at which its last SCHEDOP_poll times out."""
        self.credit = 0
        self.priority = Priority.UNDER
        # Its own.
        self.in_xen = True
        """Xen has the pCPU: the guest's code stands still."""
        self.has_run = False
        self.irqs_off = True
        """Upcalls are held off, as in a kernel that has just started."""
        self.is_asserted = False
        """HVM: the upcall's vector waits in its local APIC, whether an event is pending or not."""
        self.timers: list[tuple[int, int, Completion]] = []
        """Heap of (TSC, order, whom to wake)."""
        self.ready: deque[Thread] = deque()
        self._lab = lab
        self._engine: Engine = lab.engine
        self._draw = lab.costs.draw
        self._record = lab.recorder.family
        self._upcalls: list[Frame] = []
        self._idle = Thread(self, kernel.idle(self))
        self._thread = self._idle
        self._at = self._idle.frames[0]
        self._generation = 0
        self._busy: tuple[int, Action, tuple[Any, ...]] = (0, self.advance, ())

    # What the guest's code may ask

    @property
    def now(self) -> int:
        """TSC."""
        return self._engine.now

    def emit(self, kind: Kind, *words: int) -> int:
        """Record what the guest does now; gives its TSC."""
        return self._record(self.pcpu.number, kind, self.dom, self.number, *words)

    def spawn(self, task: "Task") -> None:
        """Start a thread."""
        self.ready.append(Thread(self, task))

    def busy_until(self, tsc: int) -> bool:
        """Go on at `tsc`; False if that has passed."""
        if tsc <= self.now:
            return False
        self._later(tsc - self.now, self.advance)
        return True

    def give(self, value: object) -> None:
        """Set what the `yield` of the running code gives."""
        self._at.value = value

    def set_thread_aside(self) -> Thread:
        """Take the running thread off the vCPU, until somebody makes it ready again."""
        thread, self._thread = self._thread, self._idle
        return thread

    # The scheduler's calls

    def enter_cpu(self) -> None:
        """Begin to run on a pCPU."""
        self._later(self._draw(self._lab.costs.profile.context_switch), self._leave_xen)

    def leave_cpu(self) -> None:
        """Stop running: another vCPU takes the pCPU."""
        if not self.in_xen:
            self._pause()
            self.in_xen = True
            if self.is_hvm:
                self._exit_for_interrupt()
        self._generation += 1

    def event_check(self) -> None:
        """Take the IPI that Xen sends to a pCPU whose vCPU has got an event."""
        if self.runstate is not Runstate.RUNNING or self.in_xen:
            return  # it will look when it leaves Xen
        self._pause()
        self.in_xen = True
        if self.is_hvm:
            self._exit_for_interrupt()
            if self.irqs_off:
                self._lab.stock.window(self.pcpu.number)
        self._later(self._draw(self._lab.costs.profile.leave_xen), self._leave_xen)

    def _exit_for_interrupt(self) -> None:
        self._lab.stock.vmexit(self.pcpu.number, stock.EXIT_INTR)
        self._lab.stock.interrupted(self.pcpu.number)

    # Into Xen and out

    def call_xen(self, call: "Hypercall") -> None:
        """Set out for a hypercall; the frame on top gets its answer."""
        cycles = self._draw(self._lab.costs.profile.enter_xen)
        self._later(cycles, self._perform, call, self._at)

    def _perform(self, call: "Hypercall", frame: Frame) -> None:
        self.in_xen = True
        self._record_entry(call)
        frame.value = call.perform()
        if self.runstate is Runstate.RUNNING:
            self._later(self._draw(self._lab.costs.profile.leave_xen), self._leave_xen)

    def _record_entry(self, call: "Hypercall") -> None:
        write, pcpu = self._lab.stock, self.pcpu.number
        if not self.is_hvm:
            write.pv_hypercall(pcpu, call.number, call.shown)
            for number in call.subcalls:
                write.pv_subcall(pcpu, number)
        elif call.is_hlt:
            write.vmexit(pcpu, stock.EXIT_HLT)
            write.hlt(pcpu, pending=self.model.upcall_pending)
        else:
            write.vmexit(pcpu, stock.EXIT_VMMCALL)
            write.vmmcall(pcpu, call.number)

    def _leave_xen(self) -> None:
        if not self._lab.scheduler.leaves_xen(self):
            return
        takes_upcall = (self.model.wants_upcall or self.is_asserted) and not self.irqs_off
        self.in_xen = False
        if self.is_hvm:
            if takes_upcall:
                self._lab.stock.inject(self.pcpu.number)
            self._lab.stock.vmentry(self.pcpu.number)
        if takes_upcall:
            self._start_upcall()
        self.advance()

    def _start_upcall(self) -> None:
        self.irqs_off, self.is_asserted = True, False
        if not self.is_hvm:
            bits.write_upcall_mask(self.model, 1)
        frame = Frame(self.kernel.upcall(self))
        frame.paused = (self._draw(self._lab.costs.profile.upcall_entry), self.advance, ())
        self._upcalls.append(frame)

    def _finish_upcall(self) -> bool:
        """Return from an upcall; True if that leads through Xen, which looks for the next one."""
        if not self.is_hvm:
            self._later(self._draw(self._lab.costs.profile.enter_xen), self._iret)
            return True
        self._upcalls.pop()
        self.irqs_off = False
        if not self.model.wants_upcall:
            return False
        self.in_xen = True
        self._lab.stock.vmexit(self.pcpu.number, stock.EXIT_VINTR)
        self._later(self._draw(self._lab.costs.profile.leave_xen), self._leave_xen)
        return True

    def _iret(self) -> None:
        self._upcalls.pop()
        self.in_xen = True
        self._lab.stock.pv_hypercall(self.pcpu.number, _IRET, {})
        self.irqs_off = False
        bits.write_upcall_mask(self.model, 0)
        self._later(self._draw(self._lab.costs.profile.leave_xen), self._leave_xen)

    # The guest's code

    def advance(self) -> None:
        """Run the guest's code up to its next step that takes time."""
        self.kernel.current = self
        while self._run_on():
            pass

    def _run_on(self) -> bool:
        """Run the frame on top up to its next `yield`; False if the vCPU goes on only later."""
        frame = self._at = self._top()
        if frame.paused is not None:
            (cycles, action, args), frame.paused = frame.paused, None
            self._later(cycles, action, *args)
            return False
        try:
            step = frame.resume()
        except StopIteration as stop:
            return not self._finish(stop.value)
        except GuestError as refusal:
            self._unwind(refusal)
            return True
        return self._spend(step) if isinstance(step, int) else self._begin(frame, step)

    def _begin(self, frame: Frame, step: object) -> bool:
        """Begin what a frame yielded; False if the vCPU goes on only later."""
        if isinstance(step, GeneratorType):
            self._frames().append(Frame(step))
            return True
        if isinstance(step, Step):
            return not step.begin(self)
        frame.task.throw(TypeError(f"yielded {step!r}: {YIELDED}"))
        return True

    def _spend(self, ns: int) -> bool:
        """Let time pass; False if something else may happen meanwhile."""
        cycles = self._draw(ns) if ns else 1
        if self._lab.costs.chaos and self._lab.costs.preempts():
            self._engine.after(0, self._lab.scheduler.yank, self)
        if self._engine.skip(cycles):
            return True
        self._later(cycles, self.advance)
        return False

    def _unwind(self, refusal: GuestError) -> None:
        """Hand what the frame on top raised to its caller, to be caught there."""
        frames = self._frames()
        if len(frames) == 1:
            raise refusal
        frames.pop()
        frames[-1].refusal = refusal

    def _finish(self, value: object) -> bool:
        """End the frame on top with its result; True if the vCPU goes on only later."""
        frames = self._frames()
        if frames is self._upcalls and len(frames) == 1:
            return self._finish_upcall()
        frame = frames.pop()
        if frame.is_interlude:
            return False
        if frames:
            frames[-1].value = value
        else:
            self._thread = self._idle
        return False

    def _frames(self) -> list[Frame]:
        return self._upcalls or self._thread.frames

    def _top(self) -> Frame:
        """Find the frame to go on with: of the upcall, else of a thread, else the idle loop."""
        if self._upcalls:
            return self._upcalls[-1]
        if self._thread is self._idle and self.ready and self._idle.frames[0].paused is None:
            self._thread = self.ready.popleft()
            if not self.is_hvm:
                switch = self.kernel.context_switch()
                self._thread.frames.append(Frame(switch, is_interlude=True))
        return self._thread.frames[-1]

    # Time

    def _later(self, cycles: int, action: "Action", *args: object) -> None:
        self._generation += 1
        until = self._engine.now + cycles
        self._busy = (until, action, args)
        self._engine.at(until, self._fire, self._generation)

    def _fire(self, generation: int) -> None:
        if generation == self._generation:
            _, action, args = self._busy
            action(*args)

    def _pause(self) -> None:
        """Interrupt what the guest is at; it goes on with that when it gets there again."""
        until, action, args = self._busy
        self._generation += 1
        self._at.paused = (max(0, until - self._engine.now), action, args)
