"""Wake chains, waits in the run queue and round trips: what the machine finds, as values."""

from dataclasses import dataclass
from typing import Final

LONGEST: Final = 1 << 52
"""Cycles, weeks of them: what seems to take longer, or to end before it begins, is damage."""


def is_span(start: int, end: int) -> bool:
    """Tell whether two times can be the start and the end of something."""
    return 0 <= end - start <= LONGEST


@dataclass(slots=True)
class Chain:
    """One SCHED_WAKE and what followed from it; times in host TSC, None where not seen."""

    tsc: int
    pcpu: int
    target: int
    """The vCPU that is woken, packed."""
    runner: int | None
    """Who ran on the pCPU where it was woken."""
    by: int | None
    """By what means the runner did it (`names.means_name`); None: Xen did."""
    led_tsc: int | None = None
    """When the runner did."""
    irq: int | None = None
    """The host's interrupt in which it happened."""
    effective: bool = False
    """It slept, and became runnable."""
    running_tsc: int | None = None
    vector: int | None = None
    """What was injected when it entered (HVM)."""
    entry_tsc: int | None = None
    """Its VM entry after that (HVM)."""
    bound_tsc: int | None = None
    """Its first record as a PV guest after that: its upcall had begun by then."""
    excluded: bool = False
    """Records were lost, or out of order, before it ran."""
    settled: bool = False
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """A vCPU was runnable for a time, then ran; `held` says who had that pCPU for how long."""

    vcpu: int
    start: int
    end: int
    held: list[tuple[int | str, int]]
    """Packed vCPU, or `xen`, `not known` -> cycles."""


@dataclass(frozen=True, slots=True)
class Round:
    """`caller` notified `answerer`, which notified it in turn before it slept again."""

    caller: int
    answerer: int
    start: int
    reply: int
    end: int | None
    """When the one that the reply woke ran; None if a side was awake: no wake-up shows it."""

    @property
    def inferred(self) -> bool:
        """Tell a round trip of which one notification woke nobody, as its target was awake."""
        return self.end is None
