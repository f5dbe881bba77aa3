"""irq and port: which port an irq stands for, learned from the whole text of a domain.

An irq is one port's from its bind until its unbind; whatever in between shows the pair tells it for
the whole time. Where sightings disagree (the tracer drops lines), the majority is right.
"""

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Epoch:
    start_tsc: int
    seen: Counter[int] = field(default_factory=Counter)


class IrqMap:
    """The irqs of one domain over time."""

    def __init__(self) -> None:
        """Start knowing nothing."""
        self._epochs: dict[int, list[_Epoch]] = {}
        self.names: dict[int, str] = {}
        """irq -> name of its handler."""

    def see(self, irq: int, port: int, tsc: int) -> None:
        """Note that `irq` was seen to stand for `port`."""
        epochs = self._epochs.setdefault(irq, [_Epoch(0)])
        self._epoch(epochs, tsc).seen[port] += 1

    def unbind(self, irq: int, tsc: int) -> None:
        """Note that `irq` is given up: from now on it may stand for another port."""
        self._epochs.setdefault(irq, [_Epoch(0)]).append(_Epoch(tsc + 1))

    def port(self, irq: int, tsc: int) -> int | None:
        """Give the port for which `irq` stood at `tsc`; None if no line tells."""
        epochs = self._epochs.get(irq)
        if not epochs:
            return None
        seen = self._epoch(epochs, tsc).seen
        return seen.most_common(1)[0][0] if seen else None

    def irq(self, port: int, tsc: int) -> int | None:
        """Give the irq that stood for `port` at `tsc`."""
        return next((irq for irq in self._epochs if self.port(irq, tsc) == port), None)

    @staticmethod
    def _epoch(epochs: list[_Epoch], tsc: int) -> _Epoch:
        return epochs[max(0, bisect_right(epochs, tsc, key=lambda epoch: epoch.start_tsc) - 1)]
