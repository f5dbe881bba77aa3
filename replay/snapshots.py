"""Snapshots inside a trace: the channels of a domain as they stood at a stated time."""

from dataclasses import dataclass, field
from itertools import groupby

from evtrace.timeline import Kind, Row
from evtrace.tracefile.family import ChannelBits, FactKey
from evtrace.xen.abi import MAX_VCPUS, NR_FIFO_CHANNELS, PortState


@dataclass(frozen=True, slots=True)
class SeenChannel:
    """One channel of a snapshot. `pending`, `masked` are None where it did not show them."""

    port: int
    state: PortState
    vcpu: int
    peer: int
    """Remote domain, VIRQ or PIRQ, by `state`."""
    peer_port: int
    """Remote port, or the host's irq behind a PIRQ."""
    priority: int | None
    pending: bool | None
    masked: bool | None
    linked: bool
    xen_consumer: bool = False
    """The hypervisor itself holds the port inside the domain."""


@dataclass(slots=True)
class SeenDomain:
    """All channels of one domain at one time; a port that is not listed was closed."""

    dom: int
    tsc: int
    seq: int
    fifo: bool | None = None
    channels: list[SeenChannel] = field(default_factory=list)


DOMAINS = 1 << 16
"""A domid_t has 16 bits."""

_STATES = frozenset(map(int, PortState))
_WITH_PEER = frozenset({PortState.UNBOUND, PortState.INTERDOMAIN})


class SnapshotCollector:
    """Gathers the rows of snapshots until a row of another kind ends them."""

    def __init__(self) -> None:
        """Start with nothing gathered."""
        self._domains: dict[tuple[int, int], SeenDomain] = {}  # by time and domain

    def take(self, row: Row) -> bool:
        """Take a row that belongs to a snapshot; False if it does not."""
        if row.kind == Kind.CHANNEL:
            self._channel(row)
            return True
        if row.kind == Kind.FACT:
            if row.a0 == FactKey.SNAPSHOT and row.dom is not None:
                self._domain(row)
            return True
        return row.kind in {Kind.TEXT, Kind.COVERAGE}

    def finished(self) -> list[list[SeenDomain]]:
        """Give the domains gathered since the last call, those of one time together."""
        times = groupby(self._domains.values(), key=lambda seen: seen.tsc)
        together = [list(domains) for _, domains in times]
        self._domains.clear()
        return together

    def _domain(self, row: Row) -> SeenDomain:
        dom, tsc = row.dom or 0, row.tsc_lo
        return self._domains.setdefault((tsc, dom), SeenDomain(dom, tsc, row.seq))

    def _channel(self, row: Row) -> None:
        if not _can_be(row):
            return
        domain = self._domain(row)
        bits = ChannelBits((row.a1 or 0) & ~0xFF)
        known = ChannelBits.BITS_KNOWN in bits
        if ChannelBits.FORM_KNOWN in bits:
            domain.fifo = ChannelBits.FIFO in bits
        domain.channels.append(
            SeenChannel(
                port=row.port or 0,
                state=PortState((row.a1 or 0) & 0xFF),
                vcpu=row.vcpu or 0,
                peer=row.a2 or 0,
                peer_port=row.a3 or 0,
                priority=row.a4 if ChannelBits.PRIORITY_KNOWN in bits else None,
                pending=ChannelBits.PENDING in bits if known else None,
                masked=ChannelBits.MASKED in bits if known else None,
                linked=ChannelBits.LINKED in bits,
                xen_consumer=ChannelBits.XEN_CONSUMER in bits,
            ),
        )


def _can_be(row: Row) -> bool:
    """Tell whether a channel has a state, ports and a vCPU that domains could have."""
    state = (row.a1 or 0) & 0xFF
    ends = [row.port or 0]
    if state == PortState.INTERDOMAIN:
        ends.append(row.a3 or 0)
    if state not in _STATES or (state in _WITH_PEER and (row.a2 or 0) >= DOMAINS):
        return False
    return max(ends) < NR_FIFO_CHANNELS and (row.vcpu or 0) < MAX_VCPUS
