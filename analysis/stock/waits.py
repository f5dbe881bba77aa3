"""Time in the run queue: how long vCPUs waited for a pCPU, and who held it meanwhile."""

from collections import defaultdict
from dataclasses import dataclass, field

from evtrace.analysis.stock.chains import Wait
from evtrace.analysis.stock.names import IDLE, is_idle, vcpu_name
from evtrace.analysis.stock.sketch import Sketch


@dataclass(slots=True)
class Held:
    """How long a holder kept a waiting vCPU from its pCPU."""

    waits: int = 0
    cycles: int = 0
    max: int = 0
    max_at: int = 0

    def add(self, cycles: int, at: int) -> None:
        """Take the holder's part of one wait, which ended `at`."""
        self.waits += 1
        self.cycles += cycles
        if cycles > self.max:
            self.max, self.max_at = cycles, at


@dataclass(slots=True)
class Queued:
    """All waits of one vCPU."""

    whole: Sketch = field(default_factory=Sketch)
    cycles: int = 0
    by_holder: dict[str, Held] = field(default_factory=lambda: defaultdict(Held))


class Waits:
    """The sum of all waits, vCPU by vCPU."""

    def __init__(self) -> None:
        """Start with none."""
        self.vcpus: dict[int, Queued] = defaultdict(Queued)

    def take(self, wait: Wait) -> None:
        """Add one wait."""
        queued = self.vcpus[wait.vcpu]
        queued.whole.add(wait.end - wait.start, wait.end)
        queued.cycles += wait.end - wait.start
        for holder, cycles in wait.held:
            queued.by_holder[_name(holder)].add(cycles, wait.end)


def _name(holder: int | str) -> str:
    if isinstance(holder, str):
        return holder
    return IDLE if is_idle(holder) else vcpu_name(holder)
