"""Sources: which snapshots belong together, and where two sources of one time disagree."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from evtrace.replay.doctor.case import name_of
from evtrace.replay.doctor.findings import Code, Finding
from evtrace.snapshot import Channel, Snapshot, SourceKind
from evtrace.verdicts import Severity
from evtrace.xen.abi import PortState


def gather(snapshots: Iterable[Snapshot]) -> dict[SourceKind, list[Snapshot]]:
    """Sort snapshots by kind, oldest first; lists of different domains are of one time."""
    series: dict[SourceKind, list[Snapshot]] = {}
    for snapshot in snapshots:
        known = series.setdefault(snapshot.kind, [])
        is_dump = snapshot.kind is SourceKind.DEBUG_KEY
        if not known or is_dump or known[-1].domains.keys() & snapshot.domains.keys():
            known.append(snapshot)
        else:
            known[-1] = join(known[-1], snapshot)
    return series


def join(one: Snapshot, other: Snapshot) -> Snapshot:
    """Give `one` with the domains of `other` that it does not list itself."""
    added = other.domains.keys() - one.domains.keys()
    is_whole = one.extent.from_start and one.extent.to_end
    extent = replace(
        one.extent,
        all_domains=one.extent.all_domains and (is_whole or not added),
        ended=one.extent.ended | (other.extent.ended & added),
        damaged=one.extent.damaged | (other.extent.damaged & added),
        without_xen=one.extent.without_xen | (other.extent.without_xen & added),
        unread=[*one.extent.unread, *other.extent.unread],
    )
    return replace(
        one,
        domains=one.domains | {dom: other.domains[dom] for dom in added},
        fifo={**other.fifo, **one.fifo},
        extent=extent,
    )


def find_disagreements(dump: Snapshot, listed: Snapshot) -> Iterator[Finding]:
    """Compare what debug key e and lsevtchn show; what a cut text leaves out is no disagreement."""
    look = "take both again, one right after the other: a channel may have changed between them"
    for dom, theirs in sorted(listed.domains.items()):
        if dump.lacks_domain(dom):
            reason = f"lsevtchn lists {len(theirs)} channels, the dump has no such domain"
            yield Finding(Severity.WARNING, Code.SOURCES_DISAGREE, f"d{dom}", reason, look)
        ours = dump.domains.get(dom)
        if ours is None:
            continue
        for port in sorted(ours.keys() | theirs.keys()):
            mine, other = ours.get(port), theirs.get(port)
            if _disagree(dump, listed, dom, port):
                reason = f"the dump shows {_describe(mine)}, lsevtchn {_describe(other)}"
                where = name_of(dom, port)
                yield Finding(Severity.WARNING, Code.SOURCES_DISAGREE, where, reason, look)


def _disagree(dump: Snapshot, listed: Snapshot, dom: int, port: int) -> bool:
    mine, other = dump.find(dom, port), listed.find(dom, port)
    if mine is None:
        return dump.lacks_port(dom, port)
    if mine.xen_consumer:
        return False  # lsevtchn leaves out the ports of Xen, or stops there
    if other is not None:
        return mine.identity != other.identity
    return listed.lacks_port(dom, port) and not _stopped_before(dump, listed, dom, port)


def _stopped_before(dump: Snapshot, listed: Snapshot, dom: int, port: int) -> bool:
    """Old versions of lsevtchn stop at the first port that Xen itself holds."""
    stops = [one.port for one in dump.domains[dom].values() if one.xen_consumer]
    return bool(stops) and min(stops) < port and max(listed.domains[dom], default=0) < min(stops)


def _describe(channel: Channel | None) -> str:
    if channel is None:
        return "it closed"
    match channel.state:
        case PortState.UNBOUND:
            what = f"unbound for d{channel.peer}"
        case PortState.INTERDOMAIN:
            what = f"connected to {name_of(channel.peer, channel.peer_port)}"
        case PortState.IPI:
            what = "an IPI"
        case _:
            what = f"{channel.state.name} {channel.peer}"
    return f"{what} (vCPU {channel.vcpu})"
