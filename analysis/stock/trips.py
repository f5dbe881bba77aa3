"""Round trips summed up: how many between whom, and how long."""

from collections import defaultdict
from dataclasses import dataclass, field

from evtrace.analysis.stock.chains import Round
from evtrace.analysis.stock.sketch import Sketch


@dataclass(slots=True)
class Trips:
    """The round trips of one caller and one answerer."""

    seen: int = 0
    """Both notifications woke somebody."""
    inferred: int = 0
    """One did; the other side was awake."""
    reply: Sketch = field(default_factory=Sketch)
    """From the caller's hypercall to the answerer's."""
    whole: Sketch = field(default_factory=Sketch)
    """To when the vCPU that the answer woke ran; of those seen."""


class RoundTrips:
    """The sum of all round trips, pair by pair."""

    def __init__(self) -> None:
        """Start with none."""
        self._pairs: dict[tuple[int, int], Trips] = defaultdict(Trips)

    def take(self, found: Round) -> None:
        """Add one round trip."""
        trips = self._pairs[found.caller, found.answerer]
        if found.end is None:
            trips.inferred += 1
            return
        trips.seen += 1
        trips.reply.add(found.reply - found.start, found.reply)
        trips.whole.add(found.end - found.start, found.end)

    @property
    def pairs(self) -> dict[tuple[int, int], Trips]:
        """Give (caller, answerer) -> trips; none is inferred between two that were never seen."""
        return {pair: trips for pair, trips in self._pairs.items() if trips.seen}
