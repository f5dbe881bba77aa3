"""The port table of a domain: it grows in steps, and gives out its lowest free port."""

from typing import TYPE_CHECKING

from evtrace.xen.abi import Errno, HypercallError, PortState
from evtrace.xen.port import Port

if TYPE_CHECKING:
    from evtrace.xen.form import Form

_FREE = PortState.FREE


class PortTable:
    """Ports by number. A port at the end of the table or beyond does not exist, free or not."""

    __slots__ = ("first_free", "ports", "step")

    def __init__(self, step: int) -> None:
        self.ports: list[Port] = []
        self.step = step
        """The table grows by so many ports."""
        self.first_free = 0
        """No port below is free."""

    def lookup(self, number: int) -> Port | None:
        """Find a port, free or not; None: it does not exist. _evtchn_from_port."""
        return self.ports[number] if 0 <= number < len(self.ports) else None

    def existing(self, number: int) -> Port:
        """Find a port, free or not, or refuse with EINVAL."""
        if 0 <= number < len(self.ports):
            return self.ports[number]
        raise HypercallError(Errno.EINVAL)

    def ensure(self, number: int) -> Port:
        """Find a port; the table grows if need be."""
        ports = self.ports
        while len(ports) <= number:
            first = len(ports)
            ports.extend([Port(first + i) for i in range(self.step)])
        return ports[number]

    def allocate(self, form: "Form", max_port: int) -> Port:
        """Give out the lowest port that is free and not busy, up to `max_port`; else ENOSPC.

        The caller gives it a state, or leaves it free; the table has grown all the same.
        get_free_port
        """
        ports = self.ports
        while self.first_free < len(ports) and ports[self.first_free].state != _FREE:
            self.first_free += 1
        number = self.first_free
        while number < len(ports) and (ports[number].state != _FREE or form.linked(number)):
            number += 1
        if number > max_port or number >= form.limit:
            raise HypercallError(Errno.ENOSPC)
        return self.ensure(number)

    def free(self, port: Port) -> None:
        """Make a port free."""
        port.free()
        self.first_free = min(self.first_free, port.number)

    def clone(self) -> "PortTable":
        """Copy the table with its ports."""
        copy = PortTable(self.step)
        copy.ports = [port.clone() for port in self.ports]
        copy.first_free = self.first_free
        return copy
