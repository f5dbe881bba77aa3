"""How far the mean of a time series may be off, its values being correlated: moving blocks.

Events come in bursts, so n values in order of time say less than n independent ones. A moving-block
bootstrap draws whole blocks of neighbours. The mean of such a resample is a mean of independent
draws, so its variance follows from the blocks' means and need not be drawn (Künsch 1989). How long
a block must be is read off the series' autocorrelations (Politis and White 2004).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import cbrt, ceil, fsum, log10, sqrt
from operator import mul
from statistics import NormalDist
from typing import Final

LONGEST: Final = 4096
"""A longer series is first cut into so many groups of neighbours, which keep its slow changes."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How much the values of a series vary, and how much of that is common to neighbours."""

    count: int
    mean: float
    variance: float
    """Of a single value."""
    effect: float
    """So many times the variance of independent values has their mean; at least 1."""
    blocks: float
    """So many blocks are independent of each other."""

    @property
    def effective(self) -> float:
        """So many independent values tell as much."""
        return self.count / self.effect

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return sqrt(self.variance / self.effective)


def spread_of(values: Sequence[float]) -> Spread:
    """Measure the spread of a series in order of time; it has at least two values."""
    count = len(values)
    mean = sum(values) / count
    variance = _variance(values, mean)
    groups = _grouped(values)
    length = block_length(groups)
    independent = variance / count
    found = _variance_of_mean(groups, length)
    effect = max(1.0, found / independent) if independent else 1.0
    return Spread(count, mean, variance, effect, len(groups) / length)


def _grouped(values: Sequence[float]) -> Sequence[float]:
    size = ceil(len(values) / LONGEST)
    if size == 1:
        return values
    starts = range(0, len(values) - size + 1, size)
    return [sum(values[start : start + size]) / size for start in starts]


def _variance(values: Sequence[float], mean: float) -> float:
    deviations = [value - mean for value in values]
    return fsum(map(mul, deviations, deviations)) / (len(values) - 1)


def _variance_of_mean(values: Sequence[float], length: int) -> float:
    """Give the variance that the mean has over all resamples of blocks of a length."""
    count = len(values)
    if length == 1:
        return _variance(values, sum(values) / count) / count
    sums = [0.0, *accumulate(values)]
    means = [(sums[at + length] - sums[at]) / length for at in range(count - length + 1)]
    of_block = _variance(means, sum(means) / len(means))
    return of_block * length / (count - length)


def block_length(values: Sequence[float]) -> int:
    """Give the length of blocks that hold what is correlated; 1 for independent values."""
    count = len(values)
    mean = sum(values) / count
    deviations = [value - mean for value in values]
    whole = sum(map(mul, deviations, deviations))
    if count < _FEWEST or not whole:
        return 1
    longest = max(1, min(ceil(3 * sqrt(count)), count // 3))
    found = _correlations(deviations, whole, longest)
    reach = 2 * _last_that_counts(found, count)
    if not reach:
        return 1
    weighted = [(lag, _flat_top(lag / reach) * found[lag]) for lag in range(1, len(found))]
    density = 1 + 2 * sum(value for _, value in weighted)
    slope = 2 * sum(lag * value for lag, value in weighted)
    if density <= 0:
        return 1
    best = cbrt(1.5 * (slope / density) ** 2 * count)
    return max(1, min(ceil(best), longest))


_FEWEST: Final = 8
"""Of fewer values no correlation can be told."""


def _correlations(deviations: Sequence[float], whole: float, longest: int) -> list[float]:
    """Give the autocorrelations, as far as they are needed: to where several in a row are none."""
    count = len(deviations)
    quiet, needed = 0, _quiet_lags(count)
    found = [1.0]
    limit, end = _limit(count), min(2 * longest, count - 2)
    for lag in range(1, end + 1):
        found.append(sum(map(mul, deviations, deviations[lag:])) / whole)
        quiet = quiet + 1 if abs(found[-1]) < limit else 0
        if quiet == needed:
            end_of_sum = 2 * (lag - quiet)
            more = range(lag + 1, min(end_of_sum, count - 2) + 1)
            found += [sum(map(mul, deviations, deviations[far:])) / whole for far in more]
            break
    return found


def _last_that_counts(found: Sequence[float], count: int) -> int:
    """Give the last lag before several in a row without correlation."""
    limit, needed = _limit(count), _quiet_lags(count)
    quiet = 0
    for lag in range(1, len(found)):
        quiet = quiet + 1 if abs(found[lag]) < limit else 0
        if quiet == needed:
            return lag - quiet
    return max(1, len(found) // 2)


def _quiet_lags(count: int) -> int:
    return max(5, ceil(sqrt(log10(count))))


def _limit(count: int) -> float:
    return 2 * sqrt(log10(count) / count)


def _flat_top(share: float) -> float:
    """Weigh a lag by its share of the longest: fully up to a half, then ever less."""
    return 1.0 if share <= 0.5 else max(0.0, 2 * (1 - share))


@dataclass(frozen=True, slots=True)
class Sureness:
    """How sure each of many comparisons must be, so that all of them together are 95 % sure."""

    comparisons: int
    risk: float = 0.05
    """How often at least one difference may be told where there is none."""

    def limit(self, blocks: float) -> float:
        """Give how many standard errors an interval reaches to either side (Student's t)."""
        tail = self.risk / (2 * max(1, self.comparisons))
        z = NormalDist().inv_cdf(1 - tail)
        freedom = max(blocks - 1, 1.5)
        return (
            z
            + (z**3 + z) / (4 * freedom)
            + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
            + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
        )
