"""Divergences: where Xen or a guest did otherwise than the model, with the records around it."""

from collections import deque

from evtrace.replay import comparison
from evtrace.replay.calls import Call
from evtrace.timeline import Row
from evtrace.verdicts import Divergence

AROUND = 4
"""Records shown on each side of a divergence."""


class Divergences:
    """Collects them into `found`, and remembers what passes before and after each."""

    def __init__(self, found: list[Divergence]) -> None:
        """Start with none."""
        self._found = found
        self._before: deque[Row | Call] = deque(maxlen=AROUND)
        self._wanting: list[tuple[list[str], int]] = []  # `around` lists that want records after

    def add(self, item: Row | Call, what: str, expected: str, found: str) -> None:
        """Take a divergence at a row or call."""
        row = item.enter if isinstance(item, Call) else item
        around = [comparison.describe_item(other) for other in self._before]
        self._found.append(
            Divergence(
                row.seq,
                row.tsc_lo,
                row.file_offset,
                row.dom or 0,
                row.vcpu or 0,
                what,
                expected,
                found,
                around,
            ),
        )
        self._wanting.append((around, AROUND + 1))  # itself, then those after it

    def passed(self, item: Row | Call) -> None:
        """Remember an item for the surroundings of divergences before and after it."""
        self._before.append(item)
        if self._wanting:
            for around, _ in self._wanting:
                around.append(comparison.describe_item(item))
            self._wanting = [(around, left - 1) for around, left in self._wanting if left > 1]
