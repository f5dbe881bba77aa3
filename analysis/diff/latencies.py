"""The times of each stage of each channel, in pairs to be compared."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import polars as pl

from evtrace.analysis.diff.aligned import Alignment
from evtrace.analysis.diff.blocks import Spread, Sureness, spread_of
from evtrace.analysis.diff.compared import FEWEST, Pair, Scale
from evtrace.analysis.diff.intervals import (
    Interval,
    mean_interval,
    nearest,
    quantile_interval,
)
from evtrace.analysis.diff.pools import pools
from evtrace.analysis.diff.side import Side
from evtrace.analysis.latency import STAGES, GroupBy, group
from evtrace.tracefile.family import Timing

RESOLUTION_NS: Final = 10.0
"""A few steps of a TSC, and no more than reading it takes."""

_QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
_CARRIED_BY: Final = 8
"""A mean that fewer values decide, far from all others, says little (values / kurtosis)."""
_ABOVE: Final = 12
"""So many values must lie above a quantile; the median needs no more than `FEWEST` in all."""


def refusal(a: Side, b: Side) -> str:
    """Say why times of the two traces cannot be compared; empty if they can."""
    one, other = a.source.facts, b.source.facts
    if one.timing is not other.timing:
        kinds = _words(one.timing), _words(other.timing)
        return f"times are not compared: those of A are {kinds[0]}, of B {kinds[1]}"
    for name, facts in (("A", one), ("B", other)):
        if facts.tsc_hz is None:
            return f"times are not compared: the TSC's frequency of {name} is not known"
    return ""


def _words(timing: Timing) -> str:
    return {
        Timing.UNKNOWN: "of unknown origin",
        Timing.EMULATED_CPU: "of an emulated CPU",
        Timing.HARDWARE: "of hardware",
    }.get(timing, timing.name.lower())


class Times:
    """The times that one stage of one channel took, in order, in nanoseconds."""

    def __init__(self, values: Sequence[float], uncertainty: float) -> None:
        """Take them, with how far clocks leave all of them off together."""
        self.values = values
        self.uncertainty = uncertainty
        self.ordered = sorted(self.values)
        self._below: dict[float, Spread] = {}
        self._spread: Spread | None = None

    @property
    def has_mean(self) -> bool:
        """Whether their mean is more than that of a few of them."""
        mean = sum(self.values) / len(self.values)
        squares = [(value - mean) ** 2 for value in self.values]
        fourth = sum(square**2 for square in squares)
        return mean > 0 and (not fourth or sum(squares) ** 2 / fourth >= _CARRIED_BY)

    def mean(self, sure: Sureness) -> Interval:
        """Bound their mean."""
        self._spread = self._spread or spread_of(self.values)
        return mean_interval(self._spread, sure).widened(self.uncertainty)

    def quantile(self, share: float, sure: Sureness) -> Interval:
        """Bound a quantile of them."""
        if share not in self._below:
            value = self.ordered[nearest(len(self.ordered), share)]
            self._below[share] = spread_of([float(one <= value) for one in self.values])
        found = quantile_interval(self.ordered, share, self._below[share], sure)
        return found.widened(self.uncertainty)


def latency_pairs(a: Side, b: Side, alignment: Alignment) -> list[Pair]:
    """Give mean and quantiles of each stage that both traces measured often enough."""
    if refusal(a, b):
        return []
    frames = _named(a, str), _named(b, alignment.in_a)
    pooled = pools(*map(_sizes, frames))
    one, other = (_times(frame, pooled) for frame in frames)
    both = sorted(one.keys() & other.keys(), key=lambda key: (key[0], STAGES.index(key[1])))
    return [pair for key in both for pair in _pairs(*key, one[key], other[key])]


def _named(side: Side, in_a: Callable[[str], str]) -> pl.DataFrame:
    """Give the measured stages in order of time, in nanoseconds, with their channels' names."""
    scale = 1_000_000_000 / (side.source.facts.tsc_hz or 1)
    stages = side.stages.with_columns(group(GroupBy.CHANNEL)).sort("tsc", "seq")
    names = {name: in_a(name) for name in stages["group"].unique()}
    return stages.select(
        pl.col("group").replace(names).alias("channel"),
        "stage",
        ns=pl.col("cycles") * scale,
        uncertainty_ns=pl.col("uncertainty") * scale,
    )


def _sizes(frame: pl.DataFrame) -> dict[str, int]:
    """Give how often the stage of each channel was measured that was so most often."""
    counts = frame.group_by("channel", "stage").len()
    return dict(counts.group_by("channel").agg(pl.col("len").max()).iter_rows())


def _times(frame: pl.DataFrame, pooled: Mapping[str, str]) -> dict[tuple[str, str], Times]:
    """Give the times of each (channel, stage) of which there are enough."""
    groups = (
        frame.with_columns(pl.col("channel").replace(dict(pooled)))
        .group_by("channel", "stage", maintain_order=True)
        .agg("ns", pl.col("uncertainty_ns").max())
        .filter(pl.col("ns").list.len() >= FEWEST)
    )
    return {
        (channel, stage): Times(times, uncertainty)
        for channel, stage, times, uncertainty in groups.iter_rows()
    }


def _pairs(channel: str, stage: str, a: Times, b: Times) -> Iterator[Pair]:
    def of_mean(sure: Sureness) -> tuple[Interval, Interval]:
        return a.mean(sure), b.mean(sure)

    counts = len(a.values), len(b.values)
    if max(a.ordered[-1], b.ordered[-1]) < RESOLUTION_NS:
        return
    if a.has_mean and b.has_mean:
        yield Pair(channel, f"mean({stage})", Scale.TIME, *counts, of_mean, RESOLUTION_NS)
    for name, share in _QUANTILES.items():
        ends = [times.ordered[nearest(len(times.ordered), share)] for times in (a, b)]
        enough = share == 0.5 or min(counts) * (1 - share) >= _ABOVE
        if min(ends) > 0 and max(ends) >= RESOLUTION_NS and enough:
            yield _of_quantile(channel, f"{name}({stage})", share, a, b)


def _of_quantile(channel: str, quantity: str, share: float, a: Times, b: Times) -> Pair:
    def intervals(sure: Sureness) -> tuple[Interval, Interval]:
        return a.quantile(share, sure), b.quantile(share, sure)

    counts = len(a.values), len(b.values)
    return Pair(channel, quantity, Scale.TIME, *counts, intervals, RESOLUTION_NS)
