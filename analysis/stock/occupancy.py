"""Who held a pCPU lately."""

from collections import deque

from evtrace.analysis.stock.names import NOT_KNOWN, XEN

REMEMBERED = 512
"""Stretches that are remembered for each pCPU; of what was before, the holder is not known."""


class Occupancy:
    """The stretches of one pCPU: which vCPU ran from when to when."""

    __slots__ = ("_begins", "_stretches", "since", "vcpu")

    def __init__(self) -> None:
        """Start with nobody known to run."""
        self.vcpu: int | None = None
        self.since: int | None = None
        """When it began; None: before the first record, or in a gap."""
        self._begins: int | None = None
        """From when on the stretches are whole."""
        self._stretches: deque[tuple[int, int, int]] = deque(maxlen=REMEMBERED)

    def starts(self, vcpu: int, tsc: int) -> None:
        """Take note that a vCPU starts to run."""
        self.vcpu, self.since = vcpu, tsc
        if self._begins is None:
            self._begins = tsc

    def stops(self, vcpu: int, tsc: int) -> None:
        """Take note that a vCPU stops to run."""
        if self.vcpu == vcpu and self.since is not None:
            self._stretches.append((self.since, tsc, vcpu))
        if self._begins is None:
            self._begins = tsc
        self.vcpu = self.since = None

    def forget(self) -> None:
        """Know no longer who runs or ran: records were lost."""
        self.vcpu = self.since = self._begins = None
        self._stretches.clear()

    def held(self, start: int, end: int) -> list[tuple[int | str, int]]:
        """Say who had the pCPU from `start` to its last switch at `end`; the rest is Xen's."""
        known_from = self._begins
        stretches = self._stretches
        if len(stretches) == REMEMBERED:
            known_from = stretches[0][0]
        known_from = end if known_from is None else min(max(known_from, start), end)
        cycles: dict[int | str, int] = {}
        for since, until, vcpu in reversed(stretches):
            if until <= start:
                break
            cycles[vcpu] = cycles.get(vcpu, 0) + until - max(since, start)
        cycles[NOT_KNOWN] = known_from - start
        cycles[XEN] = end - start - sum(cycles.values())
        return [(holder, spent) for holder, spent in cycles.items() if spent > 0]
