"""Lines of debug key `e`: one port each, and lists of bits (Xen: domain_dump_evtchn_info)."""

import re
from collections.abc import Iterable
from typing import Final

from evtrace.snapshot import Channel
from evtrace.xen.abi import PortState

MAX_VCPUS: Final = 8192

PREFIX: Final = r"^(?:.*\(XEN\)\s*(?:\[[^]]*\]\s*)?|[>\s]*)"
"""What stands before a line in `xl dmesg`, a console's log, or a quoted mail."""
PORT: Final = re.compile(
    PREFIX + r"(?P<port>\d{1,9}) \[(?P<p>[01])/(?P<m>[01])/(?P<state>[^\]]*)\]:"
    r" s=(?P<s>\d{1,9}) n=(?P<n>\d{1,9}) x=(?P<x>\d{1,9})"
    r"(?: d=(?P<d>\d{1,9}))?(?: p=(?P<peer>\d{1,9}))?(?: i=(?P<i>-?\d{1,9}))?(?: v=(?P<v>\d{1,9}))?"
    r"(?= Z=|\s*$)",
)
_NEEDED: dict[int, tuple[str, ...]] = {
    PortState.UNBOUND: ("d",),
    PortState.INTERDOMAIN: ("d", "peer"),
    PortState.PIRQ: ("peer",),
    PortState.VIRQ: ("v",),
    PortState.IPI: (),
}
"""Which fields a line has, by state."""


def read_numbers(text: str) -> Iterable[int]:
    """Read a list of bits as Xen prints it, such as `0,2-3`."""
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        bounds = first, last or first
        if all(bound.isdecimal() and len(bound) < 6 for bound in bounds):
            yield from range(int(bounds[0]), min(int(bounds[1]), MAX_VCPUS) + 1)


def is_fifo(state: str) -> bool:
    """Tell the form by the width of the third column: 2-level shows a single selector bit."""
    return state.strip() not in {"0", "1"} or len(state) > 1


def channel_of(match: re.Match[str]) -> Channel | None:
    """Give the channel of a line; None if a field that its state calls for is missing."""
    number = int(match["s"])
    needed = _NEEDED.get(number)
    if needed is None or any(match[name] is None for name in needed):
        return None
    state = PortState(number)
    peer, peer_port = int(match["d"] or 0), int(match["peer"] or 0)
    if state is PortState.PIRQ:
        peer, peer_port = peer_port, max(0, int(match["i"] or 0))
    elif state is PortState.VIRQ:
        peer = int(match["v"] or 0)
    fifo = is_fifo(match["state"])
    return Channel(
        port=int(match["port"]),
        state=state,
        vcpu=int(match["n"]),
        peer=peer,
        peer_port=peer_port,
        pending=match["p"] == "1",
        masked=match["m"] == "1",
        linked=any(map(str.isdecimal, match["state"])) if fifo else match["state"] == "1",
        xen_consumer=match["x"] != "0",
        no_word="?" in match["state"],
    )
