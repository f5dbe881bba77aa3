"""A snapshot of a domain's channels as they stand on a machine, as CHANNEL records."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from evtrace.guest.queue import queued_ports
from evtrace.timeline import Kind
from evtrace.tracefile.family import ChannelBits
from evtrace.tracefile.records import encode_family
from evtrace.xen.abi import FIFO_QUEUES, FormName, PortState

if TYPE_CHECKING:
    from evtrace.xen.domain import Domain
    from evtrace.xen.port import Port


UNKNOWN_IRQ = 0xFFFFFFFF
"""In place of the host's irq behind a PIRQ."""


def encode_channels(
    domain: "Domain", tsc: int, host_irqs: Mapping[int, tuple[int, int]] | None = None
) -> Iterator[bytes]:
    """Encode the open ports of a domain.

    `host_irqs` tells the (domain, port) behind each irq of the host; without it the host's irqs
    are numbered as the PIRQs. Where it is given, closed ports with an event left are encoded, too:
    FIFO opens none that is still on a queue, and a new owner finds the event.
    """
    irqs = {
        channel[1]: irq for irq, channel in (host_irqs or {}).items() if channel[0] == domain.domid
    }
    for port in _in_order(domain):
        if port.state > PortState.RESERVED or (host_irqs is not None and _has_event(domain, port)):
            peer, peer_port = _peer(port)
            if host_irqs is not None and port.state is PortState.PIRQ:
                peer_port = irqs.get(port.number, UNKNOWN_IRQ)
            words = [port.number, _state_bits(domain, port), peer, peer_port, port.priority, 0]
            yield encode_family(Kind.CHANNEL, domain.domid, port.notify_vcpu, words, tsc)


def _in_order(domain: "Domain") -> list["Port"]:
    """Give the ports by number, but those on a FIFO queue last, in the order of their queue."""
    places = {
        number: place
        for vcpu in domain.vcpus
        for priority in range(FIFO_QUEUES)
        for place, number in enumerate(queued_ports(vcpu, priority), 1)
        if _queue_of(domain.ports[number]) == (vcpu.vcpu_id, priority)
    }
    return sorted(domain.ports, key=lambda port: places.get(port.number, 0))


def _queue_of(port: "Port") -> tuple[int, int]:
    return port.last_vcpu, port.last_priority


def _has_event(domain: "Domain", port: "Port") -> bool:
    if port.state is PortState.RESERVED:
        return False
    return domain.form.pending(port.number) or domain.form.linked(port.number)


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
