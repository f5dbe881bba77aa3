"""Snapshots of event channels: the output of `lsevtchn`; that of debug key `e` is in `debug_keys`.

Both may come with console prefixes and lines of others in between; only lines of their own form are
read, and a list may end anywhere.
"""

import re
from collections.abc import Iterable

from evtrace.snapshot import Channel, Snapshot, SourceKind
from evtrace.tracer.importers.debug_keys import parse_debug_keys
from evtrace.xen.abi import PortState

__all__ = ["AFTER", "BEFORE", "Channel", "Snapshot", "parse_debug_keys", "parse_lsevtchn"]

BEFORE = "before"
AFTER = "after"

_LS_DOMAIN = re.compile(r"^.*[#$]\s*(?:sudo\s+)?(?:\S*/)?lsevtchn\s+(\d{1,9})\s*$")
_LS_PORT = re.compile(r"^[>\s]*(?P<port>\d{1,9}): VCPU (?P<vcpu>\d{1,9}): (?P<what>.+?)\s*$")
_LS_BROKEN = re.compile(r"^[>\s]*\d+:?(?: V(?:C(?:P(?:U.*)?)?)?)?$|\d+: VCPU ")
_LS_KINDS = (
    (
        re.compile(r"Interdomain \(Connected\) - Remote Domain (\d{1,9}), Port (\d{1,9})"),
        PortState.INTERDOMAIN,
    ),
    (
        re.compile(r"Interdomain \(Waiting connection\) - Remote Domain (\d{1,9})"),
        PortState.UNBOUND,
    ),
    (re.compile(r"Physical IRQ (\d{1,9})"), PortState.PIRQ),
    (re.compile(r"Virtual IRQ (\d{1,9})"), PortState.VIRQ),
    (re.compile(r"IPI"), PortState.IPI),
)


def parse_lsevtchn(lines: Iterable[str], dom: int | None = None) -> Snapshot:
    """Read lsevtchn's output; `# lsevtchn N` starts a domain unless `dom` says whose it is."""
    snapshot = Snapshot(kind=SourceKind.LSEVTCHN)
    extent = snapshot.extent
    if dom is not None:
        snapshot.domains[dom] = {}
    for line in lines:
        if (start := _LS_DOMAIN.match(line)) is not None:
            extent.ended |= snapshot.domains.keys()
            dom = int(start[1])
            snapshot.domains.setdefault(dom, {})
        elif (match := _LS_PORT.match(line)) is not None:
            channel = _listed(match)
            if dom is None:
                extent.headless = True
            elif channel is not None:
                snapshot.domains[dom][channel.port] = channel
            if channel is None:
                _note_unread(snapshot, dom, line)
        elif dom is not None and _LS_BROKEN.search(line):
            _note_unread(snapshot, dom, line)
    extent.without_xen |= snapshot.domains.keys()
    return snapshot


def _note_unread(snapshot: Snapshot, dom: int | None, line: str) -> None:
    if dom is None:
        return
    snapshot.strange += 1
    snapshot.extent.unread.append(line.rstrip())
    snapshot.extent.damaged.add(dom)


def _listed(match: re.Match[str]) -> Channel | None:
    for pattern, state in _LS_KINDS:
        found = pattern.fullmatch(match["what"])
        if found is not None:
            numbers = [int(number) for number in found.groups()]
            peer, peer_port = [*numbers, 0, 0][:2]
            return Channel(int(match["port"]), state, int(match["vcpu"]), peer, peer_port)
    return None
