"""Sets of closed intervals of integers: what is left of a clock's offset after each constraint.

A set is a list of disjoint intervals in ascending order, made by `union`.
"""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise

Interval = tuple[int, int]

FOREVER = 1 << 62


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """Join intervals that overlap or touch; those that end before they begin are empty."""
    joined: list[Interval] = []
    for lo, hi in sorted(intervals):
        if lo > hi:
            continue
        if joined and lo <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], hi))
        else:
            joined.append((lo, hi))
    return joined


def intersection(one: list[Interval], other: list[Interval]) -> list[Interval]:
    """Intersect two sets; quick if `one` is the shorter."""
    found: list[Interval] = []
    for lo, hi in one:
        place = bisect_left(other, lo, key=lambda interval: interval[1])
        while place < len(other) and other[place][0] <= hi:
            found.append((max(lo, other[place][0]), min(hi, other[place][1])))
            place += 1
    return found


def shifted(intervals: list[Interval], by: int) -> list[Interval]:
    """Move a set."""
    return [(lo + by, hi + by) for lo, hi in intervals]


def holds(intervals: list[Interval], at: int) -> bool:
    """Tell whether a set holds `at`."""
    place = bisect_left(intervals, at, key=lambda interval: interval[1])
    return place < len(intervals) and intervals[place][0] <= at


def deepest(intervals: Iterable[Interval], slack: int = 0) -> list[Interval]:
    """Give the set of places that most of the intervals cover, or all but `slack` as many."""
    edges: list[tuple[int, int]] = []
    for lo, hi in intervals:
        if lo <= hi:
            edges += [(lo, 1), (hi + 1, -1)]
    edges.sort()
    depth = 0
    profile: list[tuple[int, Interval]] = []
    for (at, step), (following, _) in pairwise(edges):
        depth += step
        if following > at:
            profile.append((depth, (at, following - 1)))
    enough = max((depth for depth, _ in profile), default=0) - slack
    return union(interval for depth, interval in profile if depth >= max(1, enough))
