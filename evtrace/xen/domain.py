"""A domain as event channels see it: its port table, vCPUs, memory and the form in use."""

from collections.abc import Container
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import TYPE_CHECKING, Final

from evtrace.xen.abi import (
    FIFO_DEFAULT_PRIORITY,
    FIFO_LINKED,
    FIFO_MASKED,
    FIFO_PENDING,
    Errno,
    HypercallError,
    PortState,
)
from evtrace.xen.fifo import Fifo
from evtrace.xen.memory import SharedMemory, page_address
from evtrace.xen.port import Port
from evtrace.xen.table import PortTable
from evtrace.xen.twolevel import TwoLevel
from evtrace.xen.vcpu import POLL_ANY, Vcpu
from evtrace.xen.virqs import VirqClass, classify_virq

if TYPE_CHECKING:
    from evtrace.xen.effects import Effect
    from evtrace.xen.form import Form
    from evtrace.xen.profiles import Profile

NO_PORT_LIMIT: Final = 0x7FFF_FFFF
"""`Limits.max_port` of a domain whose administrator set none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a domain may have and do, given at its creation."""

    max_port: int = NO_PORT_LIMIT
    """Highest port allowed by the administrator."""
    nr_pirqs: int = 1 << 16
    pirqs: Container[int] | None = None
    """PIRQs that the domain may bind; None: all."""
    gfns: int = 1 << 52
    """Number of guest pages."""
    read_only_gfns: Container[int] = ()
    target: int | None = None
    """Domain on which this one may act, as its device model."""


@unique
class Dying(IntEnum):
    """How far a domain's death has come; a dead one can still be named."""

    ALIVE = 0
    DYING = 1
    DEAD = 2


class Domain:
    """One domain: what is known of it, and the small steps that operations are made of."""

    __slots__ = (
        "domid",
        "dying",
        "effects",
        "fifo",
        "form",
        "former_fifo",
        "is_hvm",
        "is_privileged",
        "limits",
        "memory",
        "next_reset",
        "pause_count",
        "pirq_ports",
        "polling",
        "profile",
        "table",
        "two_level",
        "vcpus",
        "word_bits",
    )

    def __init__(
        self,
        domid: int,
        vcpus: int,
        profile: "Profile",
        effects: "list[Effect]",
        *,
        word_bits: int,
        is_privileged: bool,
        is_hvm: bool,
        limits: Limits | None,
    ) -> None:
        self.domid = domid
        self.profile = profile
        self.effects = effects
        """The machine's list, to which all domains append."""
        self.word_bits = word_bits
        """Width of the words of the 2-level form: 32 for a 32-bit guest, else 64."""
        self.is_privileged = is_privileged
        self.is_hvm = is_hvm
        self.limits = limits or Limits()
        self.memory = SharedMemory()
        self.vcpus = [Vcpu(self, vcpu_id) for vcpu_id in range(vcpus)]
        self.table = PortTable(profile.table_step)
        self.two_level = TwoLevel(self)
        self.fifo: Fifo | None = None
        self.form: Form = self.two_level
        """The form in use: one of the two."""
        self.former_fifo: Fifo | None = None
        """The FIFO form that the last operation ended: the changes in its pages are still told."""
        self.dying = Dying.ALIVE
        self.pause_count = 0
        """How often its controller has paused it."""
        self.next_reset = 0
        """Where a reset in progress goes on; 0: none."""
        self.polling = 0
        """vCPUs that poll, as bits."""
        self.pirq_ports: dict[int, int] = {}
        self.allocate_port().state = PortState.RESERVED

    # Ports

    @property
    def ports(self) -> list[Port]:
        """All ports of the table, free ones included."""
        return self.table.ports

    def port(self, number: int) -> Port | None:
        """Find a port that is in use, port 0 included; None: free, or it does not exist."""
        port = self.table.lookup(number)
        return None if port is None or port.state == PortState.FREE else port

    def allocate_port(self) -> Port:
        """Give out a port; EINVAL if the domain is dying."""
        if self.dying:
            raise HypercallError(Errno.EINVAL)
        return self.table.allocate(self.form, self.limits.max_port)

    def free_port(self, port: Port) -> None:
        """Free a port and take back its event; what is saved in Xen stays. evtchn_free."""
        if self.is_usable(port):
            self.form.clear_pending(port.number)
        self.unlist(port)
        self.table.free(port)

    def unlist(self, port: Port) -> None:
        """Take a VIRQ or PIRQ port out of the tables by which an interrupt finds it."""
        if port.state == PortState.VIRQ:
            for vcpu in self.vcpus:
                if vcpu.virqs.get(port.virq) == port.number:
                    del vcpu.virqs[port.virq]
        elif port.state == PortState.PIRQ:
            del self.pirq_ports[port.pirq]

    def is_usable(self, port: Port) -> bool:
        """Will Xen touch the port's bits? Older versions never asked. evtchn_usable."""
        return port.usable or not self.profile.unusable_ports_left_alone

    def set_pending(self, port: Port, vcpu_id: int) -> None:
        """Raise an event on a port for a vCPU. evtchn_port_set_pending."""
        if self.is_usable(port):
            self.form.set_pending(port, self.vcpus[vcpu_id])

    def wake_pollers(self, number: int) -> None:
        """Wake the vCPUs that poll for this port, or for any. evtchn_check_pollers."""
        if not self.polling:
            return
        for vcpu in self.vcpus:
            if vcpu.poll in (POLL_ANY, number):
                vcpu.unblock()

    # Forms

    def enter_fifo(self, form: Fifo) -> None:
        """Switch to FIFO: pending bits are saved, all priorities the default. setup_ports."""
        for port in self.ports[1 : self.two_level.limit]:
            form.init_port(port)
        for number in self.two_level.pending_ports():
            if 0 < number < len(self.ports):
                self.ports[number].saved_pending = True
        self.form = self.fifo = form

    def leave_fifo(self) -> None:
        """Forget the queues and the array; the pages keep what is in them. evtchn_fifo_destroy."""
        self.former_fifo, self.fifo = self.fifo, None
        self.form = self.two_level

    def map_guest_page(self, gfn: int) -> int:
        """Find the address of a page that the guest lends, or refuse with EINVAL."""
        if gfn >= self.limits.gfns or gfn in self.limits.read_only_gfns:
            raise HypercallError(Errno.EINVAL)
        return page_address(gfn)

    def page_views(self) -> list[Fifo]:
        """Name what gives guest pages a meaning, before and after the last operation."""
        return [form for form in (self.former_fifo, self.fifo) if form is not None]

    # State from before a capture

    def ensure_vcpu(self, vcpu_id: int) -> Vcpu:
        """Find a vCPU; it and those below are added if missing, with control blocks in FIFO."""
        while len(self.vcpus) <= vcpu_id:
            self.vcpus.append(Vcpu(self, len(self.vcpus)))
            if self.fifo:
                self.fifo.seed_vcpu(len(self.vcpus) - 1)
        return self.vcpus[vcpu_id]

    def seed_port(
        self,
        number: int,
        state: PortState,
        *,
        notify_vcpu: int = 0,
        remote_dom: int = 0,
        remote_port: int = 0,
        virq: int = 0,
        pirq: int = 0,
        xen_consumer: bool = False,
        pending: bool = False,
        masked: bool = False,
        linked: bool = False,
        priority: int = FIFO_DEFAULT_PRIORITY,
    ) -> Port:
        """Enter a port as it stood before a capture; no effect is told, now or later.

        A linked port joins the end of its queue, so seed them in the order in which they came.
        """
        port = self.table.ensure(number)
        vcpu = self.ensure_vcpu(notify_vcpu)
        self.unlist(port)
        port.state, port.notify_vcpu, port.xen_consumer = state, notify_vcpu, xen_consumer
        port.remote_dom, port.remote_port = remote_dom, remote_port
        port.virq, port.pirq, port.priority = virq, pirq, priority
        if state == PortState.VIRQ:
            per_vcpu = classify_virq(virq, self.profile) == VirqClass.VCPU
            (vcpu if per_vcpu else self.vcpus[0]).virqs[virq] = number
        elif state == PortState.PIRQ:
            self.pirq_ports[pirq] = number
        self._seed_bits(port, pending=pending, masked=masked, linked=linked)
        self.memory.journal.clear()
        return port

    def _seed_bits(self, port: Port, *, pending: bool, masked: bool, linked: bool) -> None:
        if self.fifo:
            word = pending * FIFO_PENDING | masked * FIFO_MASKED | linked * FIFO_LINKED
            self.fifo.seed_port(port, word)
            return
        for (address, bit), value in (
            (self.two_level.pending_bit(port.number), pending),
            (self.two_level.mask_bit(port.number), masked),
        ):
            if value:
                self.memory.set_bits(address, bit)
            else:
                self.memory.clear_bits(address, bit)

    def forget_port(self, number: int) -> None:
        """Drop a port without any effect; its bits and a peer stay as they are."""
        port = self.port(number)
        if port is not None and number:
            self.unlist(port)
            self.table.free(port)

    def clone(self, effects: "list[Effect]") -> "Domain":
        """Copy all but the limits, which never change; the copy appends to `effects`."""
        copy = Domain.__new__(Domain)
        copy.domid, copy.profile, copy.effects = self.domid, self.profile, effects
        copy.word_bits, copy.limits = self.word_bits, self.limits
        copy.is_privileged, copy.is_hvm = self.is_privileged, self.is_hvm
        copy.memory = self.memory.clone()
        copy.vcpus = [vcpu.clone(copy) for vcpu in self.vcpus]
        copy.table = self.table.clone()
        copy.two_level = TwoLevel(copy)
        copy.fifo = self.fifo.clone(copy) if self.fifo else None
        copy.form = copy.fifo or copy.two_level
        copy.former_fifo = None
        copy.dying, copy.pause_count = self.dying, self.pause_count
        copy.next_reset, copy.polling = self.next_reset, self.polling
        copy.pirq_ports = self.pirq_ports.copy()
        return copy
