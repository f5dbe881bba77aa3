"""A clone answers as its original would have, and neither notices the other."""

from evtrace.xen.abi import EvtchnOp, FormName, PortState
from evtrace.xen.machine import Machine


def queued():
    """Give a machine with d0:1 connected to d1:1, and d0:2 an IPI that is queued already."""
    machine = Machine()
    for domid, peer in ((0, 1), (1, 0)):
        domain = machine.seed_domain(domid, 1, FormName.FIFO)
        domain.seed_port(1, PortState.INTERDOMAIN, remote_dom=peer, remote_port=1)
    machine.domains[0].seed_port(2, PortState.IPI, pending=True, linked=True)
    return machine


def test_the_queues_of_a_clone_go_on_where_the_originals_stood():
    original = queued()
    clone = original.clone()
    for machine in (original, clone):
        machine.hypercall(1, 0, EvtchnOp.SEND, (1,))

    fifos = [machine.domains[0].fifo for machine in (original, clone)]
    words = [machine.domains[0].memory.words for machine in (original, clone)]

    assert fifos[0].queues[0].tails == fifos[1].queues[0].tails
    assert fifos[0].queues[0].control_block == fifos[1].queues[0].control_block
    assert words[0] == words[1]
    assert fifos[1].linked(1)


def test_the_tails_of_a_clone_are_its_own():
    original = queued()
    tails = original.domains[0].fifo.queues[0].tails.copy()

    original.clone().hypercall(1, 0, EvtchnOp.SEND, (1,))

    assert tails == original.domains[0].fifo.queues[0].tails


def test_every_member_of_a_port_is_copied():
    original = queued()
    for domid in (0, 1):
        ports = [m.domains[domid].ports for m in (original, original.clone())]
        for one, other in zip(*ports, strict=True):
            assert {name: getattr(one, name) for name in one.__slots__} == {
                name: getattr(other, name) for name in other.__slots__
            }


def test_a_clone_stops_its_long_calls_where_work_waits():
    original = queued()
    original.work_waits = True

    assert original.clone().work_waits
