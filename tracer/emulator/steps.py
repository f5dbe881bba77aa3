"""What a kernel's code yields to the vCPU that executes it.

A number is nanoseconds that pass; a generator is called, and its result is the value of the
`yield`; a `Step` is begun. Everything that guests do is made of these.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeAlias

from evtrace.xen.abi import EvtchnOp
from evtrace.xen.machine import Answer

if TYPE_CHECKING:
    from evtrace.tracer.emulator.vcpu import Thread, VirtualCpu

Task: TypeAlias = Generator[Any, Any, Any]
"""Code of a guest: it yields nanoseconds, steps or other tasks, and gets their results."""


class GuestError(Exception):
    """A hypercall of a guest program was refused; programs may catch it as drivers do."""

    def __init__(self, op: EvtchnOp, args: tuple[int, ...], ret: int) -> None:
        """Name the call and what Xen answered."""
        super().__init__(f"{op.name.lower()}{args} = {ret}")
        self.ret = ret


class Step(ABC):
    """Something that takes the vCPU out of its plain way."""

    @abstractmethod
    def begin(self, cpu: "VirtualCpu") -> bool:
        """Begin; True if the vCPU goes on only later, when somebody lets it."""


class Hypercall(Step):
    """Xen is called: `perform` runs inside it, and its answer is the value of the `yield`."""

    __slots__ = ("is_hlt", "number", "perform", "shown", "subcalls")

    def __init__(
        self,
        number: int,
        perform: Callable[[], Answer],
        shown: dict[int, int] | None = None,
        subcalls: tuple[int, ...] = (),
        *,
        is_hlt: bool = False,
    ) -> None:
        self.number = number
        self.perform = perform
        self.shown = shown or {}
        """Arguments that xentrace records, by index."""
        self.subcalls = subcalls
        """Hypercalls inside a multicall."""
        self.is_hlt = is_hlt
        """An HVM guest comes by HLT instead."""

    def begin(self, cpu: "VirtualCpu") -> bool:
        """Set out for Xen."""
        cpu.call_xen(self)
        return True


class Until(Step):
    """The vCPU is busy up to a TSC."""

    __slots__ = ("tsc",)

    def __init__(self, tsc: int) -> None:
        self.tsc = tsc

    def begin(self, cpu: "VirtualCpu") -> bool:
        """Be busy, unless the time has passed."""
        return cpu.busy_until(self.tsc)


class Completion:
    """Something that threads wait for; told before anybody waits, it is kept."""

    __slots__ = ("done", "threads")

    def __init__(self) -> None:
        self.done: deque[Any] = deque()
        """Values told to nobody yet."""
        self.threads: deque[Thread] = deque()
        """Threads that wait, the first one in front."""


class Wait(Step):
    """The thread waits for a completion; the value told there is that of the `yield`."""

    __slots__ = ("completion",)

    def __init__(self, completion: Completion) -> None:
        self.completion = completion

    def begin(self, cpu: "VirtualCpu") -> bool:
        """Leave the vCPU to others, unless it is complete already."""
        if self.completion.done:
            cpu.give(self.completion.done.popleft())
        else:
            self.completion.threads.append(cpu.set_thread_aside())
        return False
