"""Listing: channels that were listed while the text of a domain was being recorded already.

Nothing lists all channels of a busy host at one instant. The recorder therefore has its probes on
while it lists them, and then puts a mark into the text: what was called up to the mark brings the
list up to date, and the trace begins there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from evtrace.snapshot import Channel, Snapshot
from evtrace.timeline import Kind
from evtrace.tracer.importers.calls import ProbedCall
from evtrace.tracer.importers.clocks import Clock
from evtrace.tracer.importers.events import GuestEvent, GuestTrace
from evtrace.xen.abi import DOMID_SELF, EvtchnOp, PortState


def cut(guest: GuestTrace) -> None:
    """Begin the text at its last mark, if it has one; what went before is kept aside."""
    lines = guest.text.lines
    place = max((at for at, line in enumerate(lines) if line.is_listed_mark), default=None)
    if place is None:
        return
    mark = lines[place].tsc
    guest.listing_span = (lines[0].tsc, mark)
    early = [event for event in guest.events if _began(event) < mark]
    guest.listing = early
    guest.events = [event for event in guest.events if _began(event) >= mark]
    guest.calls.calls = [call for call in guest.calls.calls if _called(call) >= mark]
    del lines[: place + 1]


def bring_up_to_date(
    snapshot: Snapshot, guests: Mapping[int, GuestTrace], clocks: Mapping[int, Clock]
) -> None:
    """Let a snapshot show what it would at the mark, by what the domains called meanwhile."""
    happened = []
    for dom in guests:
        offset = clocks[dom].offset[0]
        happened += [(event.tsc + offset, dom, event) for event in _meanwhile(guests, clocks, dom)]
    for _, dom, event in sorted(happened, key=lambda entry: entry[0]):
        _apply(snapshot, dom, event)


def listed_tsc(guests: Mapping[int, GuestTrace], clocks: Mapping[int, Clock]) -> int | None:
    """Give the host TSC of the mark; None if no text has one."""
    span = _span(guests, clocks)
    return span[1] if span else None


def _span(guests: Mapping[int, GuestTrace], clocks: Mapping[int, Clock]) -> tuple[int, int] | None:
    """Give the host TSCs between which the channels were listed."""
    for dom, guest in guests.items():
        if guest.listing_span is not None:
            first, mark = guest.listing_span
            lo, hi = clocks[dom].offset
            return first + lo, mark + hi
    return None


def _meanwhile(
    guests: Mapping[int, GuestTrace], clocks: Mapping[int, Clock], dom: int
) -> Iterator[GuestEvent]:
    """Give what a domain did while the channels were listed; its own text may have no mark."""
    yield from guests[dom].listing
    span = _span(guests, clocks)
    if span is None or guests[dom].listing_span is not None:
        return
    lo, hi = clocks[dom].offset
    for event in guests[dom].events:
        if span[0] <= event.tsc + hi and event.tsc + lo <= span[1]:
            yield event


def _began(event: GuestEvent) -> int:
    """Give the time of an event; of a call's return, that of its entry."""
    return event.tsc if event.call is None else _called(event.call)


def _called(call: ProbedCall) -> int:
    line = call.pre or call.post
    return line.tsc if line else 0


# --- what calls change -------------------------------------------------------------------------


def _apply(snapshot: Snapshot, dom: int, event: GuestEvent) -> None:
    if event.kind is Kind.CALL_EXIT and event.call is not None:
        if event.call.rc() == 0:
            _call(snapshot, dom, event.call)
    elif event.port is not None:
        _forget_bits(snapshot, dom, event.port)


def _forget_bits(snapshot: Snapshot, dom: int, port: int) -> None:
    """Note that the port's bits may have changed since it was listed."""
    channel = snapshot.find(dom, port)
    if channel is not None:
        _put(snapshot, dom, replace(channel, pending=None, masked=None, linked=None))


def _call(snapshot: Snapshot, dom: int, call: ProbedCall) -> None:
    args, port = call.arguments(), call.port_made()
    if port is not None:
        _bind(snapshot, dom, port, call.op, args)
        return
    match call.op, args:
        case EvtchnOp.BIND_VCPU, (port, vcpu):
            channel = snapshot.find(dom, port)
            if channel is not None:
                _put(snapshot, dom, replace(channel, vcpu=vcpu))
        case EvtchnOp.SEND, (port,):
            _send(snapshot, dom, port)
        case EvtchnOp.UNMASK, (port,):
            _forget_bits(snapshot, dom, port)
        case EvtchnOp.CLOSE, (port,):
            _close(snapshot, dom, port)
        case EvtchnOp.RESET | EvtchnOp.RESET_CONT, (of,):
            for port in list(snapshot.domains.get(_named(of, dom), ())):
                _close(snapshot, _named(of, dom), port)


def _bind(snapshot: Snapshot, dom: int, port: int, op: int, args: tuple[int, ...]) -> None:
    match op, args:
        case EvtchnOp.ALLOC_UNBOUND, (of, remote):
            waiting = Channel(port, PortState.UNBOUND, 0, _named(remote, dom))
            _put(snapshot, _named(of, dom), waiting)
        case EvtchnOp.BIND_INTERDOMAIN, (remote, remote_port):
            peer = _named(remote, dom)
            _put(snapshot, dom, Channel(port, PortState.INTERDOMAIN, 0, peer, remote_port))
            _connect(snapshot, (peer, remote_port), (dom, port))
        case EvtchnOp.BIND_VIRQ, (virq, vcpu):
            _put(snapshot, dom, Channel(port, PortState.VIRQ, vcpu, virq))
        case EvtchnOp.BIND_IPI, (vcpu,):
            _put(snapshot, dom, Channel(port, PortState.IPI, vcpu))
        case EvtchnOp.BIND_PIRQ, (pirq, *_):
            _put(snapshot, dom, Channel(port, PortState.PIRQ, 0, pirq))


def _named(dom: int, caller: int) -> int:
    return caller if dom == DOMID_SELF else dom


def _put(snapshot: Snapshot, dom: int, channel: Channel) -> None:
    if dom in snapshot.domains:
        snapshot.domains[dom][channel.port] = channel


def _connect(snapshot: Snapshot, end: tuple[int, int], other: tuple[int, int]) -> None:
    """Note that the port `end`, which waited, is bound to `other` now."""
    channel = snapshot.find(*end)
    vcpu = channel.vcpu if channel else 0
    _put(snapshot, end[0], Channel(end[1], PortState.INTERDOMAIN, vcpu, *other))


def _send(snapshot: Snapshot, dom: int, port: int) -> None:
    channel = snapshot.find(dom, port)
    if channel is None:
        return
    target = (dom, port)
    if channel.state is PortState.INTERDOMAIN:
        target = (channel.peer, channel.peer_port)
    _forget_bits(snapshot, *target)


def _close(snapshot: Snapshot, dom: int, port: int) -> None:
    """Close a port; one that was bound to it waits again."""
    channel = snapshot.domains.get(dom, {}).pop(port, None)
    if channel is None or channel.state is not PortState.INTERDOMAIN:
        return
    peer = snapshot.find(channel.peer, channel.peer_port)
    if peer is not None and (peer.peer, peer.peer_port) == (dom, port):
        waiting = Channel(peer.port, PortState.UNBOUND, peer.vcpu, dom)
        _put(snapshot, channel.peer, waiting)
