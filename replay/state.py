"""The model's state in the words of Xen's debug key `e`, and what set a port's pending bit."""

from collections.abc import Iterator, Mapping

from evtrace.replay.tokens import Channel, Token
from evtrace.verdicts import Contribution, ContributionKind
from evtrace.xen.abi import FIFO_BUSY, FIFO_LINK_MASK, FIFO_LINKED, PortState
from evtrace.xen.domain import Domain
from evtrace.xen.port import Port


def dump_domain(domain: Domain, host_irqs: Mapping[int, Channel]) -> Iterator[str]:
    """Give the lines that debug key `e` prints of a domain (domain_dump_evtchn_info).

    `host_irqs` tells the port behind each irq of the host, as far as it is known.
    """
    irqs = {port: irq for irq, (dom, port) in host_irqs.items() if dom == domain.domid}
    polling = [str(vcpu.vcpu_id) for vcpu in domain.vcpus if domain.polling >> vcpu.vcpu_id & 1]
    yield f"Event channel information for domain {domain.domid}:"
    yield f"Polling vCPUs: {{{','.join(polling)}}}"
    yield "    port [p/m/s]"
    for port in domain.ports:
        if port.state > PortState.RESERVED:
            yield _dump_port(domain, port, irqs.get(port.number))


def _dump_port(domain: Domain, port: Port, irq: int | None) -> str:
    form = domain.form
    pending, masked = form.pending(port.number), form.masked(port.number)
    bits = f"[{pending:d}/{masked:d}/{_link(domain, port.number)}]"
    about = f"s={port.state:d} n={port.notify_vcpu} x={port.xen_consumer:d}{_peer(port)}"
    about += f" i={irq}" if irq is not None else ""
    return f"    {port.number:4} {bits}: {about}"


def _link(domain: Domain, number: int) -> str:
    """Give the third column: the selector bit, or where the event word stands in its queue."""
    if domain.fifo is None:
        vcpu = domain.vcpus[domain.ports[number].notify_vcpu]
        return str(vcpu.selector >> number // domain.word_bits & 1)
    address = domain.fifo.word_address(number)
    if address is None:
        return "?     "
    word = domain.memory.read(address)
    busy = "B" if word & FIFO_BUSY else " "
    return f"{busy} {word & FIFO_LINK_MASK:<4}" if word & FIFO_LINKED else f"{busy} -   "


def _peer(port: Port) -> str:
    match port.state:
        case PortState.UNBOUND:
            return f" d={port.remote_dom}"
        case PortState.INTERDOMAIN:
            return f" d={port.remote_dom} p={port.remote_port}"
        case PortState.PIRQ:
            return f" p={port.pirq}"
        case PortState.VIRQ:
            return f" v={port.virq}"
    return ""


def describe_token(channel: Channel, token: Token | None) -> Iterator[str]:
    """Say what set the port's pending bit since it was last cleared, the oldest first."""
    name = f"d{channel[0]}:{channel[1]}"
    if token is None or not token.parts:
        yield f"{name} is not pending: nothing set it since it was last cleared"
        return
    yield f"{name} is pending; set by"
    for part in token.contributions:
        held = ", while masked" if part.masked else ""
        yield f"  {part.tsc} #{part.seq} {_describe(part)}{held}"


def _describe(part: Contribution) -> str:
    match part.kind:
        case ContributionKind.SEND:
            return f"send on d{part.dom}:{part.port} by d{part.dom}v{part.vcpu}"
        case ContributionKind.IPI:
            return f"IPI from d{part.dom}v{part.vcpu}"
        case ContributionKind.BIND:
            return f"bind_interdomain by d{part.dom}v{part.vcpu}: Xen pends the binder's port"
        case ContributionKind.BEFORE:
            return "before the capture"
        case ContributionKind.GUEST_SET:
            return f"the guest itself, d{part.dom}v{part.vcpu}"
    return part.kind.value
