"""A snapshot: what a source shows of event channels at one time, and how far it can be trusted.

Importers make it of texts; a trace carries it as records, and `evtrace doctor` judges it.
"""

from dataclasses import dataclass, field
from enum import StrEnum, unique

from evtrace.xen.abi import PortState, Virq


@unique
class SourceKind(StrEnum):
    """Who lists the channels."""

    DEBUG_KEY = "debug key e"
    LSEVTCHN = "lsevtchn"
    QEMU = "xen-event-list"


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel. `pending` and `masked` are None where the source does not show them."""

    port: int
    state: PortState
    vcpu: int
    peer: int = 0
    """Remote domain, VIRQ or PIRQ, by `state`."""
    peer_port: int = 0
    """Remote port, or the host's irq behind a PIRQ."""
    pending: bool | None = None
    masked: bool | None = None
    linked: bool | None = False
    """FIFO: on a queue; 2-level: its selector bit is set; None: the source does not show it."""
    xen_consumer: bool = False
    no_word: bool = False
    """FIFO: the guest has given no event word for it yet."""

    @property
    def identity(self) -> tuple[PortState, int, int, int]:
        """What every source shows of it: state, vCPU, peer and remote port."""
        remote_port = self.peer_port if self.state is PortState.INTERDOMAIN else 0
        return self.state, self.vcpu, self.peer, remote_port


@dataclass(slots=True)
class Extent:
    """How much of the host a source shows: what is absent may only be missing from the text."""

    all_domains: bool = False
    """It lists every domain of the host, in ascending order."""
    from_start: bool = True
    to_end: bool = False
    """Something that comes after the last list was seen."""
    ended: set[int] = field(default_factory=set)
    """Domains whose list was seen to end."""
    damaged: set[int] = field(default_factory=set)
    """Domains with lines in their list that could not be read."""
    without_xen: set[int] = field(default_factory=set)
    """Domains whose list leaves out the ports that Xen itself holds."""
    headless: bool = False
    """The start of some domain's list is missing: there is a list of nobody."""
    unread: list[str] = field(default_factory=list)
    """The lines that could not be read."""

    @property
    def is_cut(self) -> bool:
        """Something is missing from it for certain."""
        return not self.from_start or self.headless or bool(self.unread)


@dataclass(slots=True)
class Snapshot:
    """The channels of every domain that a source shows."""

    domains: dict[int, dict[int, Channel]] = field(default_factory=dict)
    fifo: dict[int, bool] = field(default_factory=dict)
    hvm: dict[int, bool] = field(default_factory=dict)
    """Whether a domain is HVM, as debug key `s` says of those other than dom0."""
    tsc_hz: int | None = None
    """From debug key `s`."""
    strange: int = 0
    """Lines inside a dump that could not be read."""
    kind: SourceKind = SourceKind.DEBUG_KEY
    extent: Extent = field(default_factory=Extent)
    polling: dict[int, frozenset[int]] = field(default_factory=dict)
    """vCPUs of a domain that wait in SCHEDOP_poll."""
    vcpus: dict[int, frozenset[int]] = field(default_factory=dict)
    """All vCPUs of a domain, as debug key `q` lists them."""

    @property
    def channel_count(self) -> int:
        """Channels of all domains."""
        return sum(map(len, self.domains.values()))

    def find(self, dom: int, port: int) -> Channel | None:
        """Give a channel, None if the snapshot does not show it."""
        return self.domains.get(dom, {}).get(port)

    def lacks_domain(self, dom: int) -> bool:
        """Tell whether the domain certainly is not there; False: there, or simply not shown."""
        extent = self.extent
        if dom in self.domains or not extent.all_domains or extent.headless or not self.domains:
            return False
        after_start = extent.from_start or dom > min(self.domains)
        return after_start and (extent.to_end or dom < max(self.domains))

    def lacks_port(self, dom: int, port: int) -> bool:
        """Tell whether a port certainly is closed; False: open, or simply not shown."""
        extent, channels = self.extent, self.domains.get(dom)
        if channels is None or port in channels or dom in extent.damaged:
            return False
        return dom in extent.ended or port < max(channels, default=0)

    def timer_ports(self, dom: int) -> dict[int, int]:
        """Give the port of each vCPU's timer in a domain."""
        return {
            channel.vcpu: port
            for port, channel in self.domains.get(dom, {}).items()
            if channel.state is PortState.VIRQ and channel.peer == Virq.TIMER
        }

    def merge(self, other: "Snapshot") -> list[str]:
        """Add what `other` shows of the same time; give where the two disagree."""
        disagreements = []
        for dom, channels in other.domains.items():
            own = self.domains.get(dom)
            if own is None:
                self.domains[dom] = dict(channels)
                continue
            for port in sorted(own.keys() | channels.keys()):
                mine, theirs = own.get(port), channels.get(port)
                one = mine or theirs
                same = mine is not None and theirs is not None and mine.identity == theirs.identity
                if not same and one is not None and not one.xen_consumer:
                    disagreements.append(f"d{dom}:{port}")  # lsevtchn skips those of Xen itself
                if theirs is not None and (mine is None or theirs.pending is not None):
                    own[port] = theirs
        self.fifo |= other.fifo
        self.hvm |= other.hvm
        self.tsc_hz = self.tsc_hz or other.tsc_hz
        return disagreements
