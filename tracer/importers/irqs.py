"""irq and port: which port an irq stands for, learned from the whole text of a domain.

An irq is one port's from its bind until its unbind; whatever in between shows the pair tells it for
the whole time, for what came earlier too. Where sightings disagree (the tracer drops lines), the
majority is right.
"""

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class _IrqHistory:
    """What the text shows of one irq."""

    changes: list[int] = field(default_factory=list)
    """TSCs from which on the irq may stand for another port."""
    sightings: list[tuple[int, int]] = field(default_factory=list)
    """(TSC, port)."""


class IrqMap:
    """The irqs of one domain over time; ask it when the whole text has been read."""

    def __init__(self) -> None:
        """Start knowing nothing."""
        self._irqs: dict[int, _IrqHistory] = {}
        self._epochs: dict[int, list[Counter[int]]] = {}  # counted sightings, made when asked
        self.names: dict[int, str] = {}
        """irq -> name of its handler."""

    def see(self, irq: int, port: int, tsc: int) -> None:
        """Note that `irq` was seen to stand for `port`."""
        self._history(irq).sightings.append((tsc, port))

    def bind(self, irq: int, port: int, tsc: int) -> None:
        """Note that `irq` was tied to `port` by a call that began at `tsc`."""
        self._history(irq).changes.append(tsc)
        self.see(irq, port, tsc)

    def unbind(self, irq: int, tsc: int) -> None:
        """Note that `irq` was given up at `tsc`: from then on it may stand for another port."""
        self._history(irq).changes.append(tsc + 1)

    def port(self, irq: int, tsc: int) -> int | None:
        """Give the port for which `irq` stood at `tsc`; None if no line tells."""
        history = self._irqs.get(irq)
        if history is None:
            return None
        if irq not in self._epochs:
            self._epochs[irq] = _count(history)
        seen = self._epochs[irq][bisect_right(history.changes, tsc)]
        return seen.most_common(1)[0][0] if seen else None

    def _history(self, irq: int) -> _IrqHistory:
        self._epochs.pop(irq, None)
        return self._irqs.setdefault(irq, _IrqHistory())


def _count(history: _IrqHistory) -> list[Counter[int]]:
    """Count the sightings in each epoch: before the first change, between two, after the last."""
    history.changes.sort()
    epochs: list[Counter[int]] = [Counter() for _ in range(len(history.changes) + 1)]
    for tsc, port in history.sightings:
        epochs[bisect_right(history.changes, tsc)][port] += 1
    return epochs
