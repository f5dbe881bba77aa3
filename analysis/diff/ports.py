"""Ports of the two traces in pairs: by number where that fits, else by what they are bound to."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Final

from evtrace.analysis.diff.aligned import CLEAR, Alignment, apart, port_name
from evtrace.analysis.diff.structure import End, PortFacts, PortKind, Structure

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


class PortPairs:
    """Pairs ports; with each, its peer."""

    def __init__(self, found: Alignment, a: Structure, b: Structure) -> None:
        self._found, self._a, self._b = found, a, b
        self._taken = set(found.ports.values())

    def pair(self, one: PortFacts, other: PortFacts) -> None:
        """Take two ports for the same, and their peers."""
        self._join(one.end, other.end)
        if one.peer is None or other.peer is None:
            return
        if self._found.doms.get(other.peer[0]) == one.peer[0]:
            self._join(one.peer, other.peer)

    def _join(self, one: End, other: End) -> None:
        if other not in self._found.ports and one not in self._taken:
            self._found.ports[other] = one
            self._taken.add(one)

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
        """Pair ports bound alike: in order of binding, else as their traffic agrees best."""
        one = [facts for facts in one if facts.end not in self._taken]
        other = [facts for facts in other if facts.end not in self._found.ports]
        if all(facts.bound is not None for facts in (*one, *other)):
            pairs, rivals = _in_order(one, other, _bound), []
        else:
            ways = [_in_order(one, other, order) for order in (_number, _activity, _volume)]
            pairs = min(ways, key=_mismatch)
            rivals = [way for way in ways if _is_as_good(way, pairs)]
        for a, b in pairs:
            self.pair(a, b)
        if pairs and (rivals or len(one) != len(other) > 0):
            self._doubt(one, other)

    def _doubt(self, one: list[PortFacts], other: list[PortFacts]) -> None:
        names = ", ".join(port_name(facts.end) for facts in one[:4])
        text = f"{len(one)} alike in A ({names}{' ...' if len(one) > 4 else ''})"
        self._found.doubts.append(f"{text}, {len(other)} in B: paired in order")

    def _free(self, dom_b: int) -> tuple[list[PortFacts], list[PortFacts]]:
        its = self._a.of(self._found.doms[dom_b])
        one = [facts for facts in its if facts.end not in self._taken]
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


Pairs = list[tuple[PortFacts, PortFacts]]


def _in_order(
    one: list[PortFacts], other: list[PortFacts], order: Callable[[PortFacts], tuple[int, int]]
) -> Pairs:
    return list(zip(sorted(one, key=order), sorted(other, key=order), strict=False))


def _mismatch(pairs: Pairs) -> float:
    """Give how badly the traffic of paired ports agrees."""
    return round(sum(apart(a.traffic, b.traffic) for a, b in pairs), 3)


def _is_as_good(way: Pairs, pairs: Pairs) -> bool:
    """Whether pairing otherwise what has traffic would agree about as well."""
    one, other = (
        {(a.end, b.end) for a, b in each if a.traffic or b.traffic} for each in (way, pairs)
    )
    return one != other and _mismatch(way) <= _mismatch(pairs) + CLEAR


def _bound(facts: PortFacts) -> tuple[int, int]:
    return facts.bound or 0, facts.end[1]


def _number(facts: PortFacts) -> tuple[int, int]:
    return facts.end[1], 0


def _activity(facts: PortFacts) -> tuple[int, int]:
    return facts.first, facts.end[1]


def _volume(facts: PortFacts) -> tuple[int, int]:
    return -facts.traffic, facts.end[1]
