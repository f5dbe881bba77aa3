"""What must hold in the model whatever guests and controllers do, over random programs.

The programs here are those of well-behaved guests: none writes raw event words or clears a mask
without looking for a waiting event. Then no event may be lost, in either form.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from evtrace.guest import bits
from evtrace.guest.queue import queued_ports
from evtrace.guest.scan import ScanRules, run_upcall
from evtrace.guest.unmask import unmask_linux
from evtrace.xen.abi import (
    DOMID_SELF,
    FIFO_QUEUES,
    EvtchnOp,
    FormName,
    HypercallError,
    PortState,
)
from evtrace.xen.domain import Domain, Limits
from evtrace.xen.dump import dump_machine
from evtrace.xen.machine import Machine
from evtrace.xen.memory import PAGE_BASE
from evtrace.xen.vcpu import Vcpu

DOMAINS = 3
VCPUS = 2
SCAN = ScanRules()

domids = st.integers(0, DOMAINS - 1)
vcpus = st.integers(0, VCPUS - 1)
ports = st.integers(0, 9)
named = st.one_of(domids, st.just(DOMID_SELF), st.just(77))
virqs = st.sampled_from([0, 1, 2, 3, 11, 24])


@dataclass(frozen=True)
class Action:
    """One thing that happens to a machine; shown by its name and arguments."""

    name: str
    args: tuple[int, ...]

    def run(self, machine: Machine) -> object:
        try:
            return ACTIONS[self.name](machine, *self.args)
        except HypercallError as refusal:
            return refusal.errno


def hypercall(op: EvtchnOp) -> Callable[..., object]:
    return lambda machine, domid, vcpu, *args: machine.hypercall(domid, vcpu, op, args)


def on_vcpu(act: Callable[..., object]) -> Callable[..., object]:
    return lambda machine, domid, vcpu, *args: act(machine.domains[domid].vcpus[vcpu], *args)


ACTIONS: dict[str, Callable[..., object]] = {
    **{op.name.lower(): hypercall(op) for op in EvtchnOp},
    "poll": lambda machine, domid, vcpu, port: machine.sched_poll(domid, vcpu, [port]),
    "block": lambda machine, domid, vcpu: machine.sched_block(domid, vcpu),
    "raise_vcpu_virq": Machine.raise_vcpu_virq,
    "raise_domain_virq": Machine.raise_domain_virq,
    "raise_global_virq": Machine.raise_global_virq,
    "raise_pirq": Machine.raise_pirq,
    "set_virq_handler": Machine.set_virq_handler,
    "register_vcpu_info": Machine.register_vcpu_info,
    "xen_alloc_unbound": Machine.xen_alloc_unbound,
    "xen_notify": Machine.xen_notify,
    "xen_free": Machine.xen_free,
    "pause": Machine.pause_domain,
    "upcall": on_vcpu(lambda vcpu: run_upcall(vcpu, SCAN)),
    "mask": on_vcpu(lambda vcpu, port: bits.mask(vcpu.domain, port)),
    "mask_upcalls": on_vcpu(bits.write_upcall_mask),
    "unmask_linux": lambda machine, domid, vcpu, port: unmask_linux(
        machine, machine.domains[domid].vcpus[vcpu], port
    ),
}

ARGUMENTS: dict[str, tuple[st.SearchStrategy[int], ...]] = {
    "bind_interdomain": (domids, vcpus, named, ports),
    "bind_virq": (domids, vcpus, virqs, vcpus),
    "bind_pirq": (domids, vcpus, ports, st.integers(0, 1)),
    "close": (domids, vcpus, ports),
    "send": (domids, vcpus, ports),
    "status": (domids, vcpus, named, ports),
    "alloc_unbound": (domids, vcpus, named, named),
    "bind_ipi": (domids, vcpus, vcpus),
    "bind_vcpu": (domids, vcpus, ports, vcpus),
    "unmask": (domids, vcpus, ports),
    "poll": (domids, vcpus, ports),
    "block": (domids, vcpus),
    "raise_vcpu_virq": (domids, vcpus, virqs),
    "raise_domain_virq": (domids, virqs),
    "raise_global_virq": (virqs,),
    "raise_pirq": (domids, ports),
    "set_virq_handler": (domids, virqs),
    "register_vcpu_info": (domids, vcpus),
    "xen_alloc_unbound": (domids, vcpus, domids),
    "xen_notify": (domids, ports),
    "xen_free": (domids, ports),
    "upcall": (domids, vcpus),
    "mask": (domids, vcpus, ports),
    "mask_upcalls": (domids, vcpus, st.integers(0, 1)),
    "unmask_linux": (domids, vcpus, ports),
}

WILD_ARGUMENTS = ARGUMENTS | {
    "reset": (domids, vcpus, named),
    "reset_cont": (domids, vcpus, named),
    "pause": (domids,),
    "init_control": (domids, vcpus, st.integers(0, 3), st.sampled_from([0, 8, 4024]), vcpus),
    "expand_array": (domids, vcpus, st.integers(0, 5)),
    "set_priority": (domids, vcpus, ports, st.integers(0, 16)),
}


def programs(
    arguments: dict[str, tuple[st.SearchStrategy[int], ...]],
) -> st.SearchStrategy[list[Action]]:
    actions = [
        st.builds(Action, st.just(name), st.tuples(*strategies))
        for name, strategies in arguments.items()
    ]
    # Events and their delivery are what most of a program should be about.
    weighted = [
        *actions,
        *(st.builds(Action, st.just("send"), st.tuples(domids, vcpus, ports)),) * 4,
    ]
    return st.lists(st.one_of(weighted), max_size=60)


tame = programs(ARGUMENTS | {"set_priority": WILD_ARGUMENTS["set_priority"]})
wild = programs(WILD_ARGUMENTS)


def new_machine(form: FormName = FormName.TWO_LEVEL) -> Machine:
    machine = Machine()
    for domid in range(DOMAINS):
        machine.create_domain(domid, VCPUS, limits=Limits(max_port=8 if domid == 2 else 90))
        for vcpu in range(VCPUS) if form is FormName.FIFO else ():
            machine.hypercall(domid, 0, EvtchnOp.INIT_CONTROL, (1, 128 * vcpu, vcpu))
        if form is FormName.FIFO:
            machine.hypercall(domid, 0, EvtchnOp.EXPAND_ARRAY, (2,))
    connect(machine)
    return machine


def connect(machine: Machine) -> None:
    """Give every domain an IPI port and a channel to the next, so that sends meet something."""
    for domid in range(DOMAINS):
        peer = (domid + 1) % DOMAINS
        answer = machine.hypercall(domid, 0, EvtchnOp.ALLOC_UNBOUND, (DOMID_SELF, peer))
        machine.hypercall(peer, 0, EvtchnOp.BIND_INTERDOMAIN, (domid, answer.out[0]))
        machine.hypercall(domid, 0, EvtchnOp.BIND_IPI, (1,))
    machine.take_effects()


def check_tables(machine: Machine) -> None:
    for domain in machine.domains.values():
        assert domain.ports[0].state == PortState.RESERVED
        assert all(port.number == index for index, port in enumerate(domain.ports))
        assert all(port.state != PortState.FREE for port in domain.ports[: domain.table.first_free])
        for port in domain.ports:
            check_port(machine, domain, port.number)
        for vcpu in domain.vcpus:
            for virq, number in vcpu.virqs.items():
                assert (domain.ports[number].state, domain.ports[number].virq) == (
                    PortState.VIRQ,
                    virq,
                )
        for pirq, number in domain.pirq_ports.items():
            assert (domain.ports[number].state, domain.ports[number].pirq) == (PortState.PIRQ, pirq)
            assert domain.domid in machine.pirqs.owners[pirq]


def check_port(machine: Machine, domain: Domain, number: int) -> None:
    port = domain.ports[number]
    match port.state:
        case PortState.INTERDOMAIN:
            peer = machine.domains[port.remote_dom].ports[port.remote_port]
            assert peer is not port
            assert (peer.state, peer.remote_dom, peer.remote_port) == (
                PortState.INTERDOMAIN,
                domain.domid,
                number,
            )
        case PortState.FREE:
            assert (port.notify_vcpu, port.xen_consumer) == (0, False)
        case PortState.VIRQ:
            assert [v.virqs.get(port.virq) for v in domain.vcpus].count(number) == 1
        case PortState.PIRQ:
            assert domain.pirq_ports[port.pirq] == number


def check_no_event_lost(domain: Domain) -> None:
    """Whatever is pending and not masked will be found by an upcall that is due."""
    for port in domain.ports:
        if not port.usable or not domain.form.pending(port.number):
            continue
        if domain.form.masked(port.number):
            continue
        announcing = [vcpu for vcpu in domain.vcpus if announces(vcpu, port.number)]
        assert announcing, f"d{domain.domid}:{port.number} is lost"
        assert all(vcpu.upcall_pending for vcpu in announcing)


def announces(vcpu: Vcpu, number: int) -> bool:
    if vcpu.domain.fifo:
        return any(number in queued_ports(vcpu, priority) for priority in ready_queues(vcpu))
    return bool(vcpu.selector >> number // vcpu.domain.word_bits & 1)


def ready_queues(vcpu: Vcpu) -> list[int]:
    fifo = vcpu.domain.fifo
    block = fifo.queues[vcpu.vcpu_id].control_block if fifo else None
    if block is None:
        return []
    ready = vcpu.domain.memory.read(block) | vcpu.notes.ready
    return [priority for priority in range(FIFO_QUEUES) if ready >> priority & 1]


def check_queues(domain: Domain) -> None:
    """Every linked port stands once on one queue; no queue goes round."""
    queued = [
        port
        for vcpu in domain.vcpus
        for priority in ready_queues(vcpu)
        for port in queued_ports(vcpu, priority)
    ]
    linked = [port.number for port in domain.ports if domain.form.linked(port.number)]
    assert sorted(queued) == linked


def check_waiting(domain: Domain) -> None:
    """Who polls is blocked, and known to its domain as polling."""
    for vcpu in domain.vcpus:
        polls = bool(domain.polling >> vcpu.vcpu_id & 1)
        assert polls is (vcpu.poll != 0)
        assert vcpu.blocked or not polls


@given(wild)
def test_tables_agree_with_each_other(program):
    machine = new_machine()
    for action in program:
        action.run(machine)
        check_tables(machine)
        for domain in machine.domains.values():
            check_waiting(domain)


@given(tame)
def test_no_event_is_lost_in_the_2_level_form(program):
    machine = new_machine()
    for action in program:
        action.run(machine)
        for domain in machine.domains.values():
            check_no_event_lost(domain)


@given(tame)
def test_no_event_is_lost_in_the_fifo_form(program):
    machine = new_machine(FormName.FIFO)
    for action in program:
        action.run(machine)
        for domain in machine.domains.values():
            check_no_event_lost(domain)
            check_queues(domain)


@given(tame)
def test_an_upcall_leaves_nothing_to_find(program):
    machine = new_machine(FormName.FIFO)
    for action in program:
        action.run(machine)
    for domain in machine.domains.values():
        for vcpu in domain.vcpus:
            run_upcall(vcpu, ScanRules(force=True))
        check_queues(domain)
        assert not any(domain.form.linked(port.number) for port in domain.ports)


@given(wild)
def test_the_told_difference_in_memory_is_the_real_one(program):
    machine = new_machine()
    machine.take_effects()
    for action in program:
        before = {domid: dict(d.memory.words) for domid, d in machine.domains.items()}
        action.run(machine)
        told = {
            domid: {address for address, _, _ in d.memory.take_changes()}
            for domid, d in machine.domains.items()
        }
        real = {
            domid: {a for a, value in d.memory.words.items() if value != before[domid].get(a, 0)}
            for domid, d in machine.domains.items()
        }
        assert told == real


@given(wild, wild)
@settings(max_examples=50)
def test_a_clone_answers_alike_and_leaves_its_original_alone(first, second):
    machine = new_machine()
    for action in first:
        action.run(machine)
    machine.take_effects()
    state = dump_machine(machine)
    clone = machine.clone()
    assert dump_machine(clone) == state
    answers = [(action.run(clone), clone.take_effects()) for action in second]
    assert dump_machine(machine) == state
    assert [(action.run(machine), machine.take_effects()) for action in second] == answers
    assert dump_machine(machine) == dump_machine(clone)


@given(wild)
def test_closing_everything_leaves_an_empty_table(program):
    machine = new_machine()
    for action in program:
        action.run(machine)
    for domid in range(DOMAINS):
        machine.kill_domain(domid)
    for domain in machine.domains.values():
        assert [port.number for port in domain.ports if port.state] == [0]
        assert (domain.pirq_ports, [v.virqs for v in domain.vcpus]) == ({}, [{}] * VCPUS)
    assert not any(machine.pirqs.owners.values())


def test_the_memory_of_pages_lies_beyond_that_of_vcpus():
    machine = Machine()
    domain = machine.create_domain(0, 8192)
    assert domain.vcpus[-1].mask_address < PAGE_BASE
