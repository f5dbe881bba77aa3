"""A vCPU as event channels see it: its vcpu_info, its VIRQs, whether it blocks or polls."""

from typing import TYPE_CHECKING, Final

from evtrace.xen.effects import EffectKind
from evtrace.xen.memory import SELECTOR, UPCALL_MASK, UPCALL_PENDING, VCPU_BASE, VCPU_WORDS

if TYPE_CHECKING:
    from evtrace.xen.domain import Domain

_UPCALL = EffectKind.UPCALL
_WAKE = EffectKind.WAKE

NO_POLL: Final = 0
POLL_ANY: Final = -1
"""Values of `Vcpu.poll`; any other is the one port polled for."""


class ScanNotes:
    """What the guest kernel on a vCPU remembers between upcalls.

    Xen never looks at it. It is kept here so that a clone of the machine has it too.
    """

    __slots__ = ("bit", "heads", "ready", "word")

    def __init__(self) -> None:
        self.word = 0
        self.bit = 0
        """2-level: where the next scan starts."""
        self.ready = 0
        """FIFO: priorities taken from the control block and not served yet."""
        self.heads: dict[int, int] = {}
        """FIFO: priority -> next port of a queue in the midst of which the guest stands."""

    def clone(self) -> "ScanNotes":
        """Copy them."""
        copy = ScanNotes()
        copy.word, copy.bit, copy.ready = self.word, self.bit, self.ready
        copy.heads = self.heads.copy()
        return copy


class Vcpu:
    """One virtual CPU of a domain."""

    __slots__ = (
        "blocked",
        "domain",
        "mask_address",
        "notes",
        "pending_address",
        "poll",
        "selector_address",
        "vcpu_id",
        "virqs",
    )

    def __init__(self, domain: "Domain", vcpu_id: int) -> None:
        self.domain = domain
        self.vcpu_id = vcpu_id
        base = VCPU_BASE + VCPU_WORDS * vcpu_id
        self.selector_address = base + SELECTOR
        self.pending_address = base + UPCALL_PENDING
        self.mask_address = base + UPCALL_MASK
        self.blocked = False
        self.poll = NO_POLL
        self.virqs: dict[int, int] = {}
        """VIRQ -> port. A VIRQ that is not per vCPU is entered at vCPU 0, wherever it goes."""
        self.notes = ScanNotes()

    @property
    def selector(self) -> int:
        """evtchn_pending_sel."""
        return self.domain.memory.read(self.selector_address)

    @property
    def upcall_pending(self) -> bool:
        """evtchn_upcall_pending."""
        return self.domain.memory.read(self.pending_address) != 0

    @property
    def upcall_mask(self) -> bool:
        """evtchn_upcall_mask."""
        return self.domain.memory.read(self.mask_address) != 0

    @property
    def wants_upcall(self) -> bool:
        """An upcall is due and not held off (local_events_need_delivery)."""
        return self.upcall_pending and not self.upcall_mask

    def mark_events_pending(self) -> None:
        """Enter the upcall routine; only a new flag kicks the vCPU. vcpu_mark_events_pending."""
        domain = self.domain
        already = domain.memory.set_bits(self.pending_address, 1)
        domain.effects.append((_UPCALL, domain.domid, self.vcpu_id, int(not already)))
        if not already:
            self.unblock()

    def register_info(self) -> None:
        """Mark all selector bits and make an upcall: nothing shall be lost. map_vcpu_info."""
        memory = self.domain.memory
        memory.write(self.selector_address, (1 << self.domain.word_bits) - 1)
        if self.domain.profile.vcpu_info_makes_upcall:
            self.mark_events_pending()
        else:
            memory.write(self.pending_address, 1)

    def unblock(self) -> None:
        """Wake the vCPU if it waits; that ends a poll. vcpu_unblock."""
        if not self.blocked:
            return
        self.blocked = False
        if self.poll != NO_POLL:
            self.poll = NO_POLL
            self.domain.polling &= ~(1 << self.vcpu_id)
        self.domain.effects.append((_WAKE, self.domain.domid, self.vcpu_id))

    def clone(self, domain: "Domain") -> "Vcpu":
        """Copy it into the clone of its domain."""
        copy = Vcpu(domain, self.vcpu_id)
        copy.blocked, copy.poll = self.blocked, self.poll
        copy.virqs = self.virqs.copy()
        copy.notes = self.notes.clone()
        return copy
