"""Rules on the two ends of a channel: who waits for nobody, whose peer is gone or elsewhere."""

from collections import defaultdict
from collections.abc import Iterator

from evtrace.replay.doctor.case import Case, name_of, peer_of
from evtrace.replay.doctor.findings import Code, Finding
from evtrace.snapshot import Channel, SourceKind
from evtrace.verdicts import Severity
from evtrace.xen.abi import PortState

_SENDS_LOST = "what is sent on it is dropped without an error"


def find_half_open(case: Case) -> Iterator[Finding]:
    """Judge every port that has, had or waits for a peer; what a cut text hides is unsettled."""
    hidden: dict[tuple[int, bool], list[str]] = defaultdict(list)
    for dom, channel in case.channels():
        if channel.state is PortState.UNBOUND:
            yield from _judge_unbound(case, dom, channel, hidden)
    for dom, channels in sorted(case.now.domains.items()):
        for channel in channels.values():
            if channel.state is PortState.INTERDOMAIN:
                yield from _judge_connected(case, dom, channel, hidden)
    for (peer, domain_shown), names in sorted(hidden.items()):
        yield _unsettled(case, peer, names, domain_shown=domain_shown)


Hidden = dict[tuple[int, bool], list[str]]
"""Ports that could not be judged, by the peer's domain and whether its list was there at all."""


def _judge_unbound(case: Case, dom: int, channel: Channel, hidden: Hidden) -> Iterator[Finding]:
    where, peer = name_of(dom, channel.port), channel.peer
    if case.now.lacks_domain(peer):
        reason = f"unbound, waits for d{peer}, which is not there: {_SENDS_LOST}"
        look = f"which driver or process of d{dom} opened it for d{peer} and did not close it when "
        look += "that went away (xenstore: the event-channel keys)"
        severity = _severity(case, dom, channel)
        yield Finding(severity, Code.WAITS_FOR_NOBODY, where, reason, look)
    elif channel.pending or _was_connected(case, dom, channel):
        how = f"was connected to d{peer} in an earlier {case.noun}"
        if not _was_connected(case, dom, channel):
            how = f"pending, so d{peer} was connected, notified it and closed its end"
        reason = f"unbound, but {how}: {_SENDS_LOST}"
        look = f"whether d{peer}'s driver or process died or restarted, and whether d{dom} was told"
        look += " (the device's state in xenstore)"
        yield Finding(Severity.WARNING, Code.PEER_CLOSED, where, reason, look)
    elif peer in case.now.domains or case.now.kind is SourceKind.QEMU:
        reason = f"unbound, waits for d{peer} to bind it"
        yield Finding(Severity.NORMAL, Code.WAITING, where, reason)
    else:
        hidden[peer, False].append(where)


def _was_connected(case: Case, dom: int, channel: Channel) -> bool:
    earlier = (snapshot.find(dom, channel.port) for snapshot in case.before)
    return any(
        one is not None and one.state is PortState.INTERDOMAIN and one.peer == channel.peer
        for one in earlier
    )


def _judge_connected(case: Case, dom: int, channel: Channel, hidden: Hidden) -> Iterator[Finding]:
    now, where = case.now, name_of(dom, channel.port)
    far, far_port = channel.peer, channel.peer_port
    other = now.find(far, far_port)
    if other is not None:
        yield from _judge_ends(case, dom, channel, other)
    elif now.lacks_domain(far):
        reason = f"connected to d{far}, which is not there"
        look = f"`xl list` for d{far}, also as a zombie; dump again: Xen closes both ends when a "
        look += "domain dies"
        yield _at(case, dom, channel, Code.PEER_DOMAIN_GONE, reason, look)
    elif now.lacks_port(far, far_port) and far not in now.extent.without_xen:
        reason = f"connected to {name_of(far, far_port)}, which d{far}'s list does not have: closed"
        reason += ", or the text lost a line"
        yield _at(
            case, dom, channel, Code.PEER_PORT_CLOSED, reason, _look_again(case, dom, channel)
        )
    elif now.kind is not SourceKind.QEMU or far in now.domains:
        hidden[far, far in now.domains].append(where)


def _judge_ends(case: Case, dom: int, channel: Channel, other: Channel) -> Iterator[Finding]:
    far = name_of(channel.peer, channel.peer_port)
    if other.state is not PortState.INTERDOMAIN:
        state = other.state.name.lower()
        reason = f"connected to {far}, which is {state}: the peer does not know of it"
        yield _at(
            case, dom, channel, Code.PEER_UNCONNECTED, reason, _look_again(case, dom, channel)
        )
    elif (other.peer, other.peer_port) != (dom, channel.port):
        elsewhere = name_of(other.peer, other.peer_port)
        reason = f"connected to {far}, which is connected to {elsewhere} instead"
        yield _at(case, dom, channel, Code.PEER_ELSEWHERE, reason, _look_again(case, dom, channel))


def _severity(case: Case, dom: int, channel: Channel) -> Severity:
    """Rate a half-open port: worse, if several snapshots show both ends alike."""
    far = channel.peer, channel.peer_port
    ends = [snapshot.find(*far) for snapshot in (*case.before, case.now)]
    same = len({None if one is None else one.identity for one in ends}) == 1
    is_old = bool(case.before) and len(case.earlier(dom, channel)) == len(case.before)
    return Severity.ERROR if is_old and same else Severity.WARNING


def _look_again(case: Case, dom: int, channel: Channel) -> str:
    if _severity(case, dom, channel) is Severity.ERROR:
        return "the rest of xl dmesg, then report it with all dumps: Xen changes both ends at once"
    return (
        f"take another {case.noun}: the lists of two domains are not of one moment; if it is so "
        "again, Xen's tables or the text are damaged"
    )


def _at(case: Case, dom: int, channel: Channel, code: Code, reason: str, look: str) -> Finding:
    where = name_of(dom, channel.port)
    return Finding(_severity(case, dom, channel), code, where, reason, look, peer_of(case, channel))


def _what_is_hidden(case: Case, peer: int, *, domain_shown: bool) -> str:
    if not domain_shown:
        return f"d{peer} is not shown, and nothing shows that the {case.noun} is whole"
    if peer in case.now.extent.without_xen:
        return f"the other end is not in d{peer}'s list: closed, cut off, or held by Xen itself"
    return f"the other end is not in d{peer}'s list, of which something is missing"


def _unsettled(case: Case, peer: int, names: list[str], *, domain_shown: bool) -> Finding:
    some = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    reason = f"{_what_is_hidden(case, peer, domain_shown=domain_shown)}; so whether {some} "
    reason += "is half-open cannot be told" if len(names) == 1 else "are half-open cannot be told"
    if case.now.kind is SourceKind.DEBUG_KEY:
        look = "`xl debug-keys e; sleep 1; xl debug-keys s; xl dmesg`: what key s prints shows "
        look += "that the dump is whole (xl dmesg -c before it if the ring is too small)"
    elif domain_shown:
        look = "take the list again, whole; on Xen better the dump of debug key e, which shows all"
    else:
        look = f"add `lsevtchn {peer}` as {peer}=FILE, or better the dump of debug key e"
    return Finding(Severity.NOTICE, Code.UNSETTLED, f"d{peer}", reason, look)
