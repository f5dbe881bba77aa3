"""How much was going on between domains: what changes together with that may be its doing.

More notifications make a domain slower and coalesce more, and which of several domains is busy is
a matter of chance in a short recording. A time that rises where the load rose is not the new
build's doing, as far as can be told; one that rises where the load is as it was, or fell, is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from evtrace.analysis.checks.parts import ARROW
from evtrace.analysis.diff.aligned import Alignment
from evtrace.analysis.diff.compared import FEWEST, Compared, Scale
from evtrace.analysis.diff.pools import is_pool
from evtrace.analysis.diff.side import Side

OTHERWISE: Final = 1.5
"""So many times as many sends a second, or as few, are another load."""


@dataclass(frozen=True, slots=True)
class LoadChange:
    """Sends from one domain to another that are many more, or many fewer."""

    start: str
    end: str
    count_a: int
    count_b: int
    times: float
    """How many times A's rate is B's; infinite where A had none."""

    @property
    def rises(self) -> bool:
        """Whether B has more of them a second."""
        return self.times > 1

    @property
    def text(self) -> str:
        """Give it in words."""
        return f"{self.start}{ARROW}{self.end} {self.count_a:,} → {self.count_b:,} sends"


def load_changes(a: Side, b: Side, alignment: Alignment) -> list[LoadChange]:
    """List the pairs of domains between which the load is another one, the busiest first."""
    one, other = _counts(a, str), _counts(b, alignment.in_a)
    seconds = (b.seconds or 1) / (a.seconds or 1) if a.seconds and b.seconds else 1.0
    found = []
    for way in one.keys() | other.keys():
        was, is_ = one.get(way, 0), other.get(way, 0)
        times = is_ / was / seconds if was else float("inf")
        if max(was, is_) >= FEWEST and not 1 / OTHERWISE < times < OTHERWISE:
            found.append(LoadChange(*way, was, is_, times))
    return sorted(found, key=lambda one: (-max(one.count_a, one.count_b), one.text))


def _counts(side: Side, in_a: Callable[[str], str]) -> dict[tuple[str, str], int]:
    ways = side.sends.drop_nulls("dom").group_by("from_dom", "dom").agg(pl.len())
    return {(in_a(f"d{start}"), in_a(f"d{end}")): count for start, end, count in ways.iter_rows()}


def may_be_of_load(one: Compared, changes: Sequence[LoadChange]) -> bool:
    """Whether a change goes along with that of the load of its domain.

    Channels that are put together are a mixture, which another load anywhere mixes otherwise.
    """
    if is_pool(one.part):
        return bool(changes)
    dom = one.part.rpartition(ARROW)[2].partition(":")[0].partition(" ")[0]
    near = [change for change in changes if dom in {change.start, change.end}]
    if one.scale is Scale.SHARE:
        return bool(near)
    return any(change.rises == one.rises for change in near)
