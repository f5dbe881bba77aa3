"""Shared rings of paravirtual drivers, as indices (xen/include/public/io/ring.h)."""


class Lane:
    """One direction of a shared ring: indices that only grow, and when its consumer is told."""

    __slots__ = ("cons", "event", "prod")

    def __init__(self) -> None:
        self.prod = self.cons = 0
        self.event = 1
        """The consumer asks for a notification when `prod` gets here."""

    def push(self, count: int) -> bool:
        """Produce; tell whether the consumer has asked to be notified of it."""
        before = self.prod
        self.prod += count
        return before < self.event <= self.prod

    def take(self) -> int:
        """Consume all there is; before there is nothing left, ask for a notification."""
        count = self.prod - self.cons
        self.cons = self.prod
        if not count:
            self.event = self.cons + 1
        return count
