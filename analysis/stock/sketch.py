"""A sketch of many durations: counts in log-linear buckets, 64 to the octave.

Its size depends on the range of the values, not on their number; two of them add up to the sketch
of both. A value is told to within 1/128 of itself; the largest, and where it was, exactly.
"""

from collections import Counter
from dataclasses import dataclass, field

import polars as pl

PER_OCTAVE_BITS = 6
"""64 buckets to the octave; below 128 each value has its own."""


def bucket_of(value: int) -> int:
    """Give the bucket of a value, which is not negative."""
    shift = max(value.bit_length() - PER_OCTAVE_BITS - 1, 0)
    return (shift << PER_OCTAVE_BITS) + (value >> shift)


def bucket_expr(value: pl.Expr) -> pl.Expr:
    """Give `bucket_of` of an Int64 column."""
    shift = (63 - PER_OCTAVE_BITS - value.bitwise_leading_zeros().cast(pl.Int64)).clip(0)
    return shift * (1 << PER_OCTAVE_BITS) + value // pl.lit(2, pl.Int64).pow(shift)


def bucket_bounds(bucket: int) -> tuple[int, int]:
    """Give the lowest and the highest value of a bucket."""
    shift = max((bucket >> PER_OCTAVE_BITS) - 1, 0)
    low = (bucket - (shift << PER_OCTAVE_BITS)) << shift
    return low, low + (1 << shift) - 1


@dataclass(slots=True)
class Sketch:
    """Durations in one unit; `max_at` is where the longest ended."""

    buckets: Counter[int] = field(default_factory=Counter)
    count: int = 0
    max: int | None = None
    max_at: int | None = None

    def add(self, value: int, at: int) -> None:
        """Take one duration, which ended `at`."""
        self.buckets[bucket_of(value)] += 1
        self.count += 1
        if self.max is None or value > self.max:
            self.max, self.max_at = value, at

    def add_bucket(self, bucket: int, count: int) -> None:
        """Take `count` durations of a bucket; `see` tells the longest."""
        self.buckets[bucket] += count
        self.count += count

    def see(self, value: int, at: int) -> None:
        """Take note of a duration that was counted elsewhere."""
        if self.max is None or (value, -at) > (self.max, -(self.max_at or 0)):
            self.max, self.max_at = value, at

    def merge(self, other: "Sketch") -> None:
        """Add another sketch to this one."""
        self.buckets.update(other.buckets)
        self.count += other.count
        if other.max is not None and other.max_at is not None:
            self.see(other.max, other.max_at)

    def quantile(self, q: float) -> int | None:
        """Give the value at quantile `q` (nearest rank); None if there is no value."""
        if not self.count or self.max is None:
            return None
        rank = round(q * (self.count - 1))
        for bucket in sorted(self.buckets):
            rank -= self.buckets[bucket]
            if rank < 0:
                return min(sum(bucket_bounds(bucket)) // 2, self.max)
        return self.max
