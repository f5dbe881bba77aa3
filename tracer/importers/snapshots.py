"""Snapshots of event channels: the output of `lsevtchn` and of Xen's debug key `e`.

Both may come with console prefixes and lines of others in between; only lines of their own form are
read, and a dump may end anywhere.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from evtrace.xen.abi import PortState, Virq

BEFORE = "before"
AFTER = "after"

_PREFIX = r"^(?:\(XEN\)\s*(?:\[[^]]*\]\s*)?)?"
_DOMAIN = re.compile(_PREFIX + r"Event channel information for domain (\d+):")
_PORT = re.compile(
    _PREFIX + r"\s*(?P<port>\d+) \[(?P<p>[01])/(?P<m>[01])/(?P<state>[^\]]*)\]:"
    r" s=(?P<s>\d+) n=(?P<n>\d+) x=(?P<x>\d+)"
    r"(?: d=(?P<d>\d+))?(?: p=(?P<peer>\d+))?(?: i=(?P<i>-?\d+))?(?: v=(?P<v>\d+))?",
)
_PRESSED = re.compile(_PREFIX + r"'e' pressed")
_TSC = re.compile(
    _PREFIX + r"dom(?P<dom>\d+)(?P<hvm>\(hvm\))?: mode=(?P<mode>\d+).*\bkhz=(?P<khz>\d+)"
)
_ALWAYS_EMULATED = "1"
"""tsc_mode in which a guest's TSC counts nanoseconds, whatever the host's does."""
_LS_DOMAIN = re.compile(r"^#\s*lsevtchn\s+(\d+)")
_LS_PORT = re.compile(r"^\s*(?P<port>\d+): VCPU (?P<vcpu>\d+): (?P<what>.+?)\s*$")
_LS_KINDS = (
    (
        re.compile(r"Interdomain \(Connected\) - Remote Domain (\d+), Port (\d+)"),
        PortState.INTERDOMAIN,
    ),
    (re.compile(r"Interdomain \(Waiting connection\) - Remote Domain (\d+)"), PortState.UNBOUND),
    (re.compile(r"Physical IRQ (\d+)"), PortState.PIRQ),
    (re.compile(r"Virtual IRQ (\d+)"), PortState.VIRQ),
    (re.compile(r"IPI"), PortState.IPI),
)


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
    linked: bool = False
    xen_consumer: bool = False

    @property
    def identity(self) -> tuple[PortState, int, int, int]:
        """What both sources show of it: state, vCPU, peer and remote port."""
        remote_port = self.peer_port if self.state is PortState.INTERDOMAIN else 0
        return self.state, self.vcpu, self.peer, remote_port


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


def parse_debug_keys(lines: Iterable[str]) -> Snapshot:
    """Read what debug key `e` prints (Xen, domain_dump_evtchn_info), and the Hz from key `s`."""
    snapshot = Snapshot()
    channels: dict[int, Channel] | None = None
    dom = -1
    for line in lines:
        if _PRESSED.match(line):
            snapshot.domains.clear()  # the log of the console holds earlier dumps too
        elif (start := _DOMAIN.match(line)) is not None:
            dom = int(start[1])
            channels = snapshot.domains[dom] = {}
        elif channels is not None and (match := _PORT.match(line)) is not None:
            channel = _dumped(match)
            channels[channel.port] = channel
            snapshot.fifo[dom] = _is_fifo(match["state"])
        elif (tsc := _TSC.match(line)) is not None:
            snapshot.hvm[int(tsc["dom"])] = tsc["hvm"] is not None
            if tsc["mode"] != _ALWAYS_EMULATED:
                snapshot.tsc_hz = int(tsc["khz"]) * 1000
    return snapshot


def parse_lsevtchn(lines: Iterable[str], dom: int | None = None) -> Snapshot:
    """Read lsevtchn's output; `# lsevtchn N` starts a domain unless `dom` says whose it is."""
    snapshot = Snapshot()
    channels = snapshot.domains.setdefault(dom, {}) if dom is not None else None
    for line in lines:
        if (start := _LS_DOMAIN.match(line)) is not None:
            channels = snapshot.domains.setdefault(int(start[1]), {})
        elif (match := _LS_PORT.match(line)) is not None and channels is not None:
            channel = _listed(match)
            if channel is None:
                snapshot.strange += 1
            else:
                channels[channel.port] = channel
    return snapshot


def _is_fifo(state: str) -> bool:
    """Tell the form by the width of the third column: 2-level shows a single selector bit."""
    return state.strip() not in {"0", "1"} or len(state) > 1


def _dumped(match: re.Match[str]) -> Channel:
    state = PortState(int(match["s"])) if int(match["s"]) < len(PortState) else PortState.RESERVED
    peer, peer_port = int(match["d"] or 0), int(match["peer"] or 0)
    if state is PortState.PIRQ:
        peer, peer_port = peer_port, max(0, int(match["i"] or 0))
    elif state is PortState.VIRQ:
        peer = int(match["v"] or 0)
    fifo_linked = _is_fifo(match["state"]) and match["state"].strip() not in {"-", "?"}
    selected = not _is_fifo(match["state"]) and match["state"] == "1"
    return Channel(
        port=int(match["port"]),
        state=state,
        vcpu=int(match["n"]),
        peer=peer,
        peer_port=peer_port,
        pending=match["p"] == "1",
        masked=match["m"] == "1",
        linked=fifo_linked or selected,
        xen_consumer=match["x"] != "0",
    )


def _listed(match: re.Match[str]) -> Channel | None:
    for pattern, state in _LS_KINDS:
        found = pattern.fullmatch(match["what"])
        if found is not None:
            numbers = [int(number) for number in found.groups()]
            peer, peer_port = [*numbers, 0, 0][:2]
            return Channel(int(match["port"]), state, int(match["vcpu"]), peer, peer_port)
    return None
