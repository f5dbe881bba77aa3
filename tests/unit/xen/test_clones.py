"""A clone answers as its original would have, and neither notices the other."""

from evtrace.guest.scan import ScanRules, run_upcall
from evtrace.xen.abi import DOMID_SELF, EvtchnOp, FormName, PortState
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


SHARED = {"_operations", "profile", "limits", "effects", "former_fifo"}
"""Members that a clone shares with its original, or begins anew."""


def differences(one, other, path="machine", above=frozenset()):
    """Yield where two objects differ, and where they share what can change."""
    if isinstance(one, dict | list):
        yield from differing_entries(one, other, path, above)
    elif isinstance(one, tuple) or not hasattr(one, "__slots__"):
        if one != other:
            yield f"{path}: {one} and {other}"
    elif id(one) not in above:
        if one is other:
            yield f"{path}: is shared"
        names = {name for cls in type(one).__mro__ for name in getattr(cls, "__slots__", ())}
        for name in names - SHARED:
            members = getattr(one, name), getattr(other, name)
            yield from differences(*members, f"{path}.{name}", above | {id(one)})


def differing_entries(one, other, path, above):
    if one is other:
        yield f"{path}: is shared"
    if len(one) != len(other):
        yield f"{path}: {len(one)} and {len(other)} entries"
        return
    for key in one if isinstance(one, dict) else range(len(one)):
        yield from differences(one[key], other[key], f"{path}[{key}]", above)


def test_no_member_of_a_machine_is_forgotten():
    """Everything that a machine remembers, once it has lived a little, is in its clone."""
    machine = Machine()
    machine.create_domain(0, 2)
    machine.create_domain(1, 2)
    call = machine.hypercall
    call(1, 0, EvtchnOp.BIND_VIRQ, (0, 1))
    call(1, 0, EvtchnOp.BIND_IPI, (1,))
    call(1, 0, EvtchnOp.BIND_PIRQ, (7, 1))
    call(1, 0, EvtchnOp.ALLOC_UNBOUND, (DOMID_SELF, 0))
    call(0, 0, EvtchnOp.BIND_INTERDOMAIN, (1, 4))
    call(0, 0, EvtchnOp.INIT_CONTROL, (5, 0, 0))
    call(0, 0, EvtchnOp.EXPAND_ARRAY, (6,))
    call(1, 0, EvtchnOp.CLOSE, (2,))
    machine.set_virq_handler(1, 3)
    call(0, 0, EvtchnOp.SEND, (1,))
    call(1, 0, EvtchnOp.SEND, (4,))
    run_upcall(machine.domains[1].vcpus[0])
    run_upcall(machine.domains[0].vcpus[0], ScanRules(force=True))
    machine.domains[0].vcpus[0].notes.heads[3] = 9
    machine.domains[1].vcpus[1].notes.ready = 4
    machine.sched_poll(1, 1, (1,))
    machine.sched_block(0, 1)
    machine.pause_domain(1)
    machine.take_effects()

    assert list(differences(machine, machine.clone())) == []
