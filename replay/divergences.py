"""Divergences: where Xen or a guest did otherwise than the model, with the records around it."""

from collections import deque
from collections.abc import Iterator

from evtrace.replay import comparison
from evtrace.replay.belief import Belief
from evtrace.replay.calls import CHANGES_PORTS, Call
from evtrace.timeline import Kind, Row
from evtrace.verdicts import Divergence
from evtrace.xen.abi import EvtchnOp

MAX_UNEXPLAINED = 100
"""Of so many divergences the replay asks whether a later call explains them."""

AROUND = 4
"""Records shown on each side of a divergence."""


class Divergences:
    """Collects them into `found`, and remembers what passes before and after each."""

    def __init__(self, belief: Belief, found: list[Divergence]) -> None:
        """Start with none."""
        self._belief = belief
        self._found = found
        self._before: deque[Row | Call] = deque(maxlen=AROUND)
        self._wanting: list[tuple[list[str], int]] = []  # `around` lists that want records after
        self._unexplained: list[tuple[Row, list[Row]]] = []

    def unexplained(self) -> Iterator[tuple[Row, list[Row]]]:
        """Give the last ones, each with later calls that would explain it, had they come first."""
        yield from self._unexplained

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
        self._unexplained = self._unexplained[:MAX_UNEXPLAINED]
        self._unexplained.append((row, []))

    def _explain_late(self, call: Call) -> None:
        """Keep a call that may explain what nothing explained when it came."""
        if call.op == EvtchnOp.SEND or call.op in CHANGES_PORTS:
            for found, later in self._unexplained:
                if found.seq < call.enter.seq and call.touches() & self._concerns(found):
                    later.append(call.enter)

    def _concerns(self, row: Row) -> set[int]:
        """Give the domains that a row is about, with the peer of its port."""
        doms = {row.dom or 0}
        if row.port is not None:
            doms.add(self._belief.peer((row.dom or 0, row.port))[0])
        return doms if row.kind != Kind.CALL_ENTER else doms | Call(row).touches()

    def passed(self, item: Row | Call) -> None:
        """Remember an item for the surroundings of divergences before and after it."""
        self._before.append(item)
        if isinstance(item, Call) and self._unexplained:
            self._explain_late(item)
        if self._wanting:
            for around, _ in self._wanting:
                around.append(comparison.describe_item(item))
            self._wanting = [(around, left - 1) for around, left in self._wanting if left > 1]
