"""Whether the pCPUs' TSCs agree, as the changes of runstate tell: each starts where one ended."""

from dataclasses import dataclass, field
from enum import Enum, unique
from typing import NamedTuple

import polars as pl


class Change(NamedTuple):
    """A vCPU's change of runstate."""

    vcpu: int
    tsc: int
    pcpu: int
    old: int
    new: int


@unique
class Follows(Enum):
    """How a change stands to the one before it."""

    YES = "it starts where the other ended"
    NO = "it does not"
    BEFORE = "it happened before the other, which its pCPU's TSC stamped earlier"


@dataclass(slots=True)
class _Ahead:
    count: int = 0
    cycles: int = 0
    at_tsc: int = 0


@dataclass(slots=True)
class Order:
    """Changes that do not follow from the one before; they are reported, nothing is repaired.

    Two changes of one vCPU that make sense the other way round were stamped by TSCs of which one
    is ahead: by at least the time between the two.
    """

    unexplained: int = 0
    """Changes that do not follow in either order."""
    _ahead: dict[tuple[int, int], _Ahead] = field(default_factory=dict)
    """(pCPU ahead, pCPU behind)."""
    _odd: dict[int, tuple[Change, int]] = field(default_factory=dict)
    """By vCPU: a change that did not follow, and the state it should have started from."""

    @property
    def swapped(self) -> int:
        """Count the pairs of changes that make sense only the other way round."""
        return sum(ahead.count for ahead in self._ahead.values())

    def check(self, change: Change, state: int) -> Follows:
        """Hold a change against the vCPU's state before."""
        if self._odd and self._was_before(change):
            return Follows.BEFORE
        if change.old == state:
            return Follows.YES
        self.unexplained += 1
        self._odd[change.vcpu] = change, state
        return Follows.NO

    def _was_before(self, change: Change) -> bool:
        """Tell whether a change belongs before the last one of its vCPU, which did not follow."""
        odd, should_be = self._odd.pop(change.vcpu, (None, None))
        if odd is None or change.pcpu == odd.pcpu:
            return False
        if change.old != should_be or change.new != odd.old:
            return False
        self.unexplained -= 1
        self._swap(change, odd)
        return True

    def forget(self) -> None:
        """Expect nothing: records were lost."""
        self._odd.clear()

    def _swap(self, first: Change, second: Change) -> None:
        """Take note that `first`, stamped later, happened before `second`."""
        ahead = self._ahead.setdefault((first.pcpu, second.pcpu), _Ahead())
        ahead.count += 1
        if first.tsc - second.tsc >= ahead.cycles:
            ahead.cycles, ahead.at_tsc = first.tsc - second.tsc, first.tsc

    def frame(self) -> pl.DataFrame:
        """Give `pcpu` whose TSC is `ahead_of` another, `count`, `at_least_cycles`, `at_tsc`."""
        rows = [
            (pcpu, other, ahead.count, ahead.cycles, ahead.at_tsc)
            for (pcpu, other), ahead in sorted(self._ahead.items())
        ]
        return pl.DataFrame(
            rows,
            {
                "pcpu": pl.Int32,
                "ahead_of": pl.Int32,
                "count": pl.Int64,
                "at_least_cycles": pl.Int64,
                "at_tsc": pl.Int64,
            },
            orient="row",
        )
