"""Channels that only one of the traces has."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from evtrace.analysis.diff.shares import Channels
from evtrace.analysis.diff.verdict import About, Difference
from evtrace.analysis.sentence import count_of

ENOUGH: Final = 20
"""A channel with fewer sends and runs may be absent from the other trace by chance."""


@dataclass(frozen=True, slots=True)
class OneSided:
    """A channel of which the other trace has nothing, in A's numbers."""

    channel: str
    is_in_b: bool
    sends: int
    runs: int

    @property
    def is_told(self) -> bool:
        """Whether it is too much for chance."""
        return max(self.sends, self.runs) >= ENOUGH

    @property
    def text(self) -> str:
        """Give it in words."""
        counts = [count_of(self.sends, "send")] if self.sends else []
        counts += [count_of(self.runs, "run")] if self.runs else []
        return f"{self.channel} ({', '.join(counts)})"


def one_sided(a: Channels, b: Channels) -> list[OneSided]:
    """List the channels that only one trace has, the busiest first."""
    names_a, names_b = ({channel for channel, _ in side} for side in (a, b))
    found = []
    for channel in names_a ^ names_b:
        its = b if channel in names_b else a
        sends, runs = (
            its[channel, what].count if (channel, what) in its else 0 for what in ("sends", "runs")
        )
        found.append(OneSided(channel, channel in names_b, sends, runs))
    return sorted(found, key=lambda one: (-max(one.sends, one.runs), one.channel))


def from_channels(found: list[OneSided]) -> Iterator[Difference]:
    """Tell which channels one trace lacks."""
    for one in found:
        if one.is_told:
            side = "B" if one.is_in_b else "A"
            size = float(max(one.sends, one.runs))
            yield Difference(
                About.CHANNELS, one.channel, f"only in {side}: {one.text}", None, (), size
            )
