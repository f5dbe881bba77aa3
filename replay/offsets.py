"""Offsets: how far the TSC of one pCPU can be ahead of another's.

A vCPU changes its runstate on one pCPU and then on another: it is woken here and runs there, it
sleeps there and is woken here. Such a cause and its effect follow each other whatever the TSCs say,
so the effect's pCPU is ahead by no more than the cycles between the two.
"""

from evtrace.timeline import Row

DRIFT_SHARE = 100
"""Two TSCs drift apart by less than one cycle in so many; what is known of them ages by that."""

Pcpus = tuple[int, int]
"""(ahead, behind)."""


class Limits:
    """By how many cycles the TSC of one pCPU is ahead of another's at most, at one moment."""

    def __init__(self, most: dict[Pcpus, int]) -> None:
        """Take what is known of pairs of pCPUs."""
        self._most = most
        self._reached: dict[int, dict[int, int]] = {}

    def most(self, ahead: int, behind: int) -> int | None:
        """Give the cycles by which one can be ahead, over other pCPUs, too; None: by any."""
        if behind not in self._reached:
            self._reached[behind] = self._reach(behind)
        return self._reached[behind].get(ahead)

    def _reach(self, behind: int) -> dict[int, int]:
        reached = {behind: 0}
        waiting = [behind]
        while waiting:
            place = waiting.pop(0)
            for (further, start), cycles in self._most.items():
                total = reached[place] + cycles
                if start == place and (further not in reached or total < reached[further]):
                    reached[further] = total
                    waiting.append(further)
        return reached


class Offsets:
    """Collects causes on one pCPU with effects on another."""

    def __init__(self) -> None:
        """Know nothing."""
        self._least: dict[Pcpus, tuple[int, int]] = {}  # (cycles, TSC of the effect)

    def take(self, cause: Row, effect: Row) -> None:
        """Take a change of runstate, and the next one of the same vCPU."""
        if cause.pcpu is None or effect.pcpu is None:
            return
        pair = (effect.pcpu, cause.pcpu)
        found = effect.tsc_hi - cause.tsc_lo
        known = self._least.get(pair)
        if known is None or found <= _aged(known, effect.tsc_hi):
            self._least[pair] = found, effect.tsc_hi

    def at(self, tsc: int) -> Limits:
        """Give what follows for the time `tsc`."""
        return Limits({pair: _aged(known, tsc) for pair, known in self._least.items()})


def _aged(known: tuple[int, int], tsc: int) -> int:
    """Give what is left of a limit at another time."""
    cycles, when = known
    return cycles + abs(tsc - when) // DRIFT_SHARE
