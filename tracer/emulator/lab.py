"""The lab: a host with its domains, as a scenario sets it up.

A scenario is a function that takes a `Lab` and keyword parameters. It makes domains and starts
programs on them; a program is a generator function that yields what its kernel offers.
"""

from dataclasses import dataclass, field, replace
from heapq import heappush
from random import Random
from typing import TYPE_CHECKING, Any, Final, TypeVar

from evtrace.guest.profiles import LINUX, find_guest
from evtrace.timeline import Kind
from evtrace.tracefile.family import ALL_VCPUS, GuestType, TextPurpose
from evtrace.tracefile.records import encode_text
from evtrace.tracer.emulator.engine import Engine
from evtrace.tracer.emulator.hypervisor import Hypervisor
from evtrace.tracer.emulator.kernel import Kernel
from evtrace.tracer.emulator.linux import Linux
from evtrace.tracer.emulator.recorder import Capture, Recorder, Tape
from evtrace.tracer.emulator.scheduler import Scheduler
from evtrace.tracer.emulator.small import SmallKernel
from evtrace.tracer.emulator.steps import Completion, Task
from evtrace.tracer.emulator.stock import StockWriter
from evtrace.tracer.emulator.timing import PINNED, Costs, TimingProfile
from evtrace.tracer.emulator.vcpu import VirtualCpu
from evtrace.xen.abi import FormName
from evtrace.xen.domain import Domain
from evtrace.xen.machine import Machine
from evtrace.xen.profiles import HEAD, Profile
from evtrace.xen.virqs import HARDWARE_DOMAIN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

K = TypeVar("K", bound=Kernel)

HEAD_VERSION: Final = (4, 21)
"""What a machine of profile HEAD says of itself."""
MAX_LOG_LINES: Final = 1_000
"""Lines of a kernel's log that are kept to be printed; all are in the trace."""
LINUX_TWO_LEVEL: Final = replace(LINUX, uses_fifo=False)
"""Linux with xen.fifo_events=0, or on a Xen that has no FIFO form."""
_MAIL_NS: Final = 100_000
"""What it takes until a domain learns what was put into a mailbox."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a lab is run, apart from the scenario."""

    seed: int = 0
    chaos: bool = False
    timing: TimingProfile = PINNED
    xen: Profile = HEAD
    xen_version: tuple[int, int] | None = HEAD_VERSION
    """What the hypervisor says it is; None: it is not Xen."""
    form: FormName = FormName.FIFO
    """Form of the guests that can choose."""
    pvh: bool = False
    """domUs are PVH, not PV; dom0 is PV."""
    capture: Capture = Capture.FULL
    pcpus: int = 4


@dataclass(slots=True)
class LogLine:
    """A line of a kernel's log; `tsc` since the recording began."""

    tsc: int
    text: str


@dataclass(slots=True)
class KernelLog:
    """The log of one kernel."""

    lines: list[LogLine] = field(default_factory=list)
    left_out: int = 0


class Mailbox:
    """A place where one program leaves a value for others, as xenstore or a person would."""

    def __init__(self, lab: "Lab") -> None:
        self._lab = lab
        self._value: Any = None
        self._is_full = False
        self._waiting: list[tuple[Kernel, VirtualCpu, Completion]] = []

    def put(self, value: object) -> None:
        """Leave a value; whoever waits for it is woken by a timer."""
        self._value, self._is_full = value, True
        lab = self._lab
        for _, cpu, sleeper in self._waiting:
            lab.engine.after(lab.costs.draw(_MAIL_NS), lab.wake_by_timer, cpu, sleeper)
        self._waiting.clear()

    def get(self, kernel: Kernel) -> Task:
        """Wait until there is a value; gives it."""
        if not self._is_full:
            sleeper = Completion()
            self._waiting.append((kernel, kernel.current, sleeper))
            yield kernel.wait_for_completion(sleeper)
        return self._value


class Lab:
    """A host: hypervisor, pCPUs, domains, and the recorder beside them."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.random = Random(self.settings.seed)  # noqa: S311  a machine that can be repeated
        self.engine = Engine()
        self.costs = Costs(self.settings.timing, self.random, chaos=self.settings.chaos)
        self.recorder = Recorder(self.engine, self.settings.capture)
        version = self.settings.xen_version
        self.stock = StockWriter(self.recorder, self.settings.timing, version or HEAD_VERSION)
        self.scheduler = Scheduler(self.engine, self.costs, self.stock, self.settings.pcpus)
        machine = Machine(self.settings.xen, record_memory=False)
        self.hypervisor = Hypervisor(self, machine)
        self.kernels: dict[int, Kernel] = {}
        self.names: dict[int, str] = {}
        self.irq_names: dict[tuple[int, int], str] = {}
        self.logs: dict[int, KernelLog] = {}
        self.recording_since: int | None = None
        self.spoil: Callable[[Tape], Tape] = lambda tape: tape
        """Replaced by a fault of the capture: what stands between the recorder and the file."""
        self.spoil_file: Callable[[Path], None] = lambda _: None
        """Replaced by a fault of the capture: what becomes of the finished file."""
        self.uncaptured = self.recorder.uncaptured
        """Domains of which a fault of the capture lets no guest record through."""
        self.on_record: Callable[[], None] = lambda: None
        """Called when the recording begins."""
        self.done = self.total = 0
        """How far the scenario has come, in steps of its own."""
        self.welcome: Callable[[Kernel], None] = lambda _: None
        """Called with each kernel that is added."""
        self._starts: list[tuple[Kernel, Task, int]] = []
        self._to_do: list[tuple[float, Callable[[], None]]] = []
        self._orders = 0
        self._calls = 0

    # Domains

    def domain(
        self,
        name: str,
        domid: int | None = None,
        *,
        vcpus: int = 1,
        form: FormName | None = None,
        pinned: tuple[int, ...] = (),
        first_irq: int = 16,
        pvh: bool | None = None,
    ) -> Linux:
        """Make a domain and start its Linux, before the recording begins; gives the kernel.

        `form`: other than the run's; `pinned`: pCPUs it may run on; `first_irq`: number of its
        first irq; `pvh`: other than the run's.
        """
        made = self.add_domain(
            name, domid, vcpus=vcpus, form=form, pinned=pinned, first_irq=first_irq, pvh=pvh
        )
        self._start(made, made.boot())
        self.engine.run()
        return made

    def add_domain(
        self,
        name: str,
        domid: int | None = None,
        *,
        vcpus: int = 1,
        form: FormName | None = None,
        pinned: tuple[int, ...] = (),
        first_irq: int = 16,
        pvh: bool | None = None,
    ) -> Linux:
        """Make a domain whose Linux has not started (`boot` starts it); gives the kernel."""
        fifo = (form or self.settings.form) is FormName.FIFO and self.settings.xen.has_fifo
        habits = LINUX if fifo else LINUX_TWO_LEVEL
        domain = self._create_domain(domid, vcpus, pvh=pvh)
        return self._add(name, Linux(self, domain, habits, first_irq=first_irq), pinned)

    def small_domain(
        self, name: str, domid: int | None = None, *, kernel: str = "zephyr"
    ) -> SmallKernel:
        """Make a domain with a small kernel of some guest profile and start it; gives it."""
        habits = find_guest(kernel)
        made = self._add(name, SmallKernel(self, self._create_domain(domid, 1), habits), ())
        self._start(made, made.boot())
        self.engine.run()
        return made

    def _create_domain(self, domid: int | None, vcpus: int, *, pvh: bool | None = None) -> Domain:
        dom = self._next_domid() if domid is None else domid
        pvh = (self.settings.pvh if pvh is None else pvh) and dom != HARDWARE_DOMAIN
        kind = GuestType.HVM if pvh else GuestType.PV
        domain = self.hypervisor.machine.create_domain(dom, vcpus, is_hvm=pvh)
        self.recorder.family(0, Kind.DOMAIN_CREATED, dom, ALL_VCPUS, vcpus, kind)
        self.stock.domain(0, dom, added=True)
        return domain

    def _add(self, name: str, kernel: K, pinned: tuple[int, ...]) -> K:
        """Give a kernel its vCPUs, spread over the pCPUs."""
        dom, allowed = kernel.dom, pinned or tuple(range(self.settings.pcpus))
        for model in kernel.domain.vcpus:
            first = (dom + model.vcpu_id) % len(allowed)
            cpu = VirtualCpu(self, kernel, model, allowed[first:] + allowed[:first])
            kernel.cpus.append(cpu)
            self.hypervisor.add(cpu)
            self.scheduler.add(cpu)
        self.welcome(kernel)
        self.kernels[dom], self.names[dom], self.logs[dom] = kernel, name, KernelLog()
        return kernel

    def fill_ports(self, kernel: Linux, below: int) -> None:
        """Let a guest hold all ports up to `below`, as one with more devices would."""

        def take() -> Task:
            while len(kernel.domain.ports) <= below or kernel.domain.port(below) is None:
                yield kernel.alloc_unbound(0)

        self.prepare(kernel, take())

    def prepare(self, kernel: Kernel, program: Task) -> None:
        """Run a program to its end before the recording begins."""
        self._start(kernel, program)
        self.engine.run()

    def _next_domid(self) -> int:
        return next(dom for dom in range(1, 1 << 15) if dom not in self.kernels)

    def destroy_domain(self, kernel: Kernel) -> None:
        """Destroy a domain; its vCPUs run no more."""
        dom = kernel.dom
        self.hypervisor.truth.destroyed(dom)
        self.scheduler.remove(dom)
        self.hypervisor.remove(dom)
        self.hypervisor.destroy_domain(dom)
        self.recorder.family(0, Kind.DOMAIN_DESTROYED, dom, 0xFFFF)
        self.stock.domain(0, dom, added=False)
        del self.kernels[dom]

    def start(self, kernel: Kernel, program: Task, vcpu: int = 0, *, after: float = 0.0) -> None:
        """Start a program on a vCPU when the recording begins, or `after` seconds later."""
        task = _delayed(kernel, program, after) if after else program
        if self.recording_since is None:
            self._starts.append((kernel, task, vcpu))
        else:
            self._start(kernel, task, vcpu)

    def _start(self, kernel: Kernel, task: Task, vcpu: int = 0) -> None:
        cpu = kernel.cpus[vcpu]
        cpu.spawn(task)
        self.engine.after(0, self.hypervisor.start_vcpu, cpu)

    # What kernels and programs need

    def mailbox(self) -> Mailbox:
        """Make a mailbox."""
        return Mailbox(self)

    def ask(self, asker: Kernel, kernel: Kernel, program: Task) -> Task:
        """Have a program run in another domain, as its administrator would; gives its result."""
        done = self.mailbox()
        self.start(kernel, _report(program, done))
        return (yield done.get(asker))

    def wake_by_timer(self, cpu: VirtualCpu, sleeper: Completion) -> None:
        """Let a vCPU's timer interrupt wake a sleeper now."""
        heappush(cpu.timers, (0, self.next_order(), sleeper))
        self.hypervisor.fire_timer(cpu)

    def next_call_id(self) -> int:
        """Give a call its number: 24 bits, never 0."""
        self._calls = self._calls % 0xFFFFFF + 1
        return self._calls

    def next_order(self) -> int:
        """Give a number that rises, to break ties."""
        self._orders += 1
        return self._orders

    def scripted(self, label: str) -> int | None:
        """Give the TSC that a scripted timing sets for `label`."""
        due = self.settings.timing.script.get(label)
        if due is None or self.recording_since is None:
            return None
        return self.recording_since + self.settings.timing.cycles(due * 1_000)

    def share_done(self) -> float:
        """Tell how far the run is, from 0 to 1, as far as the scenario or the limit says."""
        shares = [self.done / self.total] if self.total else [0.0]
        if self.engine.limit is not None and self.recording_since is not None:
            length = max(1, self.engine.limit - self.recording_since)
            shares.append((self.engine.now - self.recording_since) / length)
        return min(1.0, max(shares))

    def log(self, kernel: Kernel, text: str) -> None:
        """Take a line of a kernel's log."""
        tsc = self.recorder.stamp()
        vcpu = kernel.current.number
        line = encode_text(TextPurpose.LOG, text, dom=kernel.dom, vcpu=vcpu, tsc=tsc)
        self.recorder.write_facts(line)
        log = self.logs[kernel.dom]
        if len(log.lines) < MAX_LOG_LINES:
            log.lines.append(LogLine(tsc - (self.recording_since or 0), text))
        else:
            log.left_out += 1

    def kernel_time(self, dom: int, tsc: int) -> float:
        """Give the seconds that a kernel's clock shows at a TSC since the recording began."""
        start = self.settings.timing.kernel_clocks.get(self.names[dom], 0)
        return self.settings.timing.seconds(tsc) + start / 1_000_000

    def name_irq(self, dom: int, irq: int, name: str) -> None:
        """Take the name that a kernel gives an irq."""
        self.irq_names[dom, irq] = name
        text = f"{irq} {name}"
        tsc = self.recorder.stamp()
        self.recorder.write_facts(encode_text(TextPurpose.IRQ_NAME, text, dom=dom, tsc=tsc))

    # Faults

    def cycles_at(self, seconds: float) -> int:
        """Give the TSC `seconds` after the recording began, or will begin if that is now."""
        since = self.engine.now if self.recording_since is None else self.recording_since
        return since + (self.settings.timing.cycles(seconds * 1_000_000_000) if seconds else 0)

    def has_reached(self, seconds: float) -> bool:
        """Tell whether the recording has gone on for so long."""
        return self.recording_since is not None and self.engine.now >= self.cycles_at(seconds)

    def when_recording(self, seconds: float, act: "Callable[[], None]") -> None:
        """Have `act` done so long after the recording began."""
        if self.recording_since is None:
            self._to_do.append((seconds, act))
        elif seconds:
            self.engine.at(max(self.engine.now, self.cycles_at(seconds)), act)
        else:
            act()

    # Running

    def record_from_here(self) -> None:
        """Begin the recording now: a scenario that shows domains starting asks for this itself."""
        if self.recording_since is None:
            self.on_record()
            self.hypervisor.truth.record_from_here()
            self.recording_since = self.engine.now
            for seconds, act in self._to_do:
                if seconds:
                    self.engine.at(self.cycles_at(seconds), act)
                else:
                    act()
            for kernel, task, vcpu in self._starts:
                self._start(kernel, task, vcpu)
            self._starts.clear()


def _report(program: Task, done: Mailbox) -> Task:
    done.put((yield program))


def _delayed(kernel: Kernel, program: Task, seconds: float) -> Task:
    yield kernel.sleep(seconds)
    return (yield program)
