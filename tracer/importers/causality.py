"""Causality: what sends and the handlers they cause say of the offset between two clocks.

A handler of an interdomain port runs because the peer sent: after the pending bit was last cleared,
as far as that was seen, and before the handler. Each run so allows a set of offsets, those with
which the peer was not observed at that time included.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from evtrace.timeline import Kind
from evtrace.tracer.importers.events import GuestTrace
from evtrace.tracer.importers.intervals import FOREVER, Interval, union
from evtrace.tracer.importers.snapshots import Snapshot
from evtrace.xen.abi import DOMID_SELF, EvtchnOp, PortState

Channel = tuple[int, int]
"""(domain, port)."""

Peers = Mapping[Channel, Channel]


@dataclass(frozen=True, slots=True)
class Bound:
    """The offsets that one run allows."""

    caused: list[Interval]
    """Offsets with which a send of the peer explains it."""
    unobserved: list[Interval]
    """Offsets with which the peer was not observed at that time."""

    @property
    def allowed(self) -> list[Interval]:
        """Give both together."""
        return union([*self.caused, *self.unobserved])


@dataclass(slots=True)
class PortActivity:
    """What a domain did with one port, in its own TSC."""

    sends: list[Interval] = field(default_factory=list)
    """From the probe before a call to the one behind it."""
    runs: list[tuple[int, int]] = field(default_factory=list)
    """(TSC of its clearing, TSC of the handler) of each run since the port was bound."""
    is_new: bool = False
    """It was bound in the text, so that its first run is due to Xen, which pends it at its bind."""


@dataclass(slots=True)
class Activity:
    """What a domain did with its ports."""

    ports: dict[int, PortActivity] = field(default_factory=dict)
    span: Interval = (0, 0)
    """First and last TSC of the text."""


def find_peers(snapshots: Sequence[Snapshot], guests: Mapping[int, GuestTrace]) -> Peers:
    """Give the peer of each interdomain port; ports that had more than one are left out."""
    found: dict[Channel, set[Channel]] = {}
    for one, other in (*_peers_seen(snapshots), *_peers_bound(guests)):
        found.setdefault(one, set()).add(other)
        found.setdefault(other, set()).add(one)
    return {one: next(iter(others)) for one, others in found.items() if len(others) == 1}


def read_activity(guest: GuestTrace) -> Activity:
    """Collect the sends and runs of a domain, port by port."""
    lines = guest.text.lines
    activity = Activity(span=(lines[0].tsc, lines[-1].tsc) if lines else (0, 0))
    cleared: dict[int, int] = {}
    for event in guest.events:
        call = event.call
        if event.kind is Kind.CLEAR and event.port is not None:
            cleared[event.port] = event.tsc
        elif event.kind is Kind.HANDLER_ENTER and event.port is not None:
            port = activity.ports.setdefault(event.port, PortActivity())
            port.runs.append((cleared.pop(event.port, event.tsc), event.tsc))
        elif event.kind is Kind.CALL_EXIT and call is not None and call.pre is not None:
            made = call.port_made()
            if made is not None:
                activity.ports[made] = PortActivity(is_new=True)
            elif call.op == EvtchnOp.SEND and call.arguments():
                port = activity.ports.setdefault(call.arguments()[0], PortActivity())
                port.sends.append((call.pre.tsc, event.tsc))
    return activity


def bounds(dom: int, own: Activity, other_dom: int, other: Activity, peers: Peers) -> list[Bound]:
    """Give what the runs of both domains allow of host = own + offset, `other` being the host."""
    found = []
    for port, mine in own.ports.items():
        peer = peers.get((dom, port))
        theirs = other.ports.get(peer[1]) if peer is not None and peer[0] == other_dom else None
        if theirs is not None:
            found += [_bound(run, theirs.sends, other.span) for run in _windows(mine)]
            found += [_mirrored(_bound(run, mine.sends, own.span)) for run in _windows(theirs)]
    return found


def _windows(port: PortActivity) -> Iterator[tuple[int | None, int]]:
    """Give for each run the time of the clearing before it, and its own."""
    if port.runs and not port.is_new:
        yield None, port.runs[0][1]
    for (cleared, _), (_, entered) in pairwise(port.runs):
        yield cleared, entered


def _bound(window: tuple[int | None, int], sends: list[Interval], observed: Interval) -> Bound:
    """Give the offsets, sender's TSC = runner's + offset, that a run's window allows."""
    cleared, entered = window
    caused = [
        (before - entered, FOREVER if cleared is None else behind - cleared)
        for before, behind in sends
    ]
    starts_earlier = (-FOREVER, observed[0] - (entered if cleared is None else cleared))
    ends_later = (observed[1] - entered, FOREVER)
    return Bound(union(caused), union([starts_earlier, ends_later]))


def _mirrored(bound: Bound) -> Bound:
    """Turn offsets from the host to the domain into offsets from the domain to the host."""
    return Bound(
        union((-hi, -lo) for lo, hi in bound.caused),
        union((-hi, -lo) for lo, hi in bound.unobserved),
    )


def _peers_seen(snapshots: Sequence[Snapshot]) -> Iterator[tuple[Channel, Channel]]:
    for snapshot in snapshots:
        for dom, channels in snapshot.domains.items():
            for port, channel in channels.items():
                if channel.state is PortState.INTERDOMAIN:
                    yield (dom, port), (channel.peer, channel.peer_port)


def _peers_bound(guests: Mapping[int, GuestTrace]) -> Iterator[tuple[Channel, Channel]]:
    for dom, guest in guests.items():
        for call in guest.calls.calls:
            made, arguments = call.port_made(), call.arguments()
            if call.op == EvtchnOp.BIND_INTERDOMAIN and made is not None and len(arguments) == 2:
                remote = dom if arguments[0] == DOMID_SELF else arguments[0]
                yield (dom, made), (remote, arguments[1])
