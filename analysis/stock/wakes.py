"""Wake-ups by who woke whom and by what means: counts, and how long each step of the chain took."""

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from enum import StrEnum, unique

from evtrace.analysis.stock.chains import Chain, is_span
from evtrace.analysis.stock.names import XEN, is_idle, means_name, vcpu_name
from evtrace.analysis.stock.sketch import Sketch


@unique
class WakeStep(StrEnum):
    """A step of the chain from what led to a wake-up to the guest that takes it."""

    TO_WAKE = "trigger→wake"
    """From the hypercall, the VM exit or the start of the interrupt to the wake-up."""
    TO_RUN = "wake→running"
    """Until the vCPU has a pCPU: the scheduler's part."""
    TO_ENTRY = "running→entry"
    """Until the VM entry (HVM)."""
    TO_PV_RECORD = "running→PV, at most"
    """Until its first record as a PV guest: its upcall began before that."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Who woke whom: a vCPU, an interrupt of the host, or Xen for reasons of its own."""

    waker: int | None
    """Packed vCPU; None if it was none, or (with `by`) if it is not known."""
    by: int | None
    irq: int | None
    target: int
    suspect: int | None = None
    """The domain that ran where nothing explains the wake-up; its hypercalls may be missing."""

    @property
    def text(self) -> str:
        """Name the pair: `d0v1→d1v0`, `irq 29→d0v0`, `xen→d1v0`."""
        source = XEN if self.by is None and self.suspect is None else vcpu_name(self.waker)
        source = source if self.irq is None else f"irq {self.irq}"
        return f"{source}→{vcpu_name(self.target)}"

    @property
    def is_across_domains(self) -> bool:
        """Tell whether a vCPU of another domain did it."""
        return self.waker is not None and self.waker >> 16 != self.target >> 16

    @property
    def means(self) -> str:
        """Name by what means."""
        if self.suspect is not None:
            return f"no hypercalls of d{self.suspect}"
        return means_name(self.by) if self.irq is None else "interrupt"


@dataclass(slots=True)
class Woken:
    """The wake-ups of one pair."""

    count: int = 0
    without_effect: int = 0
    """The target did not sleep."""
    excluded: int = 0
    """Records were lost, or out of order, in between: the chain is not measured."""
    vectors: Counter[int] = field(default_factory=Counter)
    """Injected at the entry (HVM)."""
    steps: dict[WakeStep, Sketch] = field(default_factory=lambda: defaultdict(Sketch))

    def merge(self, other: "Woken") -> None:
        """Add the wake-ups of another pair."""
        self.count += other.count
        self.without_effect += other.without_effect
        self.excluded += other.excluded
        self.vectors.update(other.vectors)
        for step, sketch in other.steps.items():
            self.steps[step].merge(sketch)

    def measure(self, step: WakeStep, start: int | None, end: int | None) -> None:
        """Take how long a step took, if both its ends were seen."""
        if start is not None and end is not None and is_span(start, end):
            self.steps[step].add(end - start, end)


class Wakes:
    """The sum of all chains, pair by pair."""

    def __init__(self) -> None:
        """Start with none."""
        self._pairs: dict[Pair, Woken] = defaultdict(Woken)
        self.all = Woken()
        """wake→running of all of them."""

    def take(self, chain: Chain) -> None:
        """Count one chain and measure what of it was seen."""
        woken = self._pairs[_pair(chain)]
        woken.count += 1
        if chain.by is not None or chain.irq is not None:
            woken.measure(WakeStep.TO_WAKE, chain.led_tsc, chain.tsc)
        if chain.excluded:
            woken.excluded += 1
            return
        if not chain.effective:
            woken.without_effect += 1
            return
        woken.measure(WakeStep.TO_RUN, chain.tsc, chain.running_tsc)
        self.all.measure(WakeStep.TO_RUN, chain.tsc, chain.running_tsc)
        woken.measure(WakeStep.TO_ENTRY, chain.running_tsc, chain.entry_tsc)
        woken.measure(WakeStep.TO_PV_RECORD, chain.running_tsc, chain.bound_tsc)
        if chain.vector is not None:
            woken.vectors[chain.vector] += 1

    def pairs(self, calling: Collection[int]) -> dict[Pair, Woken]:
        """Give all pairs; in the domains `calling`, hypercalls were recorded.

        Where one of them ran, Xen itself woke what no record explains.
        """
        pairs: dict[Pair, Woken] = defaultdict(Woken)
        for pair, woken in self._pairs.items():
            known = replace(pair, suspect=None) if pair.suspect in calling else pair
            pairs[known].merge(woken)
        return dict(pairs)


def _pair(chain: Chain) -> Pair:
    runner = chain.runner
    if chain.irq is not None or (runner is not None and is_idle(runner)):
        return Pair(None, None, chain.irq, chain.target)
    if chain.by is not None:
        return Pair(runner, chain.by, None, chain.target)
    return Pair(None, None, None, chain.target, None if runner is None else runner >> 16)
