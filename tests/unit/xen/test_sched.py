"""Waiting for events: who is woken, by what, and what is left of the wait."""

from evtrace.guest import bits
from evtrace.xen.abi import Errno, EvtchnOp, PortState
from evtrace.xen.machine import Machine
from evtrace.xen.sched import MAX_POLLED


def machine_with_ports() -> Machine:
    """Domain 1 with two vCPUs, and IPI ports 1 to 3 that go to vCPU 0."""
    machine = Machine()
    domain = machine.seed_domain(1, 2)
    for number in (1, 2, 3):
        domain.seed_port(number, PortState.IPI)
    return machine


def send(machine: Machine, port: int) -> None:
    machine.hypercall(1, 0, EvtchnOp.SEND, (port,))


def test_a_second_poll_ends_the_first():
    machine = machine_with_ports()
    domain = machine.domains[1]
    assert machine.sched_poll(1, 1, [1]).out == (1,)
    bits.set_pending(domain, 2)
    assert machine.sched_poll(1, 1, [2]).out == (0,)
    assert (domain.polling, domain.vcpus[1].poll, domain.vcpus[1].blocked) == (0, 0, False)


def test_a_refused_poll_ends_a_wait():
    machine = machine_with_ports()
    domain = machine.domains[1]
    machine.sched_poll(1, 1, [])
    assert machine.sched_poll(1, 1, [9]) == (-Errno.EINVAL, (0,))
    assert (domain.polling, domain.vcpus[1].poll, domain.vcpus[1].blocked) == (0, 0, False)


def test_one_port_is_polled_for_or_any():
    machine = machine_with_ports()
    vcpu = machine.domains[1].vcpus[1]
    machine.sched_poll(1, 1, [1])
    send(machine, 2)
    assert (vcpu.blocked, vcpu.poll) == (True, 1)
    machine.sched_poll(1, 1, [1, 3])
    assert vcpu.poll == -1
    bits.clear_pending(machine.domains[1], 2)
    send(machine, 2)
    assert (vcpu.blocked, vcpu.poll, machine.domains[1].polling) == (False, 0, 0)


def test_several_pollers_are_woken_each_by_what_it_waits_for():
    machine = machine_with_ports()
    first, second = machine.domains[1].vcpus
    machine.sched_poll(1, 0, [3])
    machine.sched_poll(1, 1, [1])
    bits.mask(machine.domains[1], 1)
    send(machine, 1)
    assert (first.blocked, second.blocked) == (True, False)
    assert machine.domains[1].polling == 1


def test_the_number_of_ports_is_limited():
    machine = machine_with_ports()
    assert machine.sched_poll(1, 1, [1] * MAX_POLLED).ret == 0
    assert machine.sched_poll(1, 1, [1] * (MAX_POLLED + 1)).ret == -Errno.EINVAL


def test_block_lets_upcalls_in():
    machine = machine_with_ports()
    vcpu = machine.domains[1].vcpus[0]
    bits.write_upcall_mask(vcpu, 1)
    assert machine.sched_block(1, 0).out == (1,)
    assert not vcpu.upcall_mask
    send(machine, 1)
    assert not vcpu.blocked
    bits.write_upcall_mask(vcpu, 1)
    assert machine.sched_block(1, 0).out == (0,)


def test_a_wait_is_ended_from_outside_once():
    machine = machine_with_ports()
    machine.sched_poll(1, 1, [1])
    machine.unblock_vcpu(1, 1)
    machine.unblock_vcpu(1, 1)
    assert [effect[1:] for effect in machine.take_effects()] == [(1, 1)]
    assert (machine.domains[1].polling, machine.domains[1].vcpus[1].poll) == (0, 0)


def test_an_upcall_that_is_due_already_ends_no_wait():
    """Held off by the mask, it wakes nobody a second time, whatever word comes to it."""
    machine = Machine()
    domain = machine.create_domain(1, 1, upcall_mask=True)
    for _ in range(2):
        machine.hypercall(1, 0, EvtchnOp.BIND_IPI, (0,))
    machine.hypercall(1, 0, EvtchnOp.SEND, (1,))
    domain.seed_port(70, PortState.IPI)
    assert machine.sched_poll(1, 0, (2,)).out == (1,)
    send(machine, 70)
    assert domain.vcpus[0].blocked
    machine.hypercall(1, 0, EvtchnOp.SEND, (2,))
    assert not domain.vcpus[0].blocked
