"""The two forms in which Xen and a guest share events, behind one interface (evtchn_port_ops).

`TwoLevel` is two bit maps and a selector per vCPU; `Fifo` an array of event words, linked into
queues by priority.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from evtrace.xen.abi import FormName

if TYPE_CHECKING:
    from evtrace.xen.domain import Domain
    from evtrace.xen.port import Port
    from evtrace.xen.vcpu import Vcpu

Bit: TypeAlias = tuple[int, int]
"""Address of a word in shared memory, and the bit's mask in it."""


class Form(ABC):
    """What a form can do with a port. Ports here exist; whether they are free is not asked."""

    __slots__ = ("domain",)

    name: ClassVar[FormName]

    def __init__(self, domain: "Domain") -> None:
        self.domain = domain

    @property
    @abstractmethod
    def limit(self) -> int:
        """Number of ports of the form, port 0 included."""

    @abstractmethod
    def init_port(self, port: "Port") -> None:
        """Prepare a port that was just bound."""

    @abstractmethod
    def set_pending(self, port: "Port", vcpu: "Vcpu") -> None:
        """Raise an event on `port` for `vcpu`."""

    @abstractmethod
    def clear_pending(self, number: int) -> None:
        """Take an event back, as close does."""

    @abstractmethod
    def unmask(self, port: "Port") -> None:
        """Clear the mask; raise what was held back."""

    @abstractmethod
    def pending_bit(self, number: int) -> Bit | None:
        """Where the pending bit lies; None: no memory for it."""

    @abstractmethod
    def mask_bit(self, number: int) -> Bit | None:
        """Where the mask bit lies; None: no memory for it."""

    @abstractmethod
    def linked(self, number: int) -> bool:
        """Tell whether the port is on a queue: then it is busy, and not given out when closed."""

    def pending(self, number: int) -> bool:
        """Tell whether the pending bit is set."""
        bit = self.pending_bit(number)
        return bit is not None and self.domain.memory.read(bit[0]) & bit[1] != 0

    def masked(self, number: int) -> bool:
        """Tell whether the mask bit is set; a port without memory counts as masked."""
        bit = self.mask_bit(number)
        return bit is None or self.domain.memory.read(bit[0]) & bit[1] != 0
