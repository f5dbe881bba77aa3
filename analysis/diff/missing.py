"""What only one of the traces has: channels, or anything at all."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Final

from evtrace.analysis.diff.aligned import OF_B, Alignment, port_name
from evtrace.analysis.diff.shares import Channels
from evtrace.analysis.diff.side import Side
from evtrace.analysis.diff.verdict import About, Difference
from evtrace.analysis.sentence import count_of

_PORT: Final = re.compile(r"d\d+:\d+")

ENOUGH: Final = 20
"""A channel with fewer sends and runs may be absent from the other trace by chance."""


@dataclass(frozen=True, slots=True)
class OneSided:
    """A channel of which the other trace has nothing, in A's numbers."""

    channel: str
    is_in_b: bool
    is_silent: bool
    """The other trace has its ports, and nothing happens on them."""
    sends: int
    runs: int

    @property
    def is_told(self) -> bool:
        """Whether it is too much for chance, and not only a matter of who was busy when."""
        return not self.is_silent and max(self.sends, self.runs) >= ENOUGH

    @property
    def text(self) -> str:
        """Give it in words."""
        counts = [count_of(self.sends, "send")] if self.sends else []
        counts += [count_of(self.runs, "run")] if self.runs else []
        return f"{self.channel} ({', '.join(counts)})"


def one_sided(a: Channels, b: Channels, alignment: Alignment) -> list[OneSided]:
    """List the channels that only one trace has, the busiest first."""
    shared = {port_name(end) for end in alignment.ports.values()}
    names_a, names_b = ({channel for channel, _ in side} for side in (a, b))
    found = []
    for channel in names_a ^ names_b:
        its = b if channel in names_b else a
        sends, runs = (
            its[channel, what].count if (channel, what) in its else 0 for what in ("sends", "runs")
        )
        silent = shared.issuperset(_PORT.findall(channel)) and OF_B not in channel
        found.append(OneSided(channel, channel in names_b, silent, sends, runs))
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


_HARDLY: Final = 0.1
_MUCH: Final = 50
"""Sends and runs of a trace beside which a tenth of them is hardly anything."""


def standstill(a: Side, b: Side) -> Iterator[Difference]:
    """Tell that hardly anything happens in one of the traces: it hangs, or was cut short."""
    counts = [(len(side.source.results.sends), len(side.source.results.runs)) for side in (a, b)]
    one, other = map(sum, counts)
    if min(one, other) < _HARDLY * max(one, other) and max(one, other) >= _MUCH:
        texts = [f"{count_of(sends, 'send')} and {count_of(runs, 'run')}" for sends, runs in counts]
        side = "B" if other < one else "A"
        text = f"hardly anything happens in {side}: {texts[0]} in A, {texts[1]} in B"
        yield Difference(About.FAULTS, "trace", text, other < one, ("runs", "sends"), inf)
