"""What the domains and ports of a trace are: kind, peer, order of binding, traffic.

Snapshots and binding calls tell it, and where there are neither, the sends and runs do. Of a port
number that several owners had, the first one counts.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum, unique

import polars as pl

from evtrace.analysis.diff.calls import Made, Told
from evtrace.replay.snapshots import SeenDomain
from evtrace.verdicts import Cause
from evtrace.xen.abi import EvtchnOp, PortState

End = tuple[int, int]
"""(domain, port)."""


@unique
class PortKind(StrEnum):
    """What a port is bound to."""

    INTERDOMAIN = "interdomain"
    VIRQ = "virq"
    IPI = "ipi"
    PIRQ = "pirq"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class PortFacts:
    """One port, as far as the trace tells what it is."""

    end: End
    kind: PortKind = PortKind.UNKNOWN
    number: int | None = None
    """Of the VIRQ or PIRQ."""
    vcpu: int | None = None
    """Of a VIRQ or IPI: the vCPU that it was bound to."""
    peer_dom: int | None = None
    peer: End | None = None
    bound: int | None = None
    """The record of the call that bound it; None where it was bound before the trace."""
    first: int = 1 << 62
    """The first record in which something happened on it."""
    traffic: int = 0
    """Sends and runs."""
    device: str = ""


@dataclass(slots=True)
class Structure:
    """The domains of a trace and their ports."""

    ports: dict[End, PortFacts] = field(default_factory=dict)
    doms: set[int] = field(default_factory=set)
    first: dict[int, int] = field(default_factory=dict)
    """Domain -> the record of its first call."""

    def port(self, end: End) -> PortFacts:
        """Give the port of this number, a new one if it was not heard of yet."""
        self.doms.add(end[0])
        return self.ports.setdefault(end, PortFacts(end))

    def of(self, dom: int) -> list[PortFacts]:
        """Give the ports of a domain by number."""
        return [facts for end, facts in sorted(self.ports.items()) if end[0] == dom]

    def join(self, one: End, other: End) -> None:
        """Note that two ports are each other's peers."""
        for end, peer in ((one, other), (other, one)):
            facts = self.port(end)
            if facts.kind in {PortKind.UNKNOWN, PortKind.INTERDOMAIN} and facts.peer is None:
                facts.kind, facts.peer, facts.peer_dom = PortKind.INTERDOMAIN, peer, peer[0]


def find_structure(told: Told, runs: pl.DataFrame, sends: pl.DataFrame) -> Structure:
    """Gather what a trace tells of its ports; `runs` with their devices."""
    found = Structure()
    for domain in told.snapshots:
        _take_snapshot(found, domain)
    for call in told.calls:
        _take_call(found, call)
    _take_sends(found, sends)
    _take_runs(found, runs)
    return found


def _take_snapshot(found: Structure, domain: SeenDomain) -> None:
    found.doms.add(domain.dom)
    for channel in domain.channels:
        end = domain.dom, channel.port
        match channel.state:
            case PortState.INTERDOMAIN:
                found.join(end, (channel.peer, channel.peer_port))
            case PortState.UNBOUND:
                _wait_for(found, end, channel.peer)
            case PortState.VIRQ | PortState.IPI | PortState.PIRQ:
                kind = PortKind(channel.state.name.lower())
                number = None if kind is PortKind.IPI else channel.peer
                _bind(found, end, kind, number, channel.vcpu)


def _wait_for(found: Structure, end: End, peer_dom: int) -> None:
    facts = found.port(end)
    if facts.kind is PortKind.UNKNOWN:
        facts.kind, facts.peer_dom = PortKind.INTERDOMAIN, peer_dom


def _bind(found: Structure, end: End, kind: PortKind, number: int | None, vcpu: int | None) -> None:
    facts = found.port(end)
    if facts.kind is PortKind.UNKNOWN:
        facts.kind, facts.number = kind, number
        facts.vcpu = None if kind is PortKind.PIRQ else vcpu


def _take_call(found: Structure, call: Made) -> None:
    """Take what a call tells that bound a port, or that reached one."""
    found.doms.add(call.dom)
    found.first.setdefault(call.dom, call.seq)
    args = dict(call.args or ())
    if call.rc != 0 or call.args is None or not (call.out or "port" in args):
        return
    match call.op:
        case EvtchnOp.ALLOC_UNBOUND:
            end = args["dom"], call.out[0]
            _wait_for(found, end, args["remote_dom"])
        case EvtchnOp.BIND_INTERDOMAIN:
            end = call.dom, call.out[0]
            found.join(end, (args["remote_dom"], args["remote_port"]))
        case EvtchnOp.BIND_VIRQ:
            end = call.dom, call.out[0]
            _bind(found, end, PortKind.VIRQ, args["virq"], args["vcpu"])
        case EvtchnOp.BIND_IPI:
            end = call.dom, call.out[0]
            _bind(found, end, PortKind.IPI, None, args["vcpu"])
        case EvtchnOp.BIND_PIRQ:
            end = call.dom, call.out[0]
            _bind(found, end, PortKind.PIRQ, args["pirq"], None)
        case _:
            return
    facts = found.port(end)
    facts.first = min(facts.first, call.seq)
    if facts.bound is None:
        facts.bound = call.seq


def _take_sends(found: Structure, sends: pl.DataFrame) -> None:
    ways = (
        sends.group_by("dom", "port", "to_dom", "to_port", maintain_order=True)
        .agg(pl.len(), pl.col("seq").min())
        .iter_rows()
    )
    for dom, port, to_dom, to_port, count, seq in ways:
        _note_traffic(found.port((dom, port)), count, seq)
        if to_dom is None or to_port is None:
            continue
        if (dom, port) == (to_dom, to_port):
            _bind(found, (dom, port), PortKind.IPI, None, None)
        else:
            found.join((dom, port), (to_dom, to_port))


_BY_CAUSE = {Cause.VIRQ: PortKind.VIRQ, Cause.PIRQ: PortKind.PIRQ, Cause.IPI: PortKind.IPI}


def _take_runs(found: Structure, runs: pl.DataFrame) -> None:
    ports = (
        runs.drop_nulls("port")
        .group_by("dom", "port", maintain_order=True)
        .agg(pl.len(), pl.col("seq").min(), pl.col("device").drop_nulls(), pl.col("cause"))
        .iter_rows()
    )
    for dom, port, count, seq, devices, causes in ports:
        facts = found.port((dom, port))
        _note_traffic(facts, count, seq)
        facts.device = devices[0] if devices else ""
        kinds = {_BY_CAUSE.get(Cause(cause)) for cause in causes} - {None}
        if facts.kind is PortKind.UNKNOWN and len(kinds) == 1:
            facts.kind = kinds.pop() or PortKind.UNKNOWN


def _note_traffic(facts: PortFacts, count: int, seq: int) -> None:
    facts.traffic += count
    facts.first = min(facts.first, seq)


def kinds_of(structure: Structure, dom: int) -> dict[tuple[str, int | None], int]:
    """Count the ports of a domain by what they are bound to: its outline."""
    counts: dict[tuple[str, int | None], int] = defaultdict(int)
    for facts in structure.of(dom):
        counts[facts.kind.value, facts.number] += 1
    return counts
