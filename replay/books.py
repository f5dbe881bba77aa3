"""Books: what is known of ports and vCPUs from one of their records to the next."""

from dataclasses import dataclass, field

from evtrace.replay.tokens import Channel, Consumption
from evtrace.verdicts import Run


@dataclass(slots=True)
class Books:
    """What the runs of handlers leave behind, and what they find."""

    consumed: dict[Channel, Consumption] = field(default_factory=dict)
    """Events taken by clearing the bit, whose handler has not run yet."""
    running: dict[tuple[int, int, int], Run] = field(default_factory=dict)
    """By (domain, vCPU, irq): a run that has not returned."""
    last_run: dict[Channel, Run] = field(default_factory=dict)
    exits: dict[tuple[int, int], int] = field(default_factory=dict)
    """By (domain, vCPU): the end of its last handler."""
    bound: dict[Channel, int] = field(default_factory=dict)
    """Since when a port has its present owner, where that was captured."""
    moved: dict[Channel, int] = field(default_factory=dict)
    """When bind_vcpu last moved a port."""
    freed: dict[Channel, tuple[int, int]] = field(default_factory=dict)
    """(vCPU, since when) of a port whose irq is being freed."""
    uncovered: dict[int, int] = field(default_factory=dict)
    """By domain: its last hypercall of which nothing but that it was made is known."""
    left_over: dict[Channel, tuple[int, int]] = field(default_factory=dict)
    """(seq, tsc) of the close of a port that was pending then."""

    def channels(self) -> set[Channel]:
        """Give the ports of which something is known."""
        return set().union(self.consumed, self.freed, self.bound, self.last_run)

    def forget(self, channel: Channel) -> None:
        """Forget a port that is closed."""
        self.consumed.pop(channel, None)
        self.last_run.pop(channel, None)
        self.bound.pop(channel, None)
        self.moved.pop(channel, None)
        self.freed.pop(channel, None)
        self.left_over.pop(channel, None)

    def forget_vcpus(self, dom: int) -> None:
        """Forget the handlers that a domain's vCPUs never returned from."""
        for key in [key for key in self.running if key[0] == dom]:
            del self.running[key]
