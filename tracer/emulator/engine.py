"""Discrete events on one clock: what happens next, in order of TSC and then of scheduling."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, TypeAlias

Action: TypeAlias = Callable[..., None]


class Engine:
    """A queue of actions and the TSC at which the machine stands."""

    __slots__ = ("_order", "_queue", "limit", "now", "stopped")

    def __init__(self) -> None:
        self.now = 0
        """TSC cycles since the machine was switched on."""
        self.limit: int | None = None
        """No action later than this is run."""
        self.stopped = False
        self._order = 0
        self._queue: list[tuple[int, int, Action, tuple[Any, ...]]] = []

    def stop(self) -> None:
        """Let nothing more happen."""
        self.stopped = True

    def at(self, tsc: int, action: Action, *args: object) -> None:
        """Run `action(*args)` at `tsc`; actions of one TSC run in the order of these calls."""
        self._order += 1
        heappush(self._queue, (tsc, self._order, action, args))

    def after(self, cycles: int, action: Action, *args: object) -> None:
        """Run `action(*args)` in `cycles`."""
        self.at(self.now + cycles, action, *args)

    def skip(self, cycles: int) -> bool:
        """Let `cycles` pass at once if nothing else is to happen before; tell whether they did.

        This spares the busy vCPU of a quiet machine the way through the queue.
        """
        target = self.now + cycles
        if self.stopped or (self._queue and self._queue[0][0] <= target):
            return False
        if self.limit is not None and target > self.limit:
            return False
        self.now = target
        return True

    def run(self, actions: int | None = None) -> bool:
        """Run until nothing is left to happen, the limit is reached or `stopped` is set.

        With `actions`, run at most so many; tells whether there are more.
        """
        queue = self._queue
        left = -1 if actions is None else actions
        while queue and left and not self.stopped:
            if self.limit is not None and queue[0][0] > self.limit:
                return False
            self.now, _, action, args = heappop(queue)
            action(*args)
            left -= 1
        return bool(queue) and not self.stopped
