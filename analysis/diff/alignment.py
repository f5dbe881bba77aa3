"""Which domain and port of B is which of A.

Numbers are kept where they fit. Where they do not, domains are recognized by what ports they have,
and ports by what they are bound to: kind, number of the interrupt, peer, device; among ports that
are alike by the order in which they were bound, or by how much was going on on them.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from math import log
from typing import Final

from evtrace.analysis.diff.mapping import Mapping
from evtrace.analysis.diff.structure import End, PortFacts, PortKind, Structure, kinds_of
from evtrace.errors import UsageError


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


def align(a: Structure, b: Structure, mapping: Mapping) -> Alignment:
    """Pair the domains and ports of two traces; raises `UsageError` for a mapping of nothing."""
    _refuse_strangers(a, b, mapping)
    found = Alignment()
    _align_domains(found, a, b, mapping)
    ports = _Ports(found, a, b)
    for one, other in mapping.ports.items():
        ports.pair(a.ports[one], b.ports[other])
    for dom in found.doms:
        ports.keep_numbers(dom)
    for dom in found.doms:
        ports.recognize(dom)
    paired = set(found.ports.values())
    found.only_a = [facts for end, facts in sorted(a.ports.items()) if end not in paired]
    found.only_b = [facts for end, facts in sorted(b.ports.items()) if end not in found.ports]
    return found


def _refuse_strangers(a: Structure, b: Structure, mapping: Mapping) -> None:
    for side, structure, doms, ports in (
        ("first", a, mapping.doms.keys(), mapping.ports.keys()),
        ("second", b, mapping.doms.values(), mapping.ports.values()),
    ):
        missing = [port_name(end) for end in ports if end not in structure.ports]
        missing += [f"d{dom}" for dom in doms if dom not in structure.doms]
        if missing:
            there = ", ".join(f"d{dom}" for dom in sorted(structure.doms)) or "no domain"
            message = f"--map: there is no {missing[0]} in the {side} trace; it has {there}"
            raise UsageError(message)


# --- domains -----------------------------------------------------------------------------------

_ALIKE: Final = 0.5
"""Domains of one number are the same if so large a share of their ports is of the same kinds."""


def _align_domains(found: Alignment, a: Structure, b: Structure, mapping: Mapping) -> None:
    found.doms.update({other: one for one, other in mapping.doms.items()})
    left_a, left_b = _left(found, a, b)
    if 0 in left_a and 0 in left_b:
        found.doms[0] = 0
        left_a, left_b = _left(found, a, b)
    shared = left_a & left_b
    if shared in (left_a, left_b) and all(_likeness(a, dom, b, dom) >= _ALIKE for dom in shared):
        found.doms.update({dom: dom for dom in shared})
    _recognize_domains(found, a, b)


def _left(found: Alignment, a: Structure, b: Structure) -> tuple[set[int], set[int]]:
    return a.doms - set(found.doms.values()), b.doms - found.doms.keys()


def _likeness(a: Structure, dom_a: int, b: Structure, dom_b: int) -> float:
    """Give how large a share of two domains' ports is of the same kinds."""
    one, other = kinds_of(a, dom_a), kinds_of(b, dom_b)
    kinds = one.keys() | other.keys()
    larger = sum(max(one.get(kind, 0), other.get(kind, 0)) for kind in kinds)
    smaller = sum(min(one.get(kind, 0), other.get(kind, 0)) for kind in kinds)
    return smaller / larger if larger else 1.0


def _recognize_domains(found: Alignment, a: Structure, b: Structure) -> None:
    """Pair the most alike first; among those as alike, by traffic, then by who called first."""
    left_a, left_b = _left(found, a, b)
    turns_a, turns_b = _turns(a, left_a), _turns(b, left_b)
    fits = sorted(
        (
            round(1 - _likeness(a, one, b, other), 1),
            _apart(_traffic(a, one), _traffic(b, other)) // _CLEAR,
            abs(turns_a[one] - turns_b[other]),
            one,
            other,
        )
        for one in left_a
        for other in left_b
        if _likeness(a, one, b, other) > 0
    )
    for *unlike, one, other in fits:
        if one in found.doms.values() or other in found.doms or 0 in {one, other}:
            continue
        rivals = [
            f"d{rival}"
            for *its, of, rival in fits
            if of == one and rival != other and rival not in found.doms and its == unlike
        ]
        found.doms[other] = one
        if rivals:
            text = f"d{one} of A is taken for d{other} of B; {', '.join(rivals)} is as like it"
            found.doubts.append(text)


def _turns(structure: Structure, doms: set[int]) -> dict[int, int]:
    """Give the order in which domains made their first calls."""
    never = max(structure.first.values(), default=0) + 1
    order = sorted(doms, key=lambda dom: (structure.first.get(dom, never), dom))
    return {dom: place for place, dom in enumerate(order)}


def _traffic(structure: Structure, dom: int) -> int:
    return sum(facts.traffic for facts in structure.of(dom))


def _apart(one: int, other: int) -> float:
    """Give how far two amounts of traffic are apart, as a logarithm."""
    return abs(log((one + 1) / (other + 1)))


_CLEAR: Final = log(1.5)
"""Traffic that differs by a half tells ports apart."""


# --- ports -------------------------------------------------------------------------------------

Outline = Callable[[PortFacts, Callable[[int], int]], Hashable]
"""Gives what has to agree, the domains of one trace in the numbers of A; None: no pair."""


def _by_device(facts: PortFacts, dom: Callable[[int], int]) -> Hashable:
    return (facts.device, _by_binding(facts, dom)) if facts.device else None


def _by_binding(facts: PortFacts, dom: Callable[[int], int]) -> Hashable:
    if facts.kind is PortKind.UNKNOWN:
        return None
    return facts.vcpu, _by_kind(facts, dom)


def _by_kind(facts: PortFacts, dom: Callable[[int], int]) -> Hashable:
    if facts.kind is PortKind.UNKNOWN:
        return None
    peer = None if facts.peer_dom is None else dom(facts.peer_dom)
    return facts.kind, facts.number, peer


def _by_nothing(facts: PortFacts, dom: Callable[[int], int]) -> Hashable:
    del dom
    return "unknown" if facts.kind is PortKind.UNKNOWN else None


_OUTLINES: Final[tuple[Outline, ...]] = (_by_device, _by_binding, _by_kind, _by_nothing)
"""From the strictest to the last one."""


class _Ports:
    """Pairs ports; with each, its peer."""

    def __init__(self, found: Alignment, a: Structure, b: Structure) -> None:
        self._found, self._a, self._b = found, a, b

    def pair(self, one: PortFacts, other: PortFacts) -> None:
        """Take two ports for the same, and their peers."""
        if self._is_free(one.end, other.end):
            self._found.ports[other.end] = one.end
        if one.peer is None or other.peer is None or one.peer == one.end:
            return
        if self._found.doms.get(other.peer[0]) == one.peer[0] and self._is_free(
            one.peer, other.peer
        ):
            self._found.ports[other.peer] = one.peer

    def keep_numbers(self, dom_b: int) -> None:
        """Pair equal numbers, if those that the smaller side has all fit."""
        one, other = self._free(dom_b)
        by_number = {facts.end[1]: facts for facts in other}
        same = [(facts, by_number.get(facts.end[1])) for facts in one]
        fitting = [(a, b) for a, b in same if b is not None and self._fit(a, b)]
        if len(fitting) == min(len(one), len(other)):
            for a, b in fitting:
                self.pair(a, b)

    def recognize(self, dom_b: int) -> None:
        """Pair the others by what they are bound to."""
        for outline in _OUTLINES:
            one, other = self._free(dom_b)
            groups_a = _grouped(one, outline, lambda dom: dom)
            groups_b = _grouped(other, outline, self._dom)
            for key in groups_a:
                if key in groups_b:
                    self._pair_alike(groups_a[key], groups_b[key])

    def _pair_alike(self, one: list[PortFacts], other: list[PortFacts]) -> None:
        """Pair ports that are bound alike, in the order that their traffic agrees with best."""
        orders = [_bound, _number, _activity, _volume]
        if any(facts.bound is None for facts in (*one, *other)):
            orders = orders[1:]
        ranked = sorted(
            (_mismatch(sorted(one, key=order), sorted(other, key=order)), place)
            for place, order in enumerate(orders)
        )
        best = orders[0] if orders[0] is _bound else orders[ranked[0][1]]
        ones, others = sorted(one, key=best), sorted(other, key=best)
        ones = [facts for facts in ones if facts.end not in self._found.ports.values()]
        others = [facts for facts in others if facts.end not in self._found.ports]
        for a, b in zip(ones, others, strict=False):
            self.pair(a, b)
        if len(ones) != len(others):
            self._doubt(ones, others)

    def _doubt(self, one: list[PortFacts], other: list[PortFacts]) -> None:
        if min(len(one), len(other)) and max(len(one), len(other)) > 1:
            names = ", ".join(port_name(facts.end) for facts in one[:4])
            text = f"{len(one)} alike in A ({names}{' ...' if len(one) > 4 else ''})"
            self._found.doubts.append(f"{text}, {len(other)} in B: paired in order")

    def _is_free(self, one: End, other: End) -> bool:
        return other not in self._found.ports and one not in self._found.ports.values()

    def _free(self, dom_b: int) -> tuple[list[PortFacts], list[PortFacts]]:
        taken = set(self._found.ports.values())
        one = [facts for facts in self._a.of(self._found.doms[dom_b]) if facts.end not in taken]
        other = [facts for facts in self._b.of(dom_b) if facts.end not in self._found.ports]
        return one, other

    def _dom(self, dom: int) -> int:
        """Give a domain of B in the numbers of A; one that A has not is no number of A's."""
        return self._found.doms.get(dom, -1 - dom)

    def _fit(self, one: PortFacts, other: PortFacts) -> bool:
        """Whether what is known of two ports does not contradict itself."""
        if PortKind.UNKNOWN in {one.kind, other.kind}:
            return True
        return _by_kind(one, lambda dom: dom) == _by_kind(other, self._dom)


def _grouped(
    ports: Sequence[PortFacts], outline: Outline, dom: Callable[[int], int]
) -> dict[Hashable, list[PortFacts]]:
    groups: dict[Hashable, list[PortFacts]] = defaultdict(list)
    for facts in ports:
        key = outline(facts, dom)
        if key is not None:
            groups[key].append(facts)
    return groups


def _mismatch(one: Sequence[PortFacts], other: Sequence[PortFacts]) -> float:
    """Give how badly the traffic of ports agrees when they are paired in order."""
    pairs = zip(one, other, strict=False)
    return round(sum(_apart(a.traffic, b.traffic) for a, b in pairs), 3)


def _bound(facts: PortFacts) -> tuple[int, ...]:
    return (facts.bound or 0, facts.end[1])


def _number(facts: PortFacts) -> tuple[int, ...]:
    return (facts.end[1],)


def _activity(facts: PortFacts) -> tuple[int, ...]:
    return (facts.first, facts.end[1])


def _volume(facts: PortFacts) -> tuple[int, ...]:
    return (-facts.traffic, facts.end[1])
