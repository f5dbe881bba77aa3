"""Which domain and port of B is which of A.

Numbers are kept where they fit. Where they do not, domains are recognized by what ports they have,
and ports by what they are bound to: kind, number of the interrupt, peer, device; among ports that
are alike by the order in which they were bound, or by how much was going on on them.
"""

from typing import Final

from evtrace.analysis.diff.aligned import CLEAR, Alignment, apart, port_name
from evtrace.analysis.diff.mapping import Mapping
from evtrace.analysis.diff.ports import PortPairs
from evtrace.analysis.diff.structure import Structure, kinds_of
from evtrace.errors import UsageError


def align(a: Structure, b: Structure, mapping: Mapping) -> Alignment:
    """Pair the domains and ports of two traces; raises `UsageError` for a mapping of nothing."""
    _refuse_strangers(a, b, mapping)
    found = Alignment()
    _align_domains(found, a, b, mapping)
    ports = PortPairs(found, a, b)
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
            apart(_traffic(a, one), _traffic(b, other)) // CLEAR,
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
