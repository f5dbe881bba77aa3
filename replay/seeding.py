"""Seeding: port tables taken from snapshots, and later snapshots held against the model."""

from evtrace.replay.belief import Belief
from evtrace.replay.results import SnapshotCheck
from evtrace.replay.snapshots import SeenChannel, SeenDomain
from evtrace.xen.abi import FIFO_DEFAULT_PRIORITY, PortState
from evtrace.xen.port import Port


def seed(belief: Belief, domains: list[SeenDomain]) -> None:
    """Take the port tables of domains as snapshots of one time show them."""
    for seen in domains:
        vcpus = 1 + max((channel.vcpu for channel in seen.channels), default=0)
        belief.learn_table(seen.dom, vcpus, seen.tsc, fifo=seen.fifo)
    for seen in domains:
        for channel in seen.channels:
            _seed_channel(belief, seen.dom, channel)


def _seed_channel(belief: Belief, dom: int, seen: SeenChannel) -> None:
    """Open a port as a snapshot shows it, and the other end in a domain without snapshot."""
    if seen.state is PortState.PIRQ:
        belief.host_irqs[seen.peer_port] = (dom, seen.port)
    belief.domain(dom).seed_port(
        seen.port,
        seen.state,
        notify_vcpu=seen.vcpu,
        remote_dom=seen.peer,
        remote_port=seen.peer_port,
        virq=seen.peer,
        pirq=seen.peer,
        xen_consumer=seen.xen_consumer,
        pending=bool(seen.pending),
        masked=bool(seen.masked),
        linked=seen.linked,
        priority=FIFO_DEFAULT_PRIORITY if seen.priority is None else seen.priority,
    )
    if seen.state is PortState.INTERDOMAIN and not belief.knows(seen.peer):
        other = belief.domain(seen.peer)
        if other.port(seen.peer_port) is None:
            other.seed_port(
                seen.peer_port,
                PortState.INTERDOMAIN,
                remote_dom=dom,
                remote_port=seen.port,
            )


def check(belief: Belief, seen: SeenDomain) -> SnapshotCheck:
    """Hold a snapshot against the model's port table."""
    ports = belief.domain(seen.dom).ports
    model = {p.number: _describe_port(p) for p in ports if p.state > PortState.RESERVED}
    snapshot = {channel.port: _describe_channel(channel) for channel in seen.channels}
    differences = [
        f"d{seen.dom}:{port} is {model.get(port, 'closed')} by the trace, "
        f"{snapshot.get(port, 'closed')} in the snapshot"
        for port in sorted(model.keys() | snapshot.keys())
        if model.get(port) != snapshot.get(port)
    ]
    return SnapshotCheck(seen.dom, seen.tsc, len(snapshot), differences)


def _describe_port(port: Port) -> str:
    peer = {PortState.PIRQ: port.pirq, PortState.VIRQ: port.virq}.get(port.state, port.remote_dom)
    return _describe(port.state, peer, port.remote_port)


def _describe_channel(seen: SeenChannel) -> str:
    return _describe(seen.state, seen.peer, seen.peer_port)


def _describe(state: PortState, peer: int, peer_port: int) -> str:
    match state:
        case PortState.UNBOUND:
            return f"unbound for d{peer}"
        case PortState.INTERDOMAIN:
            return f"interdomain to d{peer}:{peer_port}"
        case PortState.PIRQ | PortState.VIRQ:
            return f"{state.name.lower()} {peer}"
    return state.name.lower()
