"""A snapshot of a domain's channels as they stand on the machine, as CHANNEL records."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from evtrace.timeline import Kind
from evtrace.tracefile.family import ChannelBits
from evtrace.tracefile.records import encode_family
from evtrace.xen.abi import FormName, PortState

if TYPE_CHECKING:
    from evtrace.xen.domain import Domain
    from evtrace.xen.port import Port


def encode_channels(domain: "Domain", tsc: int) -> Iterator[bytes]:
    """Encode the open ports of a domain."""
    for port in domain.ports:
        if port.state > PortState.RESERVED:
            peer, peer_port = _peer(port)
            words = [port.number, _state_bits(domain, port), peer, peer_port, port.priority, 0]
            yield encode_family(Kind.CHANNEL, domain.domid, port.notify_vcpu, words, tsc)


def _peer(port: "Port") -> tuple[int, int]:
    match port.state:
        case PortState.VIRQ:
            return port.virq, 0
        case PortState.PIRQ:
            return port.pirq, port.pirq
        case PortState.IPI:
            return 0, 0
    return port.remote_dom, port.remote_port


def _state_bits(domain: "Domain", port: "Port") -> int:
    form = domain.form
    bits = ChannelBits.BITS_KNOWN | ChannelBits.FORM_KNOWN | ChannelBits.PRIORITY_KNOWN
    for is_set, bit in (
        (form.pending(port.number), ChannelBits.PENDING),
        (form.masked(port.number), ChannelBits.MASKED),
        (form.linked(port.number), ChannelBits.LINKED),
        (form.name is FormName.FIFO, ChannelBits.FIFO),
        (port.xen_consumer, ChannelBits.XEN_CONSUMER),
    ):
        if is_set:
            bits |= bit
    return port.state | bits
