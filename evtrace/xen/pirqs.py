"""Physical interrupts: who holds them.

A PIRQ is taken for the interrupt of the same number; number 0 has none behind it.
"""

from typing import TYPE_CHECKING, Final

from evtrace.xen.abi import Errno, HypercallError
from evtrace.xen.effects import EffectKind

if TYPE_CHECKING:
    from evtrace.xen.domain import Domain

MAX_SHARERS: Final = 8
"""IRQ_MAX_GUESTS."""


class PirqOwners:
    """One owner for each interrupt, or several if all agreed to share."""

    __slots__ = ("owners", "shared")

    def __init__(self) -> None:
        self.owners: dict[int, list[int]] = {}
        """PIRQ -> domains that hold it."""
        self.shared: set[int] = set()

    def bind(self, pirq: int, domid: int, *, will_share: bool) -> None:
        """Give an interrupt to a domain. pirq_guest_bind."""
        if pirq == 0:
            raise HypercallError(Errno.EINVAL)
        holders = self.owners.setdefault(pirq, [])
        if not holders:
            self.shared.discard(pirq)
            if will_share:
                self.shared.add(pirq)
        elif not will_share or pirq not in self.shared or len(holders) == MAX_SHARERS:
            raise HypercallError(Errno.EBUSY)
        holders.append(domid)

    def unbind(self, pirq: int, domid: int) -> None:
        """Take it back, if it holds it: a seeded port does not. pirq_guest_unbind."""
        holders = self.owners.get(pirq, [])
        if domid in holders:
            holders.remove(domid)

    def retarget(self, domain: "Domain", pirq: int, vcpu_id: int) -> None:
        """Have the interrupt itself arrive where the vCPU runs. pirq_set_affinity."""
        if pirq:
            domain.effects.append((EffectKind.PIRQ_AFFINITY, domain.domid, pirq, vcpu_id))

    def clone(self) -> "PirqOwners":
        """Copy them."""
        copy = PirqOwners()
        copy.owners = {pirq: holders.copy() for pirq, holders in self.owners.items()}
        copy.shared = self.shared.copy()
        return copy
