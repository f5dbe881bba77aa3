"""Whether the pCPUs' TSCs agree, as the changes of runstate tell: each starts where one ended."""

from collections import defaultdict
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
    BEFORE = "it makes sense before the other, which has the earlier TSC"


@dataclass(slots=True)
class _Disagreement:
    """Between the records of two pCPUs."""

    odd: int = 0
    ahead: list[int] = field(default_factory=lambda: [0, 0])
    """How often the first, the second pCPU's TSC was ahead."""
    cycles: list[int] = field(default_factory=lambda: [0, 0])
    """By how much at least."""
    at_tsc: int = 0
    """Of the first change that does not follow."""


@dataclass(slots=True)
class Order:
    """Changes that do not follow from the one before; they are reported, nothing is repaired.

    Two changes of one vCPU that make sense the other way round were stamped by TSCs of which one
    is ahead, by at least the time between the two. Which one is certain only while the skew is
    shorter than the times between a vCPU's changes: beyond that both seem to be.
    """

    _pairs: dict[tuple[int, int], _Disagreement] = field(
        default_factory=lambda: defaultdict(_Disagreement)
    )
    _odd: dict[int, tuple[Change, int, _Disagreement]] = field(default_factory=dict)
    """By vCPU: a change that did not follow, the state it should have started from, its pair."""

    @property
    def odd(self) -> int:
        """Count the changes that do not follow from the one before."""
        return sum(pair.odd for pair in self._pairs.values())

    def check(self, change: Change, state: int) -> Follows:
        """Hold a change against the vCPU's state before."""
        if self._odd and self._was_before(change):
            return Follows.BEFORE
        return Follows.YES if change.old == state else Follows.NO

    def blame(self, change: Change, state: int, pcpu: int) -> None:
        """Count a change that does not follow from `state`, which `pcpu` recorded."""
        pair = self._pair(pcpu, change.pcpu)
        pair.odd += 1
        pair.at_tsc = pair.at_tsc or change.tsc
        self._odd[change.vcpu] = change, state, pair

    def _was_before(self, change: Change) -> bool:
        """Tell whether a change belongs before the last one of its vCPU, which did not follow."""
        if change.vcpu not in self._odd:
            return False
        odd, should_be, blamed = self._odd.pop(change.vcpu)
        swapped = (change.old, change.new) == (should_be, odd.old)
        if change.pcpu == odd.pcpu or not swapped:
            return False
        pair = self._pair(odd.pcpu, change.pcpu)
        blamed.odd -= 1
        pair.odd += 1
        pair.at_tsc = pair.at_tsc or odd.tsc
        which = int(change.pcpu > odd.pcpu)
        pair.ahead[which] += 1
        pair.cycles[which] = max(pair.cycles[which], change.tsc - odd.tsc)
        return True

    def _pair(self, one: int, other: int) -> _Disagreement:
        return self._pairs[min(one, other), max(one, other)]

    def forget(self) -> None:
        """Expect nothing: records were lost."""
        self._odd.clear()

    def frame(self) -> pl.DataFrame:
        """Give one row a pair of pCPUs: how many changes are odd, and whose TSC was ahead.

        `other` is null where the record before was the same pCPU's: one is missing in between.
        """
        rows = [
            (
                pcpu,
                None if pcpu == other else other,
                pair.odd,
                *_either(pair, 0),
                *_either(pair, 1),
                pair.at_tsc,
            )
            for (pcpu, other), pair in sorted(self._pairs.items())
            if pair.odd
        ]
        columns = (
            "pcpu",
            "other",
            "out_of_order",
            "pcpu_ahead",
            "at_least_cycles",
            "other_ahead",
            "other_at_least_cycles",
            "first_at_tsc",
        )
        return pl.DataFrame(rows, dict.fromkeys(columns, pl.Int64), orient="row")


def _either(pair: _Disagreement, which: int) -> tuple[int | None, int | None]:
    if not pair.ahead[which]:
        return None, None
    return pair.ahead[which], pair.cycles[which]
