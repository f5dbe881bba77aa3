"""Belief: the model's state at a point of the trace, and how much of it is known.

The model is two-valued. What the trace cannot know (ports that existed before the capture, tables
of domains nobody took a snapshot of) is kept here, beside it: an answer that rests on such a thing
is adopted, never compared.
"""

from collections.abc import Mapping
from typing import NamedTuple

from evtrace.guest import bits, queue, unmask
from evtrace.replay.calls import Call
from evtrace.replay.tokens import Channel
from evtrace.tracefile.family import LINUX_HABITS, GuestHabits, GuestType
from evtrace.xen.abi import (
    DOMID_SELF,
    FIFO_MASKED,
    MAX_VCPUS,
    NR_FIFO_CHANNELS,
    PAGE_WORDS,
    EvtchnOp,
    FormName,
    PortState,
)
from evtrace.xen.domain import Domain
from evtrace.xen.effects import Effect, EffectKind
from evtrace.xen.machine import Answer, Machine
from evtrace.xen.memory import PAGE_BASE
from evtrace.xen.port import Port
from evtrace.xen.profiles import Profile
from evtrace.xen.virqs import VirqClass, classify_virq

ALLOCATING = frozenset(
    {
        EvtchnOp.ALLOC_UNBOUND,
        EvtchnOp.BIND_INTERDOMAIN,
        EvtchnOp.BIND_VIRQ,
        EvtchnOp.BIND_PIRQ,
        EvtchnOp.BIND_IPI,
    },
)
"""Operations that answer with a new port: the lowest free one."""

ON_A_PORT = frozenset(
    {
        EvtchnOp.CLOSE,
        EvtchnOp.SEND,
        EvtchnOp.BIND_VCPU,
        EvtchnOp.UNMASK,
        EvtchnOp.SET_PRIORITY,
    },
)
"""Operations whose first argument is a port of the caller."""

RESETS = frozenset({EvtchnOp.RESET, EvtchnOp.RESET_CONT})
"""Operations after which a new kernel starts."""


def _is_new_upcall(effect: Effect) -> bool:
    return effect[0] == EffectKind.UPCALL and bool(effect[3])


class Event(NamedTuple):
    """A port on which the model raised an event."""

    dom: int
    vcpu: int
    port: int
    masked: bool
    announced: bool
    """The vCPU's next upcall has to find it."""
    dropped: bool
    """FIFO: there is no control block, so Xen has lost it."""


class Belief:
    """A machine, and what of its state is known."""

    def __init__(
        self,
        profile: Profile,
        fifo: dict[int, bool] | None = None,
        vcpus: dict[int, int] | None = None,
        irq_names: dict[tuple[int, int], str] | None = None,
        habits: Mapping[int, GuestHabits] | None = None,
        guest_types: Mapping[int, GuestType] | None = None,
    ) -> None:
        """Start with no domain.

        `fifo`, `vcpus`, `guest_types` and `irq_names` (by domain and irq) hold what the trace's
        facts say of each domain, `habits` what its kernel does unseen; without them it is taken
        for Linux.
        """
        self.machine = Machine(profile, record_memory=False)
        self.host_irqs: dict[int, Channel] = {}
        """The host's irq -> the port its PIRQ is bound to, as a snapshot showed it."""
        self._fifo = fifo or {}
        self._vcpus = vcpus or {}
        self._irq_names = irq_names or {}
        self._habits = habits or {}
        self._guest_types = guest_types or {}
        self.kicked: set[tuple[int, int]] = set()
        """(domain, vCPU) that the steps up to the last `events` gave a new upcall."""
        self.closed: set[Channel] = set()
        """Ports that were closed during the capture: some may be on a queue still."""
        self.started: set[int] = set()
        """Domains that were created during the capture: all their memory is known."""
        self._start_tsc = 0
        self._known_since: dict[int, int] = {}
        self._complete: set[int] = set()  # domains whose port table is known
        self._assumed: set[Channel] = set()  # ports in use, bound to something unknown

    def begin(self, tsc: int) -> None:
        """Note the time of the first row; later ones change nothing."""
        self._start_tsc = self._start_tsc or tsc

    def known_since(self, dom: int) -> int:
        """Give the time before which nothing is known of a domain: its snapshot's, or the start."""
        return self._known_since.get(dom, self._start_tsc)

    def clone(self) -> "Belief":
        """Give an independent copy, to try an order of calls on."""
        copy = object.__new__(Belief)
        copy.__dict__.update(self.__dict__)
        copy.machine = self.machine.clone()
        copy._complete = set(self._complete)
        copy._assumed = set(self._assumed)
        copy.closed = set(self.closed)
        copy.started = set(self.started)
        return copy

    # --- what is known ---------------------------------------------------------------------

    def state(self, channel: Channel) -> PortState | None:
        """Give the port's state; None if it is not in use."""
        port = self.port(channel)
        return port.state if port else None

    def is_assumed(self, channel: Channel) -> bool:
        """Tell whether the port is in use, bound to something that is not known."""
        return channel in self._assumed

    def peer(self, channel: Channel) -> Channel:
        """Give the other end of an interdomain port."""
        port = self.port(channel)
        return (port.remote_dom, port.remote_port) if port else channel

    def is_xens(self, channel: Channel) -> bool:
        """Tell whether the hypervisor itself holds the port."""
        port = self.port(channel)
        return port is not None and port.xen_consumer

    def target_of_send(self, channel: Channel) -> Channel | None:
        """Give the port that a send on `channel` sets pending."""
        state = self.state(channel)
        if channel in self._assumed or state not in {PortState.INTERDOMAIN, PortState.IPI}:
            return None
        if state is PortState.IPI:
            return channel
        peer = self.peer(channel)
        return peer if self._leads_back(peer, channel) else None

    def _leads_back(self, peer: Channel, channel: Channel) -> bool:
        """Tell whether both ends agree; they need not after calls that nobody saw."""
        port = self.port(peer)
        if port is None or port.state is not PortState.INTERDOMAIN or port.xen_consumer:
            return True
        return (port.remote_dom, port.remote_port) == channel

    def home(self, channel: Channel) -> tuple[int, int] | None:
        """Give (vCPU, priority) to which the port's next event goes."""
        port = self.port(channel)
        return (port.notify_vcpu, port.priority) if port else None

    def queue(self, channel: Channel) -> tuple[int, int] | None:
        """Give (vCPU, priority) of the FIFO queue on which the port is linked, closed or not."""
        domain = self.domain(channel[0])
        port, fifo = domain.table.lookup(channel[1]), domain.fifo
        if port is None or fifo is None or not fifo.linked(channel[1]):
            return None
        return port.last_vcpu, port.last_priority

    def masked(self, channel: Channel) -> bool:
        """Tell whether the port is masked."""
        return self.domain(channel[0]).form.masked(channel[1])

    def pending(self, channel: Channel) -> bool:
        """Tell whether the port is pending."""
        return self.domain(channel[0]).form.pending(channel[1])

    def is_saved(self, channel: Channel) -> bool:
        """Tell whether Xen keeps an event of the port: there is no event word for it yet."""
        port = self.port(channel)
        form = self.domain(channel[0]).form
        return port is not None and port.saved_pending and form.pending_bit(channel[1]) is None

    def is_fifo(self, dom: int) -> bool:
        """Tell whether the domain uses the FIFO form."""
        return self.domain(dom).fifo is not None

    def due_on(self, channel: Channel) -> int | None:
        """Give the vCPU whose next upcall must find the port; None if none will."""
        domain, number = self.domain(channel[0]), channel[1]
        if not domain.form.pending(number) or domain.form.masked(number):
            return None
        if domain.fifo is not None:
            linked = self.queue(channel)
            return linked[0] if linked else None
        home = self.home(channel)
        if home is None or home[0] >= len(domain.vcpus):
            return None
        selected = domain.vcpus[home[0]].selector >> number // domain.word_bits & 1
        return home[0] if selected else None

    def pirq_port(self, dom: int, pirq: int) -> Channel | None:
        """Give the port to which a domain has bound a PIRQ."""
        port = self.domain(dom).pirq_ports.get(pirq)
        return None if port is None else (dom, port)

    def domain(self, domid: int, vcpu: int = 0) -> Domain:
        """Give a domain of the machine, seeding an empty one if it was never seen."""
        domain = self.machine.domains.get(domid)
        if domain is None:
            form = FormName.FIFO if self._fifo.get(domid, True) else FormName.TWO_LEVEL
            vcpus = min(max(self._vcpus.get(domid, 1), vcpu + 1), MAX_VCPUS)
            domain = self.machine.seed_domain(domid, vcpus, form)
            domain.is_hvm = self.is_hvm(domid)
            self.map_words(domain, 0)
        domain.ensure_vcpu(vcpu)
        return domain

    def map_words(self, domain: Domain, port: int) -> None:
        """Let the event words up to `port` exist, masked if the kernel masks what it never used."""
        if domain.fifo is None:
            if self._masks(domain.domid) and port == 0:
                bits.mask_all(domain)
            return
        mask = FIFO_MASKED if self._masks(domain.domid) else 0
        mapped = len(domain.fifo.array) * PAGE_WORDS
        while mapped <= port:
            for number in range(mapped, mapped + PAGE_WORDS):
                domain.fifo.seed_port(Port(number), mask)
            mapped += PAGE_WORDS

    def port(self, channel: Channel) -> Port | None:
        """Give a port of the model; None if it is not in use."""
        domain = self.machine.domains.get(channel[0])
        return domain.port(channel[1]) if domain else None

    def knows(self, dom: int) -> bool:
        """Tell whether the port table of a domain is known."""
        return dom in self._complete

    def learn_table(self, dom: int, vcpus: int, tsc: int, *, fifo: bool | None) -> Domain:
        """Take it that a snapshot of `tsc` shows all ports of a domain; gives it without any."""
        if fifo is not None:
            self._fifo.setdefault(dom, fifo)
        domain = self.domain(dom, vcpus - 1)
        for port in list(domain.ports):
            domain.forget_port(port.number)
        self._assumed = {channel for channel in self._assumed if channel[0] != dom}
        self._complete.add(dom)
        self._known_since[dom] = tsc
        return domain

    def is_known(self, channel: Channel) -> bool:
        """Tell whether the port is in use, and what it is bound to is known."""
        return self.port(channel) is not None and channel not in self._assumed

    # --- calls -----------------------------------------------------------------------------

    def execute(self, call: Call) -> Answer:
        """Let the model execute the call, and the guest do what goes with it unseen."""
        args = call.args or ()
        if call.op == EvtchnOp.EXPAND_ARRAY and self._masks(call.dom):
            bits.fill_page(self.domain(call.dom), args[0], FIFO_MASKED)
        answer = self.machine.hypercall(call.dom, call.vcpu, call.op, args)
        if call.op in RESETS and answer.ret == 0:
            self._start_anew(self.domain(self.target(call)))
        return answer

    def _start_anew(self, domain: Domain) -> None:
        """Follow a kernel that starts: the pages that it lends are empty, all ports masked."""
        words = domain.memory.words
        for address in [address for address in words if address >= PAGE_BASE]:
            del words[address]
        for vcpu in domain.vcpus:
            queue.forget_heads(vcpu)
        if self._masks(domain.domid):
            bits.mask_all(domain)

    def _masks(self, dom: int) -> bool:
        return GuestHabits.MASKED_AT_START in self._habits.get(dom, LINUX_HABITS)

    def is_hvm(self, dom: int) -> bool:
        """Tell whether the trace says that a domain is an HVM guest."""
        return self._guest_types.get(dom) is GuestType.HVM

    def rechecks(self, dom: int) -> bool:
        """Tell whether the kernel looks for a waiting event when it unmasks a port."""
        return GuestHabits.UNMASK_RECHECKS in self._habits.get(dom, LINUX_HABITS)

    def events(self) -> list[Event]:
        """Take the events that the model raised since the last time."""
        effects = self.machine.take_effects()
        self.kicked = {(effect[1], effect[2]) for effect in effects if _is_new_upcall(effect)}
        return [self._event(effect) for effect in effects if effect[0] == EffectKind.SET_PENDING]

    def _event(self, effect: Effect) -> Event:
        _, dom, vcpu, port, was, masked = effect
        fifo = self.machine.domains[dom].fifo
        dropped = fifo is not None and fifo.drops(port, vcpu)
        announced = not (masked or dropped or (was and fifo is None))
        return Event(dom, vcpu, port, bool(masked), announced, dropped)

    def target(self, call: Call) -> int:
        """Give the domain that a call with a `dom` argument acts on."""
        named = (call.args or (DOMID_SELF,))[0]
        return call.dom if named == DOMID_SELF else named

    def allocated(self, call: Call, answer: Answer) -> list[Channel]:
        """Give the port that the call opened, if it opened one."""
        if call.op not in ALLOCATING or answer.ret < 0 or not answer.out:
            return []
        owner = self.owner(call)
        self._assumed.discard((owner, answer.out[0]))
        return [(owner, answer.out[0])]

    def owner(self, call: Call) -> int:
        """Give the domain in whose table an allocating call opens a port."""
        return self.target(call) if call.op == EvtchnOp.ALLOC_UNBOUND else call.dom

    def doubt(self, doms: set[int]) -> None:
        """Note that the port tables of domains may have changed unseen."""
        self._complete -= doms

    def irq_name(self, dom: int, irq: int) -> str:
        """Give the name of a domain's irq; empty if the trace has none."""
        return self._irq_names.get((dom, irq), "")

    def settle(self, channel: Channel) -> None:
        """Note that what the port is bound to is assumed no longer."""
        self._assumed.discard(channel)

    def assume(self, channel: Channel) -> None:
        """Note that a port is in use, bound to something that is not known."""
        if not can_be(channel):
            return
        self._assumed.add(channel)
        domain = self.domain(channel[0])
        if domain.port(channel[1]) is None:
            domain.seed_port(channel[1], PortState.UNBOUND, remote_dom=channel[0])

    # --- what guests and Xen do outside calls ------------------------------------------------

    def mask(self, channel: Channel) -> None:
        """Follow the guest: it masks a port."""
        bits.mask(self.domain(channel[0]), channel[1])

    def unmask(self, channel: Channel, vcpu: int) -> None:
        """Follow the guest: it unmasks a port, less the hypercall that a trace shows by itself."""
        domain = self.domain(channel[0], vcpu)
        if self.rechecks(channel[0]):
            unmask.unmask_memory(domain.vcpus[vcpu], channel[1])
        else:
            bits.clear_mask(domain, channel[1])

    def clear(self, channel: Channel) -> None:
        """Follow the guest: it clears a pending bit."""
        bits.clear_pending(self.domain(channel[0]), channel[1])

    def set_pending(self, channel: Channel) -> None:
        """Follow the guest: it sets a pending bit itself."""
        bits.set_pending(self.domain(channel[0]), channel[1])

    def consume(self, channel: Channel) -> None:
        """Follow the guest: it takes a port off its FIFO queue."""
        home = self.queue(channel)
        if home is not None:
            queue.consume_until(self.machine, channel[0], home[0], channel[1])

    def register_vcpu_info(self, dom: int, vcpu: int) -> None:
        """Follow Xen: a vCPU's vcpu_info is registered."""
        self.domain(dom, vcpu)
        self.machine.register_vcpu_info(dom, vcpu)
        self.events()

    def upcall(self, dom: int, vcpu: int) -> None:
        """Follow the guest: it enters the upcall, takes its flag and, in 2-level, the selector."""
        domain = self.domain(dom, vcpu)
        bits.clear_upcall_pending(domain.vcpus[vcpu])
        if domain.fifo is None:
            domain.memory.write(domain.vcpus[vcpu].selector_address, 0)

    def rest(self, dom: int, vcpu: int) -> None:
        """Follow the guest: its upcall is over, or never came; nothing is announced any more."""
        self.upcall(dom, vcpu)

    def take_back(self, channel: Channel) -> None:
        """Take it that Xen never set the port pending."""
        self.consume(channel)
        self.clear(channel)

    def raise_pirq(self, channel: Channel) -> None:
        """Follow Xen: a physical interrupt for the port's PIRQ."""
        port = self.port(channel)
        if port is not None:
            self.machine.raise_pirq(channel[0], port.pirq)

    def raise_virq(self, dom: int, vcpu: int, virq: int) -> None:
        """Follow Xen: a virtual interrupt for a vCPU or, of the other classes, for its domain."""
        self.domain(dom, vcpu)
        if classify_virq(virq, self.machine.profile) is VirqClass.VCPU:
            self.machine.raise_vcpu_virq(dom, vcpu, virq)
        else:
            self.machine.raise_domain_virq(dom, virq)

    def create_domain(self, dom: int, vcpus: int) -> None:
        """Follow Xen: a new domain, whose port table is known to be empty."""
        if dom not in self.machine.domains:
            made = self.machine.create_domain(dom, min(vcpus, MAX_VCPUS), is_hvm=self.is_hvm(dom))
            self._start_anew(made)
        self._complete.add(dom)
        self.started.add(dom)

    def destroy_domain(self, dom: int) -> None:
        """Follow Xen: a domain is gone."""
        if dom in self.machine.domains:
            self.machine.destroy_domain(dom)
        self._assumed = {channel for channel in self._assumed if channel[0] != dom}


def can_be(channel: Channel) -> bool:
    """Tell whether a domain can have such a port: a damaged record may name any number."""
    return channel[1] < NR_FIFO_CHANNELS
