"""State from before a capture, clones, and the queries that a replay makes."""

import pytest

from evtrace.errors import UsageError
from evtrace.guest import bits, queue
from evtrace.guest.profiles import GUESTS, LINUX, find_guest
from evtrace.guest.scan import ScanRules, run_upcall
from evtrace.guest.unmask import Unmasked, unmask
from evtrace.xen.abi import DOMID_SELF, Errno, EvtchnOp, FormName, HypercallError, PortState, Virq
from evtrace.xen.domain import Domain, Limits
from evtrace.xen.effects import EffectKind
from evtrace.xen.machine import Machine
from evtrace.xen.pirqs import MAX_SHARERS
from evtrace.xen.vcpu import Vcpu

BOTH = list(FormName)


def send(machine: Machine, domid: int, port: int, vcpu: int = 0) -> int:
    return machine.hypercall(domid, vcpu, EvtchnOp.SEND, (port,)).ret


def kinds(machine: Machine) -> list[str]:
    return [EffectKind(effect[0]).name for effect in machine.take_effects()]


@pytest.mark.parametrize("form", BOTH)
def test_a_seeded_port_is_as_it_was_told(form):
    machine = Machine()
    domain = machine.seed_domain(1, 2, form)
    domain.seed_port(
        70, PortState.INTERDOMAIN, notify_vcpu=1, remote_dom=0, remote_port=8, masked=True
    )
    port = domain.port(70)
    assert port is not None
    assert (port.state, port.notify_vcpu) == (PortState.INTERDOMAIN, 1)
    assert (port.remote_dom, port.remote_port, port.priority) == (0, 8, 7)
    assert (domain.form.pending(70), domain.form.masked(70), domain.form.linked(70)) == (
        False,
        True,
        False,
    )
    assert domain.form.name == form
    assert domain.port(69) is domain.port(9999) is domain.port(-1) is None
    assert machine.take_effects() == []


@pytest.mark.parametrize("form", BOTH)
def test_seeding_again_replaces_the_bits(form):
    machine = Machine()
    domain = machine.seed_domain(1, 1, form)
    domain.seed_port(5, PortState.IPI, pending=True, masked=True)
    domain.seed_port(5, PortState.IPI)
    assert (domain.form.pending(5), domain.form.masked(5)) == (False, False)


@pytest.mark.parametrize("form", BOTH)
def test_seeded_peers_deliver(form):
    machine = Machine()
    machine.seed_domain(0, 1, form).seed_port(
        33, PortState.INTERDOMAIN, remote_dom=1, remote_port=8
    )
    machine.seed_domain(1, 1, form).seed_port(
        8, PortState.INTERDOMAIN, remote_dom=0, remote_port=33
    )
    assert send(machine, 1, 8) == 0
    assert kinds(machine)[:2] == ["SET_PENDING", "UPCALL"]
    assert upcall(machine.domains[0].vcpus[0]) == [33]


def test_a_peer_that_was_not_seeded_swallows_events():
    machine = Machine()
    domain = machine.seed_domain(1, 1)
    for number, remote_dom in ((8, 0), (9, 1)):
        domain.seed_port(number, PortState.INTERDOMAIN, remote_dom=remote_dom, remote_port=33)
        assert send(machine, 1, number) == 0
        assert machine.take_effects() == []
        assert machine.hypercall(1, 0, EvtchnOp.CLOSE, (number,)).ret == 0


def test_a_peer_that_points_elsewhere_is_none():
    machine = Machine()
    domain = machine.seed_domain(1, 1)
    domain.seed_port(8, PortState.INTERDOMAIN, remote_dom=1, remote_port=9)
    domain.seed_port(9, PortState.INTERDOMAIN, remote_dom=1, remote_port=10)
    machine.hypercall(1, 0, EvtchnOp.CLOSE, (8,))
    assert state_of(domain, 9) is PortState.INTERDOMAIN


def test_seeded_interrupts_find_their_ports():
    machine = Machine()
    domain = machine.seed_domain(0, 2)
    domain.seed_port(3, PortState.VIRQ, virq=Virq.TIMER, notify_vcpu=1)
    domain.seed_port(4, PortState.VIRQ, virq=Virq.CONSOLE, notify_vcpu=1)
    domain.seed_port(5, PortState.PIRQ, pirq=9)
    machine.raise_vcpu_virq(0, 1, Virq.TIMER)
    machine.raise_global_virq(Virq.CONSOLE)
    machine.raise_pirq(0, 9)
    raised = [
        effect[1:4] for effect in machine.take_effects() if effect[0] == EffectKind.SET_PENDING
    ]
    assert raised == [(0, 1, 3), (0, 1, 4), (0, 0, 5)]
    assert machine.hypercall(0, 0, EvtchnOp.CLOSE, (5,)).ret == 0
    with pytest.raises(HypercallError, match="ENOENT"):
        machine.raise_pirq(0, 9)


def test_a_port_seeded_as_something_else_is_no_longer_the_virqs():
    machine = Machine()
    domain = machine.seed_domain(0, 1)
    domain.seed_port(3, PortState.VIRQ, virq=Virq.TIMER)
    domain.seed_port(3, PortState.IPI)
    assert domain.vcpus[0].virqs == {}


@pytest.mark.parametrize("form", BOTH)
def test_forgetting_a_port_has_no_effect_and_frees_it(form):
    machine = Machine()
    domain = machine.seed_domain(0, 1, form)
    domain.seed_port(1, PortState.VIRQ, virq=Virq.TIMER, pending=True)
    domain.forget_port(1)
    domain.forget_port(0)
    domain.forget_port(500)
    assert machine.take_effects() == []
    assert (domain.port(1), domain.vcpus[0].virqs) == (None, {})
    assert state_of(domain, 0) is PortState.RESERVED
    answer = machine.hypercall(0, 0, EvtchnOp.BIND_IPI, (0,))
    assert answer.out == (1,)


def test_new_ports_fill_the_gaps_between_seeded_ones():
    machine = Machine()
    domain = machine.seed_domain(1, 1, FormName.FIFO)
    domain.seed_port(1, PortState.IPI)
    domain.seed_port(3, PortState.IPI)
    given = [machine.hypercall(1, 0, EvtchnOp.BIND_IPI, (0,)).out[0] for _ in range(3)]
    assert given == [2, 4, 5]


@pytest.mark.parametrize("form", BOTH)
def test_vcpus_found_later_get_events_too(form):
    machine = Machine()
    domain = machine.seed_domain(1, 1, form)
    assert domain.ensure_vcpu(3) is domain.vcpus[3]
    assert len(domain.vcpus) == 4
    assert domain.ensure_vcpu(1) is domain.vcpus[1]
    domain.seed_port(9, PortState.IPI, notify_vcpu=3)
    send(machine, 1, 9)
    assert domain.vcpus[3].upcall_pending
    assert upcall(domain.vcpus[3]) == [9]


def upcall(vcpu: Vcpu) -> list[int]:
    """Run the handler of a vCPU, due or not; list what it handled."""
    found = run_upcall(vcpu, ScanRules(force=True))
    assert found is not None
    return found.handled


def state_of(domain: Domain, number: int) -> PortState:
    port = domain.port(number)
    assert port is not None
    return port.state


@pytest.mark.parametrize(("rules", "handled"), [(ScanRules(), [4]), (LINUX.scan, [])])
def test_a_scan_takes_ports_of_other_vcpus_unless_it_looks(rules, handled):
    machine = Machine()
    domain = machine.seed_domain(1, 2)
    domain.seed_port(4, PortState.IPI)
    send(machine, 1, 4)
    domain.ports[4].notify_vcpu = 1
    found = run_upcall(domain.vcpus[0], rules)
    assert found is not None
    assert found.handled == handled


def test_no_upcall_without_need():
    machine = Machine()
    vcpu = machine.seed_domain(1, 1).vcpus[0]
    assert run_upcall(vcpu) is None
    assert run_upcall(vcpu, ScanRules(force=True)) is not None


def linked_machine() -> tuple[Machine, Domain]:
    """Domain 1 in FIFO with ports 4, 2, 9 queued at priority 7 and 5 at priority 3."""
    machine = Machine()
    domain = machine.seed_domain(1, 1, FormName.FIFO)
    for number, priority in ((4, 7), (2, 7), (9, 7), (5, 3)):
        domain.seed_port(number, PortState.IPI, pending=True, linked=True, priority=priority)
    return machine, domain


def test_seeded_links_keep_their_order():
    machine, domain = linked_machine()
    assert machine.take_effects() == []
    assert list(queue.queued_ports(domain.vcpus[0], 7)) == [4, 2, 9]
    handled = upcall(domain.vcpus[0])
    assert handled == [5, 4, 2, 9]


def test_an_event_joins_a_seeded_queue_without_upcall():
    machine, domain = linked_machine()
    domain.seed_port(11, PortState.IPI)
    send(machine, 1, 11)
    assert kinds(machine) == ["SET_PENDING", "WORD", "WORD"]
    assert list(queue.queued_ports(domain.vcpus[0], 7)) == [4, 2, 9, 11]


def test_consuming_until_a_port_passes_those_before_it():
    machine, domain = linked_machine()
    assert queue.consume_until(machine, 1, 0, 2) == (True, [4])
    assert [domain.form.linked(number) for number in (4, 2, 9, 5)] == [False, False, True, True]
    assert queue.consume_until(machine, 1, 0, 5) == (True, [])
    assert queue.consume_until(machine, 1, 0, 9) == (True, [])
    assert queue.consume_until(machine, 1, 0, 9) == (False, [])
    assert domain.vcpus[0].notes.ready == 0


def test_consuming_leaves_pending_to_the_handler():
    machine, domain = linked_machine()
    queue.consume_until(machine, 1, 0, 4)
    assert domain.form.pending(4)


def test_a_leftover_head_is_not_a_queue():
    machine, domain = linked_machine()
    queue.consume_until(machine, 1, 0, 9)
    bits.clear_pending(domain, 4)
    machine.hypercall(1, 0, EvtchnOp.SET_PRIORITY, (4, 2))
    send(machine, 1, 4)
    assert queue.consume_until(machine, 1, 0, 4) == (True, [])
    assert domain.vcpus[0].notes.heads == {7: 0, 2: 0}


def test_there_is_no_queue_in_the_2_level_form_or_without_control_block():
    machine = Machine()
    domain = machine.seed_domain(1, 1)
    domain.seed_port(4, PortState.IPI, pending=True)
    assert queue.consume_until(machine, 1, 0, 4) == (False, [])
    assert list(queue.queued_ports(domain.vcpus[0], 7)) == []
    other = Machine().create_domain(2, 2)
    other_machine = Machine()
    other = other_machine.create_domain(2, 2)
    other_machine.hypercall(2, 0, EvtchnOp.INIT_CONTROL, (1, 0, 0))
    assert queue.consume_until(other_machine, 2, 1, 4) == (False, [])
    assert list(queue.queued_ports(other.vcpus[1], 7)) == []


def test_a_queue_that_goes_round_ends():
    _, domain = linked_machine()
    bits.write_word(domain, 9, 0xA000_0004)
    assert list(queue.queued_ports(domain.vcpus[0], 7)) == [4, 2, 9]


@pytest.mark.parametrize("form", BOTH)
def test_a_clone_shares_nothing_that_changes(form):
    machine = Machine()
    domain = machine.seed_domain(1, 1, form)
    domain.seed_port(4, PortState.IPI)
    send(machine, 1, 4)
    clone = machine.clone()
    assert clone.effects == []
    assert clone.domains[1].form.pending(4)
    run_upcall(clone.domains[1].vcpus[0])
    clone.hypercall(1, 0, EvtchnOp.CLOSE, (4,))
    assert domain.form.pending(4)
    assert state_of(domain, 4) is PortState.IPI
    assert domain.vcpus[0].upcall_pending
    assert kinds(machine)[0] == "SET_PENDING"


def test_events_only():
    machine = Machine(record_memory=False)
    machine.seed_domain(1, 1).seed_port(4, PortState.IPI)
    send(machine, 1, 4)
    assert kinds(machine) == ["SET_PENDING", "UPCALL"]
    assert not machine.clone().record_memory


# Calls and domains


def test_domains_are_told_of_in_order():
    machine = Machine()
    for domid in (2, 0):
        machine.seed_domain(domid, 1).seed_port(4, PortState.IPI)
        send(machine, domid, 4)
    told = [effect[1] for effect in machine.take_effects() if effect[0] == EffectKind.SEL]
    assert told == [0, 2]


def test_a_domain_number_is_taken_once():
    machine = Machine()
    machine.create_domain(1, 1)
    with pytest.raises(HypercallError, match="EEXIST"):
        machine.create_domain(1, 1)
    machine.destroy_domain(1)
    machine.create_domain(1, 1)


def test_domid_self_needs_a_caller():
    with pytest.raises(HypercallError, match="ESRCH"):
        Machine().find_domain(DOMID_SELF)


@pytest.mark.parametrize("flags", [(1, 1), (1, 0), (0, 1)])
def test_an_interrupt_is_shared_if_all_agree(flags):
    machine = Machine()
    for domid in (1, 2):
        machine.create_domain(domid, 1)
    rets = [
        machine.hypercall(domid, 0, EvtchnOp.BIND_PIRQ, (5, flag)).ret
        for domid, flag in zip((1, 2), flags, strict=True)
    ]
    assert rets == [0, 0 if flags == (1, 1) else -Errno.EBUSY]


def test_an_interrupt_has_at_most_eight_sharers():
    machine = Machine()
    rets = []
    for domid in range(1, MAX_SHARERS + 2):
        machine.create_domain(domid, 1)
        rets.append(machine.hypercall(domid, 0, EvtchnOp.BIND_PIRQ, (5, 1)).ret)
    assert rets == [0] * MAX_SHARERS + [-Errno.EBUSY]


def test_pirqs_may_be_forbidden():
    machine = Machine()
    machine.create_domain(1, 1, limits=Limits(pirqs={3}, nr_pirqs=8))
    rets = [machine.hypercall(1, 0, EvtchnOp.BIND_PIRQ, (pirq, 0)).ret for pirq in (3, 4, 8, 0)]
    assert rets == [0, -Errno.EPERM, -Errno.EINVAL, -Errno.EPERM]


# Guest profiles


def test_guests_by_name():
    assert find_guest("linux") is LINUX
    assert sorted(GUESTS) == ["freebsd", "linux", "unikraft", "zephyr"]
    with pytest.raises(UsageError, match="no guest 'plan9'"):
        find_guest("plan9")


@pytest.mark.parametrize(("name", "is_stuck"), [("linux", False), ("zephyr", True)])
def test_a_guest_that_does_not_look_again_leaves_an_event_stuck(name, is_stuck):
    machine = Machine()
    domain = machine.seed_domain(1, 1)
    domain.seed_port(4, PortState.IPI, masked=True)
    send(machine, 1, 4)
    vcpu = domain.vcpus[0]
    assert unmask(machine, vcpu, 4, find_guest(name)) == Unmasked(None)
    assert (domain.form.pending(4), domain.form.masked(4)) == (True, False)
    assert vcpu.upcall_pending is not is_stuck


def test_unmasking_a_port_without_memory_does_nothing():
    machine = Machine()
    vcpu = machine.seed_domain(1, 1).vcpus[0]
    for name in ("linux", "zephyr"):
        assert unmask(machine, vcpu, 4096, find_guest(name)) is None


def test_an_unmask_on_another_vcpu_calls_xen():
    machine = Machine()
    domain = machine.seed_domain(1, 2)
    domain.seed_port(4, PortState.IPI, notify_vcpu=1, masked=True, pending=True)
    unmasked = unmask(machine, domain.vcpus[0], 4, LINUX)
    assert unmasked == Unmasked(0)
    assert unmasked.by_hypercall
    assert domain.vcpus[1].wants_upcall


def test_forgetting_the_heads_forgets_what_was_ready():
    _, domain = linked_machine()
    run_upcall(domain.vcpus[0], ScanRules(force=True, limit=2))
    notes = domain.vcpus[0].notes
    assert (notes.ready, notes.heads) == (1 << 7, {3: 0, 7: 2})
    queue.forget_heads(domain.vcpus[0])
    assert (notes.ready, notes.heads) == (0, {})
    assert upcall(domain.vcpus[0]) == []


def test_what_a_port_was_before_does_not_matter():
    machine = Machine()
    for domid in (1, 2):
        machine.create_domain(domid, 1)
    machine.hypercall(1, 0, EvtchnOp.BIND_PIRQ, (5, 0))
    machine.hypercall(1, 0, EvtchnOp.CLOSE, (1,))
    machine.hypercall(1, 0, EvtchnOp.BIND_IPI, (0,))
    machine.hypercall(1, 0, EvtchnOp.BIND_PIRQ, (5, 0))
    machine.hypercall(1, 0, EvtchnOp.CLOSE, (1,))
    assert machine.hypercall(2, 0, EvtchnOp.BIND_PIRQ, (5, 0)).ret == -Errno.EBUSY


def test_seeding_a_fifo_domain_leaves_the_bit_maps_of_the_other_form_alone():
    machine = Machine()
    domain = machine.seed_domain(1, 1, FormName.FIFO)
    domain.seed_port(5, PortState.IPI, pending=True, masked=True)
    assert not domain.two_level.pending(5)
    assert not domain.two_level.masked(5)


def test_a_vcpu_that_a_fifo_domain_turns_out_to_have_can_be_signalled():
    machine = Machine()
    domain = machine.seed_domain(1, 1, FormName.FIFO)
    domain.seed_port(5, PortState.IPI, notify_vcpu=2)
    assert len(domain.vcpus) == 3
    assert send(machine, 1, 5) == 0
    assert domain.vcpus[2].upcall_pending
    domain.ensure_vcpu(1)
    assert len(domain.vcpus) == 3


@pytest.mark.parametrize("state", [PortState.UNBOUND, PortState.IPI, PortState.VIRQ])
def test_only_a_pirq_port_takes_physical_interrupts(state):
    machine = Machine()
    domain = machine.seed_domain(1, 1)
    domain.seed_port(5, state)
    assert domain.pirq_ports == {}
    with pytest.raises(HypercallError) as refused:
        machine.raise_pirq(1, 0)
    assert refused.value.errno is Errno.ENOENT


@pytest.mark.parametrize(("poll", "wakes"), [((5,), True), ((6,), False), ((5, 6), True)])
def test_an_event_wakes_those_who_poll_for_it(poll, wakes):
    machine = Machine()
    domain = machine.seed_domain(1, 2)
    domain.seed_port(5, PortState.IPI, masked=True)
    domain.seed_port(6, PortState.IPI, masked=True)
    assert machine.sched_poll(1, 1, poll).out == (1,)
    send(machine, 1, 5)
    assert domain.vcpus[1].blocked == (not wakes)
    assert (domain.polling == 0) == wakes
    assert not domain.vcpus[0].blocked
