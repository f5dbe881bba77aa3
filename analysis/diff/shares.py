"""What share of a channel's runs had a cause, of its sends a fate: in pairs to be compared.

Numbers of sends and runs depend on how long was recorded and how much was going on; shares of them
do not. Verdicts that a capture could not tell are left out of both.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

import polars as pl

from evtrace.analysis.columns import NO_WORK
from evtrace.analysis.diff.aligned import Alignment
from evtrace.analysis.diff.blocks import Spread, Sureness, spread_of
from evtrace.analysis.diff.compared import FEWEST, Pair, Scale
from evtrace.analysis.diff.intervals import Interval, share_interval
from evtrace.analysis.diff.pools import pools
from evtrace.analysis.diff.side import Side
from evtrace.analysis.latency import GroupBy, group
from evtrace.timeline import RecordClass
from evtrace.verdicts import Cause, Fate

_LEAST: Final = 5
"""So often a verdict must have been given in both traces together."""
_SLICES: Final = 50
"""Into so many parts of equal length a trace is cut to see how much comes at once."""


@dataclass(slots=True)
class Verdicts:
    """The runs or sends of one channel in order, and which of them had which verdict."""

    count: int = 0
    having: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Quantity -> the places of those that had it."""

    def spread(self, quantity: str) -> Spread:
        """Measure the spread of having a verdict."""
        series = [0.0] * self.count
        for place in self.having.get(quantity, ()):
            series[place] = 1.0
        return spread_of(series)

    def take(self, names: Sequence[str]) -> None:
        """Take one run or send with its verdicts."""
        for name in names:
            self.having[name].append(self.count)
        self.count += 1


Channels = dict[tuple[str, str], Verdicts]
"""By channel in A's numbers, and `runs` or `sends`."""


def share_pairs(a: Side, b: Side, alignment: Alignment) -> list[Pair]:
    """Give the shares of verdicts in the runs and sends of channels that both traces have."""
    sizes = [_sizes(verdicts(a)), _sizes(verdicts(b, alignment))]
    pooled = pools(*sizes)
    one, other = verdicts(a, None, pooled), verdicts(b, alignment, pooled)
    pairs = []
    for key in sorted(one.keys() & other.keys()):
        if min(one[key].count, other[key].count) >= FEWEST:
            pairs += list(_pairs(key[0], one[key], other[key]))
    return pairs + list(_upcall_pairs(a, b, alignment))


def _sizes(channels: Channels) -> dict[str, int]:
    """Give how many runs or sends a channel has, whichever are more."""
    sizes: dict[str, int] = {}
    for (channel, _), found in channels.items():
        sizes[channel] = max(found.count, sizes.get(channel, 0))
    return sizes


def verdicts(
    side: Side, alignment: Alignment | None = None, pooled: Mapping[str, str] | None = None
) -> Channels:
    """Gather the verdicts of each channel; those that are `pooled` go together."""
    names = pooled or {}

    @cache
    def in_a(channel: str) -> str:
        name = alignment.in_a(channel) if alignment else channel
        return names.get(name, name)

    found: Channels = defaultdict(Verdicts)
    coverage = side.source.coverage
    drivers = [dom for dom in side.runs["dom"].unique() if RecordClass.EOI in coverage.classes(dom)]
    runs = (
        side.runs.with_columns(group(GroupBy.CHANNEL), no_work=NO_WORK)
        .with_columns(tells_work=pl.col("dom").is_in(drivers))
        .filter(pl.col("cause") != Cause.UNKNOWN.value)
        .sort("tsc", "seq")
    )
    columns = "group", "cause", "routes", "tells_work", "no_work", "work_cause", "eoi_delay"
    for row in runs.select(columns).iter_rows():
        found[in_a(row[0]), "runs"].take(list(_of_run(*row[1:])))
    sends = side.sends.with_columns(group(GroupBy.CHANNEL)).sort("tsc", "seq")
    open_ended = [Fate.UNKNOWN.value, Fate.PENDING_AT_END.value]
    for channel, fate in (
        sends.filter(~pl.col("fate").is_in(open_ended)).select("group", "fate").iter_rows()
    ):
        found[in_a(channel), "sends"].take([f"fate.{fate}"] if fate != Fate.DELIVERED.value else [])
    return dict(found)


def _of_run(
    cause: str,
    routes: Sequence[str],
    tells_work: bool,
    no_work: bool,
    work_cause: str | None,
    eoi_delay: str | None,
) -> Iterator[str]:
    """Name what a run had."""
    if cause != Cause.SEND.value:
        yield f"cause.{cause}"
    yield from (f"route.{route}" for route in routes)
    if tells_work and no_work:
        yield "spurious.L3"
    if work_cause and work_cause != "UNKNOWN":
        yield f"work_cause.{work_cause}"
    if eoi_delay:
        yield f"eoi_delay.{eoi_delay}"


def _pairs(channel: str, a: Verdicts, b: Verdicts) -> Iterator[Pair]:
    for quantity in sorted(a.having.keys() | b.having.keys()):
        hits = len(a.having.get(quantity, ())), len(b.having.get(quantity, ()))
        if _LEAST <= sum(hits) < a.count + b.count:
            spreads = a.spread(quantity), b.spread(quantity)
            yield _pair(channel, quantity, hits, (a.count, b.count), spreads)


def _pair(
    part: str,
    quantity: str,
    hits: tuple[int, int],
    counts: tuple[int, int],
    spreads: tuple[Spread, Spread],
) -> Pair:
    """Make a pair; a side that never had it says nothing of how much of it comes at once."""
    effect = max(spread.effect for spread in spreads)
    blocks = [
        count / effect if spread.effect < effect else spread.blocks
        for count, spread in zip(counts, spreads, strict=True)
    ]

    def intervals(sure: Sureness) -> tuple[Interval, Interval]:
        return (
            share_interval(hits[0], counts[0], effect, sure.limit(blocks[0])),
            share_interval(hits[1], counts[1], effect, sure.limit(blocks[1])),
        )

    return Pair(part, quantity, Scale.SHARE, *counts, intervals)


def _upcall_pairs(a: Side, b: Side, alignment: Alignment) -> Iterator[Pair]:
    """Give the shares of empty upcalls (L1) of each domain, by why they were."""
    for dom_b, dom_a in sorted(alignment.doms.items(), key=lambda item: item[1]):
        sides = (a, dom_a), (b, dom_b)
        needed = RecordClass.UPCALL | RecordClass.HANDLER
        if not all(side.source.coverage.tells(needed, (dom,)) for side, dom in sides):
            continue
        counts = a.source.results.upcalls[dom_a], b.source.results.upcalls[dom_b]
        if min(counts) >= FEWEST:
            yield from _empty(f"d{dom_a}", sides, counts)


def _empty(
    part: str, sides: tuple[tuple[Side, int], tuple[Side, int]], counts: tuple[int, int]
) -> Iterator[Pair]:
    found = [
        {
            why.value: number
            for (its, why), number in side.source.results.upcall_verdicts.items()
            if its == dom and why.value != "UNKNOWN"
        }
        for side, dom in sides
    ]
    for why in sorted(found[0].keys() | found[1].keys()):
        hits = found[0].get(why, 0), found[1].get(why, 0)
        if _LEAST <= sum(hits) < sum(counts):
            one, other = (
                _clustered(side, dom, hit, count)
                for (side, dom), hit, count in zip(sides, hits, counts, strict=True)
            )
            yield _pair(part, f"upcall.{why}", hits, counts, (one, other))


def _clustered(side: Side, dom: int, hits: int, count: int) -> Spread:
    """Tell from the times of empty upcalls how much they come at once."""
    start, length = side.start_tsc, max(1, side.source.end_tsc - side.start_tsc)
    slices = [0.0] * _SLICES
    for upcall in side.source.results.empty:
        if upcall.dom == dom:
            place = (upcall.tsc - start) * _SLICES // length
            slices[min(max(place, 0), _SLICES - 1)] += 1
    spread = spread_of(slices)
    effect = max(1.0, spread.effect * spread.variance / spread.mean) if spread.mean else 1.0
    share = hits / count
    return Spread(count, share, share * (1 - share), effect, spread.blocks)
