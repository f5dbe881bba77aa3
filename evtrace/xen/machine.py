"""A machine: domains, what they share, and every way in which something happens to them.

`Machine.hypercall` is the guest's door; the other methods are what the hypervisor and its
controller do. All of them append to `Machine.effects`.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from evtrace.xen import bindings, channels, sched, teardown, virqs
from evtrace.xen.abi import DOMID_SELF, Errno, EvtchnOp, FormName, HypercallError, PortState
from evtrace.xen.domain import Domain, Limits
from evtrace.xen.effects import Effect, memory_effects
from evtrace.xen.fifo import Fifo
from evtrace.xen.pirqs import PirqOwners
from evtrace.xen.port import Port
from evtrace.xen.profiles import HEAD, Profile
from evtrace.xen.virqs import HARDWARE_DOMAIN, VirqClass

ARGS_UNREADABLE: Final = 1
RESULT_UNWRITABLE: Final = 2
"""Values of `fault`: what is wrong with the argument struct."""

_OPERATIONS: Final[dict[int, Callable[..., channels.Outputs]]] = {
    EvtchnOp.BIND_INTERDOMAIN: channels.bind_interdomain,
    EvtchnOp.BIND_VIRQ: bindings.bind_virq,
    EvtchnOp.BIND_PIRQ: bindings.bind_pirq,
    EvtchnOp.CLOSE: channels.close,
    EvtchnOp.SEND: channels.send,
    EvtchnOp.STATUS: channels.status,
    EvtchnOp.ALLOC_UNBOUND: channels.alloc_unbound,
    EvtchnOp.BIND_IPI: bindings.bind_ipi,
    EvtchnOp.BIND_VCPU: bindings.bind_vcpu,
    EvtchnOp.UNMASK: channels.unmask,
    EvtchnOp.RESET: teardown.reset,
    EvtchnOp.INIT_CONTROL: bindings.init_control,
    EvtchnOp.EXPAND_ARRAY: bindings.expand_array,
    EvtchnOp.SET_PRIORITY: bindings.set_priority,
    EvtchnOp.RESET_CONT: teardown.reset_cont,
}
_FIFO_OPERATIONS = (EvtchnOp.INIT_CONTROL, EvtchnOp.EXPAND_ARRAY, EvtchnOp.SET_PRIORITY)


class Answer(NamedTuple):
    """What a call returned: 0, a positive number or a negative errno, and its outputs."""

    ret: int
    out: tuple[int, ...] = ()


_DONE: Final = Answer(0)
_REFUSED: Final = {errno: Answer(-errno) for errno in Errno}


class Machine:
    """Xen with its domains, as far as event channels go; one thing happens at a time."""

    __slots__ = (
        "_operations",
        "domains",
        "effects",
        "pirqs",
        "profile",
        "record_memory",
        "virq_handlers",
        "work_waits",
    )

    def __init__(self, profile: Profile = HEAD, *, record_memory: bool = True) -> None:
        self.profile = profile
        self.domains: dict[int, Domain] = {}
        """Domains in order of their numbers, those that are dead but not gone included."""
        self.effects: list[Effect] = []
        """Events since `take_effects`, in order."""
        self.record_memory = record_memory
        """Whether `take_effects` tells the difference in shared memory too."""
        self.work_waits = False
        """Whether Xen, when it asks, finds other work waiting: long calls then stop half way."""
        self.pirqs = PirqOwners()
        self.virq_handlers: dict[int, int] = {}
        """Global VIRQ -> domain that it was handed to; else the hardware domain has it."""
        self._operations = _operations_of(profile)

    # Calls of guests

    def hypercall(
        self, domid: int, vcpu: int, op: int, args: tuple[int, ...], fault: int = 0
    ) -> Answer:
        """Do event_channel_op for a vCPU; `args` and `Answer.out` as `ops.OP_SPECS` lists them."""
        caller = self.domains[domid].vcpus[vcpu]
        operation = self._operations.get(op)
        if operation is None:
            return _REFUSED[Errno.ENOSYS]
        if fault == ARGS_UNREADABLE:
            return _REFUSED[Errno.EFAULT]
        try:
            out = operation(self, caller, *args)
        except HypercallError as refusal:
            return _REFUSED[refusal.errno]
        if not out:
            return _DONE
        # The work is done; only the caller does not learn of it.
        return _REFUSED[Errno.EFAULT] if fault == RESULT_UNWRITABLE else Answer(0, out)

    def sched_poll(self, domid: int, vcpu: int, ports: Sequence[int]) -> Answer:
        """SCHEDOP_poll; the output is 1 if the caller now waits."""
        try:
            return Answer(0, (int(sched.poll(self.domains[domid].vcpus[vcpu], ports)),))
        except HypercallError as refusal:
            return Answer(-refusal.errno, (0,))

    def sched_block(self, domid: int, vcpu: int) -> Answer:
        """SCHEDOP_block; the output is 1 if the caller now waits."""
        return Answer(0, (int(sched.block(self.domains[domid].vcpus[vcpu])),))

    def register_vcpu_info(self, domid: int, vcpu: int) -> None:
        """VCPUOP_register_vcpu_info."""
        self.domains[domid].vcpus[vcpu].register_info()

    # Domains

    def create_domain(
        self,
        domid: int,
        vcpus: int,
        *,
        is_privileged: bool = False,
        is_hvm: bool = False,
        word_bits: int = 64,
        upcall_mask: bool = False,
        limits: Limits | None = None,
    ) -> Domain:
        """Create a domain in the 2-level form; domain 0 is always privileged. EEXIST."""
        if domid in self.domains:
            raise HypercallError(Errno.EEXIST)
        domain = Domain(
            domid,
            vcpus,
            self.profile,
            self.effects,
            word_bits=word_bits,
            is_privileged=is_privileged or domid == HARDWARE_DOMAIN,
            is_hvm=is_hvm,
            limits=limits,
        )
        for vcpu in domain.vcpus:
            domain.memory.words[vcpu.mask_address] = int(upcall_mask)
        self.domains = dict(sorted([*self.domains.items(), (domid, domain)]))
        return domain

    def seed_domain(
        self,
        domid: int,
        vcpus: int,
        form: FormName = FormName.TWO_LEVEL,
        *,
        is_privileged: bool = False,
        is_hvm: bool = False,
        word_bits: int = 64,
        limits: Limits | None = None,
    ) -> Domain:
        """Create a domain as it stood before a capture; in FIFO all vCPUs have control blocks."""
        domain = self.create_domain(
            domid,
            vcpus,
            is_privileged=is_privileged,
            is_hvm=is_hvm,
            word_bits=word_bits,
            limits=limits,
        )
        if form is FormName.FIFO:
            fifo = Fifo(domain)
            domain.enter_fifo(fifo)
            for vcpu_id in range(vcpus):
                fifo.seed_vcpu(vcpu_id)
        return domain

    def find_domain(self, domid: int, caller: Domain | None = None) -> Domain:
        """Find a domain by the number that `caller` gives, DOMID_SELF included, or ESRCH."""
        if domid == DOMID_SELF and caller is not None:
            return caller
        domain = self.domains.get(domid)
        if domain is None:
            raise HypercallError(Errno.ESRCH)
        return domain

    def kill_domain(self, domid: int) -> None:
        """Let a domain die; it can still be named. ERESTART: stopped half way, to be repeated."""
        teardown.kill(self, self.find_domain(domid))

    def destroy_domain(self, domid: int) -> None:
        """Kill a domain, if it is not dead, and free its number."""
        self.kill_domain(domid)
        del self.domains[domid]

    def pause_domain(self, domid: int) -> None:
        """Pause a domain as its controller does; calls nest."""
        self.find_domain(domid).pause_count += 1

    def unpause_domain(self, domid: int) -> None:
        """Take back one pause."""
        domain = self.find_domain(domid)
        domain.pause_count = max(0, domain.pause_count - 1)

    # Interrupts

    def set_virq_handler(self, domid: int, virq: int) -> None:
        """Hand a global VIRQ to a domain. ESRCH, EINVAL: not global, or dying; EBUSY: bound."""
        virqs.hand_over(self, virq, self.find_domain(domid))

    def raise_vcpu_virq(self, domid: int, vcpu: int, virq: int) -> None:
        """Fire a per-vCPU VIRQ. EINVAL: not of that class. ESRCH: no such living vCPU."""
        virqs.check_virq_class(virq, self.profile, VirqClass.VCPU)
        domain = self._living_domain(domid)
        if vcpu >= len(domain.vcpus):
            raise HypercallError(Errno.ESRCH)
        virqs.raise_on_vcpu(domain, vcpu, virq)

    def raise_domain_virq(self, domid: int, virq: int) -> None:
        """Fire a VIRQ that is not per vCPU for one domain. EINVAL, ESRCH as above."""
        virqs.check_virq_class(virq, self.profile, VirqClass.DOMAIN, VirqClass.GLOBAL)
        virqs.raise_on_domain(self._living_domain(domid), virq)

    def raise_global_virq(self, virq: int) -> None:
        """Fire a global VIRQ; it goes to its handling domain, if that exists. EINVAL as above."""
        virqs.check_virq_class(virq, self.profile, VirqClass.GLOBAL)
        handler = self.domains.get(virqs.find_handler(self, virq))
        if handler is not None:
            virqs.raise_on_domain(handler, virq)

    def raise_pirq(self, domid: int, pirq: int) -> None:
        """Fire a physical interrupt for a domain; ENOENT: not bound there. send_guest_pirq."""
        domain = self.find_domain(domid)
        number = domain.pirq_ports.get(pirq)
        if number is None:
            raise HypercallError(Errno.ENOENT)
        port = domain.ports[number]
        domain.set_pending(port, port.notify_vcpu)

    def unblock_vcpu(self, domid: int, vcpu: int) -> None:
        """Wake a vCPU from outside: a timer, the controller."""
        self.find_domain(domid).vcpus[vcpu].unblock()

    def _living_domain(self, domid: int) -> Domain:
        domain = self.find_domain(domid)
        if domain.dying:
            raise HypercallError(Errno.ESRCH)
        return domain

    # The hypervisor's own ports

    def xen_alloc_unbound(self, domid: int, vcpu: int, remote_dom: int) -> int:
        """Open a port inside a domain for the hypervisor. alloc_unbound_xen_event_channel."""
        domain = self.find_domain(domid)
        port = domain.allocate_port()
        port.state = PortState.UNBOUND
        port.xen_consumer = True
        port.notify_vcpu = vcpu
        port.remote_dom = remote_dom
        return port.number

    def xen_notify(self, domid: int, number: int) -> None:
        """Signal through such a port; unbound, nothing happens. notify_via_xen_event_channel."""
        domain = self.find_domain(domid)
        port = _xen_port(domain, number)
        if port.state == PortState.INTERDOMAIN:
            peer = channels.find_peer(self, domain, port)
            if peer is not None:
                self.domains[port.remote_dom].set_pending(peer, peer.notify_vcpu)

    def xen_free(self, domid: int, number: int) -> None:
        """Close such a port. free_xen_event_channel."""
        domain = self.find_domain(domid)
        channels.close_port(self, domain, _xen_port(domain, number))

    # Effects and copies

    def take_effects(self) -> list[Effect]:
        """Hand over the events since the last call and, if recorded, the changes in memory."""
        effects = self.effects[:]
        self.effects.clear()
        if self.record_memory:
            for domain in self.domains.values():
                if domain.memory.journal:
                    effects += memory_effects(domain)
                domain.former_fifo = None
        return effects

    def clone(self) -> "Machine":
        """Copy the machine; the copy has no effects yet and shares nothing that changes."""
        copy = Machine(self.profile, record_memory=self.record_memory)
        copy.work_waits = self.work_waits
        copy.domains = {domid: domain.clone(copy.effects) for domid, domain in self.domains.items()}
        copy.pirqs = self.pirqs.clone()
        copy.virq_handlers = self.virq_handlers.copy()
        return copy


def _xen_port(domain: Domain, number: int) -> Port:
    """Find a port that the hypervisor holds, or refuse with EINVAL."""
    port = domain.table.existing(number)
    if not port.xen_consumer:
        raise HypercallError(Errno.EINVAL)
    return port


def _operations_of(profile: Profile) -> dict[int, Callable[..., channels.Outputs]]:
    """List the operations that a profile knows."""
    missing = set[int]()
    if not profile.has_fifo:
        missing.update(_FIFO_OPERATIONS)
    if not profile.reset_can_stop:
        missing.add(EvtchnOp.RESET_CONT)
    return {op: operation for op, operation in _OPERATIONS.items() if op not in missing}
