"""Interrupts: who may share a PIRQ, and which VIRQs can be raised for a domain."""

import pytest

from evtrace.xen.abi import Errno, EvtchnOp, HypercallError, Virq
from evtrace.xen.domain import Limits
from evtrace.xen.machine import Machine

WILL_SHARE, ALONE = 1, 0


def test_sharing_ends_with_the_last_that_agreed_to_it():
    machine = Machine()
    for domid in (1, 2, 3):
        machine.create_domain(domid, 1, limits=Limits(pirqs={6}))

    def bind(domid, flags):
        return machine.hypercall(domid, 0, EvtchnOp.BIND_PIRQ, (6, flags)).ret

    assert 0 == bind(1, WILL_SHARE)
    machine.hypercall(1, 0, EvtchnOp.CLOSE, (1,))

    assert 0 == bind(2, ALONE)
    assert -Errno.EBUSY == bind(3, WILL_SHARE)


@pytest.mark.parametrize("virq", [Virq.TIMER, Virq.XENPMU, 24])
def test_a_virq_of_a_vcpu_is_not_raised_for_a_domain(virq):
    machine = Machine()
    machine.create_domain(1, 1)

    with pytest.raises(HypercallError, match="EINVAL"):
        machine.raise_domain_virq(1, virq)


@pytest.mark.parametrize(
    ("vcpu", "virq", "errno"),
    [(0, Virq.CONSOLE, "EINVAL"), (0, 24, "EINVAL"), (2, Virq.TIMER, "ESRCH")],
)
def test_a_vcpu_gets_virqs_of_its_class_alone(vcpu, virq, errno):
    machine = Machine()
    machine.create_domain(1, 2)

    with pytest.raises(HypercallError, match=errno):
        machine.raise_vcpu_virq(1, vcpu, virq)


def test_a_global_virq_whose_handler_is_gone_reaches_nobody():
    machine = Machine()
    machine.create_domain(1, 1)
    machine.raise_global_virq(Virq.CONSOLE)

    assert machine.take_effects() == []


def test_the_hypervisor_notifies_nobody_through_a_port_that_has_no_peer():
    machine = Machine()
    machine.create_domain(1, 1)
    port = machine.xen_alloc_unbound(1, 0, 1)
    machine.take_effects()
    machine.xen_notify(1, port)

    assert machine.take_effects() == []
