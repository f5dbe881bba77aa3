"""A port: one entry of a domain's event-channel table (struct evtchn)."""

from evtrace.xen.abi import PortState


class Port:
    """What Xen keeps about one port; which of the members mean something depends on `state`."""

    __slots__ = (
        "last_priority",
        "last_vcpu",
        "notify_vcpu",
        "number",
        "pirq",
        "priority",
        "remote_dom",
        "remote_port",
        "saved_pending",
        "state",
        "virq",
        "xen_consumer",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.state = PortState.FREE
        self.notify_vcpu = 0
        """vCPU that events of this port go to."""
        self.remote_dom = 0
        """UNBOUND: who may bind; INTERDOMAIN: the peer's domain."""
        self.remote_port = 0
        self.virq = 0
        self.pirq = 0
        self.xen_consumer = False
        """The hypervisor itself holds the port inside the domain."""
        self.priority = 0
        self.saved_pending = False
        """FIFO: an event came before there was a word for it; never forgotten, even by close."""
        self.last_vcpu = 0
        self.last_priority = 0
        """FIFO: the queue that the port was last linked to."""

    @property
    def usable(self) -> bool:
        """Xen raises events on it: neither free nor reserved nor the hypervisor's own."""
        return self.state > PortState.RESERVED and not self.xen_consumer

    def free(self) -> None:
        """Make it free; the binding to a vCPU goes back to 0."""
        self.state = PortState.FREE
        self.notify_vcpu = 0
        self.xen_consumer = False

    def clone(self) -> "Port":
        """Copy all members."""
        copy = Port.__new__(Port)
        copy.number = self.number
        copy.state = self.state
        copy.notify_vcpu = self.notify_vcpu
        copy.remote_dom = self.remote_dom
        copy.remote_port = self.remote_port
        copy.virq = self.virq
        copy.pirq = self.pirq
        copy.xen_consumer = self.xen_consumer
        copy.priority = self.priority
        copy.saved_pending = self.saved_pending
        copy.last_vcpu = self.last_vcpu
        copy.last_priority = self.last_priority
        return copy
