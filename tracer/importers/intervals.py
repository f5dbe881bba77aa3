"""Sets of closed intervals of integers: what is left of a clock's offset after each constraint."""

from bisect import bisect_left
from collections.abc import Iterable

Interval = tuple[int, int]

FOREVER = 1 << 62


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """Join intervals that touch; the result is sorted and disjoint."""
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
    """Intersect two sorted, disjoint sets; quick if `one` is the shorter."""
    found: list[Interval] = []
    for lo, hi in one:
        place = bisect_left(other, lo, key=lambda interval: interval[1])
        while place < len(other) and other[place][0] <= hi:
            found.append((max(lo, other[place][0]), min(hi, other[place][1])))
            place += 1
    return found


def deepest(intervals: Iterable[Interval]) -> list[Interval]:
    """Give the places that most of the intervals cover, where they overlap freely."""
    edges: list[tuple[int, int]] = []
    for lo, hi in intervals:
        if lo <= hi:
            edges += [(lo, -1), (hi + 1, 1)]
    edges.sort()
    depth = best = 0
    found: list[Interval] = []
    for place, (at, step) in enumerate(edges):
        depth -= step
        if step > 0 or not depth:
            continue
        until = edges[place + 1][0] - 1
        if depth > best:
            best, found = depth, []
        if depth == best and until >= at:
            found.append((at, until))
    return union(found)
