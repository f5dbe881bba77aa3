"""Adoption: what calls and names show to have existed before the capture.

A port that the model does not know, and that Xen answers for, was there before. It is taken into
the model, and the answer is adopted with the reason: it could not be predicted.
"""

from evtrace.guest.irq_names import port_by_name
from evtrace.replay.belief import ALLOCATING, ON_A_PORT, Belief, can_be
from evtrace.replay.calls import Call
from evtrace.replay.tokens import Channel
from evtrace.xen.abi import DOMID_SELF, FIFO_LINKED, EvtchnOp, PortState
from evtrace.xen.machine import Answer


def prepare(belief: Belief, call: Call) -> str:
    """Make room in the model for what the call shows to have existed before the capture.

    Gives the reason why the answer cannot be predicted; empty if it can.
    """
    belief.domain(call.dom, call.vcpu)
    args = call.args or ()
    if call.op in ON_A_PORT:
        return _adopt_port(belief, (call.dom, args[0]), call)
    if call.op == EvtchnOp.STATUS:
        return _adopt_port(belief, (belief.target(call), args[1]), call)
    if call.op == EvtchnOp.BIND_INTERDOMAIN:
        peer_dom = call.dom if args[0] == DOMID_SELF else args[0]
        return _adopt_peer(belief, (peer_dom, args[1]), call) or _adopt_lower_ports(belief, call)
    if call.op in ALLOCATING:
        return _adopt_lower_ports(belief, call)
    return ""


def _adopt_port(belief: Belief, channel: Channel, call: Call) -> str:
    if belief.is_assumed(channel):
        if call.op == EvtchnOp.CLOSE and call.rc == 0:
            belief.settle(channel)
        return f"what d{channel[0]}:{channel[1]} is bound to is not known"
    if belief.knows(channel[0]) or belief.port(channel) is not None:
        return ""
    if call.rc == 0 and call.op != EvtchnOp.CLOSE:
        belief.assume(channel)
    return f"d{channel[0]}:{channel[1]} was not seen before"


def _adopt_peer(belief: Belief, channel: Channel, call: Call) -> str:
    """Open the port that a successful bind_interdomain must have found waiting for it."""
    complete = belief.knows(channel[0]) and not belief.is_assumed(channel)
    if complete or belief.is_known(channel):
        return ""
    if call.rc == 0 and can_be(channel):
        belief.settle(channel)
        domain = belief.domain(channel[0])
        if domain.port(channel[1]) is not None:
            domain.forget_port(channel[1])
        domain.seed_port(channel[1], PortState.UNBOUND, remote_dom=call.dom)
    return f"d{channel[0]}:{channel[1]} was not seen before"


def _adopt_lower_ports(belief: Belief, call: Call) -> str:
    """Xen gives the lowest free port, so all below the one it gave are in use."""
    owner = belief.owner(call)
    if belief.knows(owner) or call.rc is None:
        return ""
    if call.rc < 0:
        return f"the port table of d{owner} is not known"
    domain = belief.domain(owner)
    given = call.outputs[0] if call.outputs else 0
    if not can_be((owner, given)):
        return f"d{owner} has no port {given}"
    belief.map_words(domain, given)
    below = [
        port
        for port in range(1, given)
        if domain.port(port) is None and not domain.form.linked(port)
    ]
    for port in below:
        belief.assume((owner, port))
    return f"the port table of d{owner} is not known" if below else ""


def explain_port(belief: Belief, call: Call) -> str:
    """Let a FIFO domain's queues be such that Xen gave the port it did; say if they were not.

    A port that was closed and is still on a queue is not given out, and only records of the
    guest's queues tell when it is off.
    """
    domain = belief.domain(belief.owner(call))
    if domain.fifo is None or call.rc is None or call.rc < 0 or not call.outputs:
        return ""
    given, read = call.outputs[0], domain.memory.read
    if not can_be((domain.domid, given)):
        return ""
    passed = [number for number in range(1, given) if domain.port(number) is None]
    wrong = [number for number in passed if not domain.fifo.linked(number)]
    if not belief.closed.issuperset((domain.domid, number) for number in wrong):
        return ""
    wrong += [given] * domain.fifo.linked(given)
    for number in wrong:
        address = domain.fifo.word_address(number)
        if address is not None:
            domain.memory.write(address, read(address) ^ FIFO_LINKED)
    return "which closed ports were still on a queue was not captured" if wrong else ""


def follow_observed(belief: Belief, call: Call, answer: Answer) -> None:
    """After a divergence, go on from what Xen really answered, as far as it tells."""
    if call.op not in ALLOCATING or call.rc is None:
        return
    owner = belief.owner(call)
    domain = belief.domain(owner)
    opened = domain.port(answer.out[0]) if answer.ret >= 0 and answer.out else None
    if opened is not None:
        domain.forget_port(opened.number)
    if call.rc >= 0 and call.outputs:
        belief.assume((owner, call.outputs[0]))


def name_port(belief: Belief, channel: Channel, irq: int) -> None:
    """Learn what a port is from the name of its irq, where nothing better told."""
    if belief.knows(channel[0]) or belief.is_known(channel) or not can_be(channel):
        return
    named = port_by_name(belief.irq_name(channel[0], irq))
    if named is None:
        return
    belief.settle(channel)
    domain = belief.domain(channel[0], named.vcpu)
    belief.map_words(domain, channel[1])
    domain.forget_port(channel[1])
    domain.seed_port(channel[1], named.state, notify_vcpu=named.vcpu, virq=named.virq)
