"""Function calls across vCPUs by IPI, after kernel/smp.c."""

from collections import deque
from typing import TYPE_CHECKING, Final

from evtrace.tracer.emulator.steps import Completion

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab, Mailbox
    from evtrace.tracer.emulator.linux import Handler, Linux
    from evtrace.tracer.emulator.steps import Task

_THINK_NS: Final = 20_000
"""What a thread does between two calls."""
_CALL_NS: Final = 1_000
"""What the function called takes."""


def ipi(lab: "Lab", *, vcpus: int = 4, calls: int = 25) -> None:
    """Each vCPU of a domain has functions called on the others, and waits until they have run.

    vcpus: of the domain.
    calls: so many each vCPU asks for.
    """
    linux = lab.domain("domU", vcpus=vcpus)
    smp = _Smp(linux)
    ready = lab.mailbox()
    lab.total = vcpus * calls
    lab.start(linux, smp.bind(ready))
    for vcpu in range(vcpus):
        lab.start(linux, smp.call_others(vcpu, calls, ready), vcpu)


class _Smp:
    """A queue of calls and an IPI for each vCPU."""

    def __init__(self, linux: "Linux") -> None:
        self._linux = linux
        self._vcpus = len(linux.cpus)
        self._irqs: list[int] = []
        self._queues: list[deque[Completion]] = [deque() for _ in linux.cpus]
        """Who waits for a call; at most one call of each vCPU."""

    def bind(self, ready: "Mailbox") -> "Task":
        """Bind an IPI for each vCPU; no call is made before all are there."""
        for vcpu in range(self._vcpus):
            name = f"call{vcpu}"
            irq = yield self._linux.bind_ipi_to_irqhandler(vcpu, self._handler(vcpu), name)
            self._irqs.append(irq)
        ready.put(None)

    def call_others(self, vcpu: int, calls: int, ready: "Mailbox") -> "Task":
        """Call a function on the other vCPUs in turn; alone, on itself."""
        yield ready.get(self._linux)
        finished = Completion()
        for number in range(calls):
            yield _THINK_NS
            target = (vcpu + 1 + number % max(1, self._vcpus - 1)) % self._vcpus
            yield self._call(target, finished)
            self._linux.lab.done += 1

    def _call(self, target: int, finished: Completion) -> "Task":
        queue = self._queues[target]
        queue.append(finished)
        if len(queue) == 1:  # whoever found the queue empty has sent, or is about to
            yield self._linux.notify_remote_via_irq(self._irqs[target])
        yield self._linux.wait_for_completion(finished)

    def _handler(self, vcpu: int) -> "Handler":
        queue = self._queues[vcpu]

        def run_calls(irq: int) -> "Task":
            del irq
            while queue:
                finished = queue.popleft()
                yield _CALL_NS
                yield self._linux.complete(finished)

        return run_calls
