"""Intervals of means, quantiles and shares of two series, and of how they compare.

Each side has its interval; the two are joined into one of the ratio or the difference as if the
sides were independent (the method of variance estimates recovery), which keeps lopsided intervals
lopsided. Quantiles are bounded by the ranks that their place in a resample can have (Woodruff).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, inf, log, sqrt
from typing import Final

from evtrace.analysis.diff.blocks import Spread, Sureness


@dataclass(frozen=True, slots=True)
class Interval:
    """A value, and between what it lies."""

    value: float
    low: float
    high: float

    def widened(self, by: float) -> "Interval":
        """Give it with an error that no number of values makes smaller."""
        return Interval(self.value, self.low - by, self.high + by)


def mean_interval(spread: Spread, sure: Sureness) -> Interval:
    """Bound the mean of a series."""
    reach = sure.limit(spread.blocks) * spread.error
    return Interval(spread.mean, spread.mean - reach, spread.mean + reach)


def quantile_interval(
    ordered: Sequence[float], share: float, below: Spread, sure: Sureness
) -> Interval:
    """Bound a quantile of sorted values; `below` is the spread of being at or below it.

    An end is infinite where so few values cannot tell.
    """
    count, effective = len(ordered), below.effective
    limit = sure.limit(below.blocks)
    middle = effective * share + (limit**2 - 1) * (1 - 2 * share) / 6
    reach = limit * sqrt(effective * share * (1 - share)) + 0.5
    first = floor((middle - reach) / effective * count) - 1
    last = ceil((middle + reach) / effective * count)
    return Interval(
        ordered[nearest(count, share)],
        ordered[first] if first >= 0 else -inf,
        ordered[last] if last < count else inf,
    )


def nearest(count: int, share: float) -> int:
    """Give the place of a quantile among sorted values, as the report's tables have it."""
    return round((count - 1) * share)


def share_interval(hits: int, count: int, effect: float, limit: float) -> Interval:
    """Bound a share (Wilson); `effect` is how many values tell as much as an independent one."""
    effective = count / effect
    share = hits / count
    scale = 1 + limit**2 / effective
    middle = (share + limit**2 / (2 * effective)) / scale
    reach = limit * sqrt(share * (1 - share) / effective + (limit / (2 * effective)) ** 2) / scale
    return Interval(
        share, max(0.0, min(share, middle - reach)), min(1.0, max(share, middle + reach))
    )


def ratio(was: Interval, is_: Interval) -> Interval:
    """Bound how many times the second is the first; both values are above 0."""
    value = log(is_.value / was.value)
    down = sqrt(_log(is_.value, is_.low) ** 2 + _log(was.high, was.value) ** 2)
    up = sqrt(_log(is_.high, is_.value) ** 2 + _log(was.value, was.low) ** 2)
    return Interval(_exp(value), _exp(value - down), _exp(value + up))


def difference(was: Interval, is_: Interval) -> Interval:
    """Bound by how much the second is more than the first."""
    value = is_.value - was.value
    down = sqrt((is_.value - is_.low) ** 2 + (was.high - was.value) ** 2)
    up = sqrt((is_.high - is_.value) ** 2 + (was.value - was.low) ** 2)
    return Interval(value, value - down, value + up)


_LARGEST: Final = 700.0
"""The logarithm of what is about the largest float."""


def _log(more: float, less: float) -> float:
    """Give the logarithm of a ratio; infinite where the lower end is not above 0."""
    return inf if less <= 0 or more == inf else log(more / less)


def _exp(value: float) -> float:
    if value > _LARGEST:
        return inf
    return 0.0 if value < -_LARGEST else 2.718281828459045**value
