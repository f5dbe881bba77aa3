"""One quantity of both traces, with how it compares: what every kind of comparison comes to."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, unique
from math import exp, inf, isfinite, log, sqrt
from typing import Final

from evtrace.analysis.diff.blocks import Sureness
from evtrace.analysis.diff.intervals import Interval, difference, ratio

FEWEST: Final = 30
"""Values that either side must have: of fewer, no interval can be trusted."""

IGNORED: Final = 0.05
"""A smaller change is not told, however sure it is, unless the user wants it."""

SELDOM: Final = 1.645
"""Standard errors that a change must exceed its interval by to be missed once in 20 times only."""


@unique
class Scale(StrEnum):
    """What a change is measured by."""

    TIME = "time"
    """Nanoseconds; the change is how many times B is A."""
    SHARE = "share"
    """Between 0 and 1; the change is B less A."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A quantity in both traces, and the interval in which its change lies."""

    part: str
    """A channel, or a domain, in A's numbers."""
    quantity: str
    """As a rule of `evtrace check` writes it: `p50(send→handler)`, `spurious.L3`."""
    scale: Scale
    count_a: int
    """Values that A has of it."""
    count_b: int
    a: float
    b: float
    change: Interval
    is_told: bool
    """The change is more than noise, and more than what is ignored."""
    seen_from: float
    """The smallest change that would have been told 19 times in 20; infinite: none."""

    @property
    def rises(self) -> bool:
        """Whether B has more of it."""
        return self.b > self.a

    @property
    def size(self) -> float:
        """How large the change is, to order by: the surely changed part of it."""
        if self.scale is Scale.SHARE:
            return min(abs(self.change.low), abs(self.change.high))
        nearer = self.change.low if self.rises else self.change.high
        return abs(log(nearer)) if 0 < nearer < inf else 0.0


@dataclass(frozen=True, slots=True)
class Pair:
    """A quantity that can be compared, before it is known how many others there are."""

    part: str
    quantity: str
    scale: Scale
    count_a: int
    count_b: int
    intervals: Callable[[Sureness], tuple[Interval, Interval]]
    """Bound it in A and in B."""
    resolution: float = 0.0
    """A smaller difference of times means nothing."""

    def compare(self, sure: Sureness, ignored: float) -> Compared:
        """Compare it as one of many; a change below the share `ignored` is not told."""
        a, b = self.intervals(sure)
        counts = self.count_a, self.count_b
        if self.scale is Scale.SHARE:
            change = difference(a, b)
            sure_of_it = not change.low <= 0 <= change.high
            large = abs(change.value) >= ignored * max(a.value, b.value)
            seen_from = _share_seen_from(a, b, sure)
        else:
            change = ratio(a, b)
            sure_of_it = not change.low <= 1 <= change.high
            large = max(change.value, 1 / change.value) >= 1 + ignored
            large &= abs(b.value - a.value) >= self.resolution
            seen_from = max(1 + ignored, _time_seen_from(a, b, sure))
        told = sure_of_it and large
        where = self.part, self.quantity, self.scale
        return Compared(*where, *counts, a.value, b.value, change, told, seen_from)


def _time_seen_from(a: Interval, b: Interval, sure: Sureness) -> float:
    """Give the slowdown that an interval as wide as this one would leave outside."""
    up = log(a.high / a.value) if isfinite(a.high) else inf
    down = log(b.value / b.low) if b.low > 0 else inf
    reach = sqrt(up**2 + down**2)
    margin = reach * (1 + SELDOM / sure.limit(100.0))
    return exp(margin) if margin < 100 else inf


def _share_seen_from(a: Interval, b: Interval, sure: Sureness) -> float:
    reach = sqrt((a.high - a.value) ** 2 + (b.value - b.low) ** 2)
    return reach * (1 + SELDOM / sure.limit(100.0))
