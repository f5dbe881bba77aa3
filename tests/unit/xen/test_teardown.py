"""What can be seen while a reset or a death has stopped half way."""

import pytest

from evtrace.guest import bits
from evtrace.xen.abi import DOMID_SELF, Errno, EvtchnOp, HypercallError
from evtrace.xen.domain import Dying
from evtrace.xen.machine import RESULT_UNWRITABLE, Machine


def busy_machine(ports=70):
    """Give a machine whose d1 has many ports, and that finds other work waiting."""
    machine = Machine()
    machine.create_domain(1, 1)
    for _ in range(ports):
        machine.hypercall(1, 0, EvtchnOp.BIND_IPI, (0,))
    machine.work_waits = True
    return machine


def test_a_domain_that_is_being_killed_gets_no_port():
    machine = busy_machine()
    with pytest.raises(HypercallError, match="ERESTART"):
        machine.kill_domain(1)

    assert machine.domains[1].dying == Dying.DYING
    assert -Errno.EINVAL == machine.hypercall(1, 0, EvtchnOp.BIND_IPI, (0,)).ret


def test_a_reset_that_stopped_keeps_others_out_until_it_is_continued():
    machine = busy_machine()

    assert -Errno.ERESTART == machine.hypercall(1, 0, EvtchnOp.RESET, (DOMID_SELF,)).ret
    assert 64 == machine.domains[1].next_reset
    assert -Errno.EBUSY == machine.hypercall(1, 0, EvtchnOp.RESET, (DOMID_SELF,)).ret

    machine.work_waits = False
    assert 0 == machine.hypercall(1, 0, EvtchnOp.RESET_CONT, (DOMID_SELF,)).ret
    assert 0 == machine.domains[1].next_reset


def test_freeing_the_hypervisors_own_port_leaves_its_bits_alone():
    """Xen never touches them, so what the guest wrote there itself stays."""
    machine = Machine()
    domain = machine.create_domain(1, 1)
    port = machine.xen_alloc_unbound(1, 0, 0)
    bits.set_pending(domain, port)
    machine.xen_free(1, port)

    assert domain.form.pending(port)


def test_pauses_are_counted():
    machine = Machine()
    domain = machine.create_domain(1, 1)
    machine.pause_domain(1)
    machine.pause_domain(1)
    machine.unpause_domain(1)
    assert domain.pause_count == 1
    machine.unpause_domain(1)
    machine.unpause_domain(1)
    assert domain.pause_count == 0


def test_a_reset_runs_through_where_no_work_waits():
    machine = busy_machine()
    fresh = Machine()
    fresh.create_domain(1, 1)
    for _ in range(len(machine.domains[1].ports)):
        fresh.hypercall(1, 0, EvtchnOp.BIND_IPI, (0,))

    assert 0 == fresh.hypercall(1, 0, EvtchnOp.RESET, (DOMID_SELF,)).ret


def test_a_call_without_results_does_not_fail_for_want_of_a_place_for_them():
    machine = Machine()
    machine.create_domain(1, 1)
    machine.hypercall(1, 0, EvtchnOp.BIND_IPI, (0,))

    assert 0 == machine.hypercall(1, 0, EvtchnOp.SEND, (1,), fault=RESULT_UNWRITABLE).ret
