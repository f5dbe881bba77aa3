"""Which domain and port of B is which of A: what the alignment comes to."""

import re
from dataclasses import dataclass, field
from math import log
from typing import Final

from evtrace.analysis.diff.structure import End, PortFacts


@dataclass(slots=True)
class Alignment:
    """Pairs of what is the same in both traces; keys are B's numbers, values A's."""

    doms: dict[int, int] = field(default_factory=dict)
    ports: dict[End, End] = field(default_factory=dict)
    only_a: list[PortFacts] = field(default_factory=list)
    only_b: list[PortFacts] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    """What was paired though something else fits as well, in words."""

    @property
    def renumbered(self) -> list[tuple[str, str]]:
        """The domains and ports that have another number in B: A's name and B's."""
        doms = [(f"d{a}", f"d{b}") for b, a in self.doms.items() if a != b]
        ports = [(port_name(a), port_name(b)) for b, a in self.ports.items() if a[1] != b[1]]
        return sorted(doms) + sorted(ports)

    def in_a(self, name: str) -> str:
        """Give the name of a channel, port, vCPU or domain of B in A's numbers.

        What A does not have keeps its name, with a mark where A calls something else so.
        """
        return _NUMBERS.sub(self._replaced, name)

    def _replaced(self, match: re.Match[str]) -> str:
        dom, port = int(match["dom"]), match["port"]
        if port is None:
            return self._dom(dom) + (match["vcpu"] or "")
        if (dom, int(port)) in self.ports:
            return port_name(self.ports[dom, int(port)])
        name = f"{self._dom(dom)}:{port}"
        taken = (self.doms.get(dom), int(port)) in self.ports.values()
        return name + (OF_B if taken else "")

    def _dom(self, dom: int) -> str:
        if dom in self.doms:
            return f"d{self.doms[dom]}"
        return f"d{dom}" + (OF_B if dom in self.doms.values() else "")


OF_B: Final = "(B)"
"""Marks what only B has, where its number is another one's in A."""
_NUMBERS: Final = re.compile(r"d(?P<dom>\d+)(?::(?P<port>\d+)|(?P<vcpu>v\d+))?")


def port_name(end: End) -> str:
    """Name a port: `d0:33`."""
    return f"d{end[0]}:{end[1]}"


def apart(one: int, other: int) -> float:
    """Give how far two amounts of traffic are apart, as a logarithm."""
    return abs(log((one + 1) / (other + 1)))


CLEAR: Final = log(1.5)
"""Traffic that differs by a half tells domains and ports apart."""
