"""A case: the last snapshot of a kind and those before it, and questions that rules ask of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evtrace.snapshot import Channel, Snapshot, SourceKind
from evtrace.verdicts import Severity
from evtrace.xen.abi import PortState

QEMU_PEER = 0
"""What QEMU calls itself as a peer; its ports are in no list."""


@dataclass(frozen=True, slots=True)
class Case:
    """The state to be judged, `now`, and what the same source showed `before`, oldest first."""

    now: Snapshot
    before: Sequence[Snapshot] = ()

    def channels(self) -> Iterator[tuple[int, Channel]]:
        """Give all channels that a guest owns, with their domains; not those of Xen itself."""
        for dom, channels in sorted(self.now.domains.items()):
            for _, channel in sorted(channels.items()):
                if not channel.xen_consumer:
                    yield dom, channel

    def earlier(self, dom: int, channel: Channel) -> list[Channel]:
        """Give the same channel in the snapshots before, where it was there."""
        seen = (snapshot.find(dom, channel.port) for snapshot in self.before)
        return [one for one in seen if one is not None and one.identity == channel.identity]

    def persists(self, dom: int, channel: Channel) -> bool:
        """Tell whether there are several snapshots and all show the channel's bits alike."""
        seen = self.earlier(dom, channel)
        bits = channel.pending, channel.masked, channel.linked
        return (
            bool(self.before)
            and len(seen) == len(self.before)
            and all((one.pending, one.masked, one.linked) == bits for one in seen)
        )

    def severity(self, dom: int, channel: Channel) -> Severity:
        """Rate a port that would not stay like this if it were well."""
        return Severity.ERROR if self.persists(dom, channel) else Severity.WARNING

    def since(self, dom: int, channel: Channel) -> str:
        """Say in how many snapshots it is so, if in all of several."""
        return self.in_each if self.persists(dom, channel) else ""

    @property
    def in_each(self) -> str:
        """Say that all snapshots show it."""
        return f", in each of {len(self.before) + 1} {self.noun}s"

    @property
    def noun(self) -> str:
        """What one snapshot of this kind is called."""
        return "dump" if self.now.kind is SourceKind.DEBUG_KEY else "list"


def name_of(dom: int, port: int) -> str:
    """Name a channel as --port takes it."""
    return f"d{dom}:{port}"


def peer_of(case: Case, channel: Channel) -> str | None:
    """Name the other end of an interdomain channel."""
    if channel.state is not PortState.INTERDOMAIN:
        return None
    if case.now.kind is SourceKind.QEMU and channel.peer not in case.now.domains:
        return f"qemu:{channel.peer_port}"
    return name_of(channel.peer, channel.peer_port)
