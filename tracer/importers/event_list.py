"""QEMU's `xen-event-list`: the answer of QMP (JSON) or of the human monitor (text).

QEMU emulates one domain. Its own ports, the other ends of that domain's channels, are in no list,
and neither are the selector words.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final

from evtrace.snapshot import Channel, Extent, Snapshot, SourceKind
from evtrace.xen.abi import PortState

EMULATED_DOMAIN: Final = 1
"""The number that QEMU gives to the domain it emulates."""
QEMU_DOMAIN: Final = 0
"""The number under which QEMU itself answers as a peer."""

_STATES = {
    "unbound": PortState.UNBOUND,
    "interdomain": PortState.INTERDOMAIN,
    "pirq": PortState.PIRQ,
    "virq": PortState.VIRQ,
    "ipi": PortState.IPI,
}
_OBJECT = re.compile(r"\{[^{}]*\}")
_BROKEN_OBJECT = re.compile(r"\{[^{}]*\"(?:port|vcpu|pending|masked|remote-domain)\"[^{}]*$")
_LINE = re.compile(
    r"^[>\s]*port +(?P<port>\d{1,9}): vcpu: (?P<vcpu>\d{1,9}) (?P<type>[a-z]+)\s*"
    r"(?:\((?:(?P<peer>[a-z]+):)?(?P<target>-?\d{1,9})\))?"
    r"(?P<pending> PENDING)?(?P<masked> MASKED)?\s*$",
)
_BROKEN_LINE = re.compile(r"^[>\s]*port +\d+(?::.*)?$|\d+: vcpu: \d")


def parse_qmp(text: str, dom: int = EMULATED_DOMAIN) -> Snapshot:
    """Read the list out of a QMP session, whatever stands around it; it may be cut."""
    snapshot = _new_list(dom)
    end = 0
    for found in _OBJECT.finditer(text):
        channel = _decoded(found[0], dom)
        if channel is not None:
            snapshot.domains[dom][channel.port] = channel
            end = found.end()
        elif '"port"' in found[0] and '"vcpu"' in found[0]:
            _note_unread(snapshot, dom, " ".join(found[0].split()))
    if text[end:].lstrip().startswith("]"):
        snapshot.extent.ended.add(dom)
    elif (broken := _BROKEN_OBJECT.search(text[end:])) is not None:
        _note_unread(snapshot, dom, " ".join(broken[0].split()))
    return snapshot


def parse_hmp(lines: Iterable[str], dom: int = EMULATED_DOMAIN) -> Snapshot:
    """Read the list as the human monitor prints it."""
    snapshot = _new_list(dom)
    channels = snapshot.domains[dom]
    for line in lines:
        if (match := _LINE.match(line)) is not None and match["type"] in _STATES:
            channel = _channel(
                dom,
                int(match["port"]),
                int(match["vcpu"]),
                match["type"],
                match["peer"] or "",
                int(match["target"] or 0),
                pending=match["pending"] is not None,
                masked=match["masked"] is not None,
            )
            channels[channel.port] = channel
        elif _BROKEN_LINE.search(line):
            _note_unread(snapshot, dom, line.rstrip())
        elif channels and line.startswith("(qemu)"):
            snapshot.extent.ended.add(dom)
    return snapshot


def errors_of_qmp(text: str) -> Iterator[str]:
    """Give what QEMU complained of instead of answering."""
    yield from re.findall(r'"desc":\s*"([^"]*)"', text)


def _new_list(dom: int) -> Snapshot:
    return Snapshot(domains={dom: {}}, fifo={dom: False}, kind=SourceKind.QEMU, extent=Extent())


def _note_unread(snapshot: Snapshot, dom: int, text: str) -> None:
    snapshot.strange += 1
    snapshot.extent.unread.append(text)
    snapshot.extent.damaged.add(dom)


def _decoded(text: str, dom: int) -> Channel | None:
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    numbers = [entry.get(name) for name in ("port", "vcpu", "target")]
    flags = [entry.get(name) for name in ("pending", "masked")]
    if str(entry.get("type")) not in _STATES or not all(isinstance(flag, bool) for flag in flags):
        return None
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        return None
    port, vcpu, target = numbers
    peer = str(entry.get("remote-domain") or "")
    pending, masked = flags
    return _channel(dom, port, vcpu, entry["type"], peer, target, pending=pending, masked=masked)


def _channel(
    dom: int,
    port: int,
    vcpu: int,
    kind: str,
    peer: str,
    target: int,
    *,
    pending: bool,
    masked: bool,
) -> Channel:
    state = _STATES[kind]
    other = dom if peer == "loopback" else QEMU_DOMAIN
    interdomain = state is PortState.INTERDOMAIN
    if state is PortState.UNBOUND:
        number = QEMU_DOMAIN if target else dom  # the list shows it in no other way
    else:
        number = other if interdomain else max(0, target)
    return Channel(
        port,
        state,
        vcpu,
        0 if state is PortState.IPI else number,
        target if interdomain else 0,
        pending=pending,
        masked=masked,
        linked=None,
    )
