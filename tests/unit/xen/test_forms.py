"""The switch from the 2-level form to FIFO, at the edge of what exists."""

import pytest

from evtrace.guest import bits
from evtrace.xen.abi import EvtchnOp
from evtrace.xen.machine import Machine


def switched_with_pending(port):
    """Let a guest pend `port` by itself, then switch to FIFO."""
    machine = Machine()
    domain = machine.create_domain(0, 1)
    bits.set_pending(domain, port)
    answer = machine.hypercall(0, 0, EvtchnOp.INIT_CONTROL, (1, 0, 0))
    return answer, [found.number for found in domain.ports if found.saved_pending]


@pytest.mark.parametrize(("port", "saved"), [(0, []), (1, [1]), (63, [63]), (64, []), (65, [])])
def test_pending_bits_are_saved_for_the_ports_of_the_table(port, saved):
    answer, found = switched_with_pending(port)

    assert (0, saved) == (answer.ret, found)
