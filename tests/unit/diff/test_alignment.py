"""Domains and ports are recognized by what they are, whatever their numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evtrace.analysis.diff.alignment import align
from evtrace.analysis.diff.mapping import Mapping, read_mapping
from evtrace.analysis.diff.structure import PortKind, Structure
from evtrace.errors import UsageError


def structure(*channels, timers=(0, 1), shift=0, traffic=None):
    """Build domains with a timer each, and channels as pairs of (domain, port), bound in order."""
    found = Structure()
    for dom in timers:
        facts = found.port((dom, 1 + shift))
        facts.kind, facts.number, facts.vcpu = PortKind.VIRQ, 0, 0
    for order, (one, other) in enumerate(channels):
        found.join(one, other)
        for end in (one, other):
            found.port(end).bound = 100 + order
            found.port(end).traffic = traffic[order] if traffic else 10
    return found


def test_equal_numbers_are_kept():
    one = structure(((0, 8), (1, 8)), ((0, 9), (1, 9)))
    found = align(one, structure(((0, 8), (1, 8)), ((0, 9), (1, 9))), Mapping())

    assert found.ports == {end: end for end in one.ports}
    assert found.doms == {0: 0, 1: 1}
    assert (found.doubts, found.renumbered) == ([], [])


def test_a_port_more_is_only_in_that_trace():
    one = structure(((0, 8), (1, 8)))
    found = align(one, structure(((0, 8), (1, 8)), ((0, 9), (1, 9))), Mapping())

    assert [facts.end for facts in found.only_b] == [(0, 9), (1, 9)]
    assert found.only_a == []
    assert found.ports[0, 8] == (0, 8)


def test_numbers_that_fit_only_in_part_are_not_kept():
    """Ports 8, 9 of A are 9, 10 of B: that both have a 9 means nothing."""
    one = structure(((0, 8), (1, 8)), ((0, 9), (1, 9)))
    found = align(one, structure(((0, 9), (1, 9)), ((0, 10), (1, 10))), Mapping())

    assert found.ports[0, 9] == (0, 8)
    assert found.ports[1, 10] == (1, 9)


def test_another_domain_number_is_recognized():
    one = structure(((0, 8), (1, 8)))
    found = align(one, structure(((0, 8), (7, 8)), timers=(0, 7)), Mapping())

    assert found.doms == {0: 0, 7: 1}
    assert found.ports[7, 8] == (1, 8)
    assert ("d1", "d7") in found.renumbered


def test_channels_follow_the_domain_at_their_other_end():
    one = structure(((0, 8), (1, 8)), ((0, 9), (2, 8)), timers=(0, 1, 2))
    other = structure(((0, 8), (2, 8)), ((0, 9), (1, 8)), timers=(0, 1, 2))
    found = align(one, other, Mapping())

    assert found.ports[0, 8] == (0, 9)
    assert found.ports[0, 9] == (0, 8)


def test_traffic_tells_alike_ports_apart_that_were_bound_before():
    ends = ((0, 8), (1, 8)), ((0, 9), (1, 9))
    one = structure(*ends, traffic=(100, 5))
    other = structure(((0, 19), (1, 19)), ((0, 18), (1, 18)), traffic=(100, 5))
    for facts in (*one.ports.values(), *other.ports.values()):
        facts.bound = None
    found = align(one, other, Mapping())

    assert found.ports[0, 19] == (0, 8)
    assert found.ports[1, 18] == (1, 9)


def test_an_interrupt_is_known_by_its_number_and_vcpu():
    one, other = structure(), structure()
    for side, ports in ((one, (20, 21)), (other, (31, 30))):
        for vcpu, port in enumerate(ports):
            facts = side.port((0, port))
            facts.kind, facts.number, facts.vcpu = PortKind.VIRQ, 3, vcpu

    assert align(one, other, Mapping()).ports[0, 31] == (0, 20)


def test_too_many_alike_ports_are_paired_with_doubt():
    one = structure(((0, 8), (1, 8)), ((0, 9), (1, 9)))
    other = structure(((0, 20), (1, 20)), ((0, 21), (1, 21)), ((0, 22), (1, 22)))
    found = align(one, other, Mapping())

    assert "alike" in found.doubts[0]
    assert len(found.only_b) == 2


def test_a_map_is_believed():
    one = structure(((0, 8), (1, 8)), ((0, 9), (1, 9)))
    found = align(one, one, read_mapping(["d0:8=d0:9"]))

    assert found.ports[0, 9] == (0, 8)
    assert found.ports[1, 9] == (1, 8)
    assert found.ports[0, 8] == (0, 9)


def test_dom0_is_no_other_domain():
    found = align(structure(timers=(0,)), structure(timers=(1,)), Mapping())

    assert found.doms == {}


@pytest.mark.parametrize(
    "texts",
    [
        ["d1=3"],
        ["1=3"],
        ["d1:8=d3"],
        ["d1=d3", "d1=d4"],
        ["d1=d3", "d2=d3"],
        ["d1=d3", "d1:8=d4:8"],
    ],
)
def test_a_map_that_cannot_be_meant_is_refused(texts):
    with pytest.raises(UsageError):
        read_mapping(texts)


@pytest.mark.parametrize("text", ["d5=d1", "d1=d5", "d1:77=d1:8", "d1:8=d1:77"])
def test_a_map_of_what_there_is_not_is_refused(text):
    one = structure(((0, 8), (1, 8)))
    with pytest.raises(UsageError, match="there is no d"):
        align(one, one, read_mapping([text]))


def test_names_are_those_of_a_and_strangers_are_marked():
    one = structure(((0, 8), (1, 8)))
    other = structure(((0, 9), (7, 8)), ((0, 8), (7, 9)), timers=(0, 7))
    found = align(one, other, read_mapping(["d1:8=d7:8"]))
    names = [found.in_a(name) for name in ("d7:8→d0:9", "d7:9→d0:8", "d0v1→d0:1", "virq→d7:1")]

    assert names == ["d1:8→d0:8", "d1:9→d0:8(B)", "d0v1→d0:1", "virq→d1:1"]


@given(
    st.permutations(range(20, 26)),
    st.permutations(range(30, 36)),
    st.integers(3, 60),
)
def test_any_renumbering_is_undone(ports_0, ports_1, dom):
    """By the order of binding alone: all channels are alike."""
    one = structure(*(((0, 8 + n), (1, 8 + n)) for n in range(6)))
    ends = zip(ports_0, ports_1, strict=True)
    other = structure(*(((0, a), (dom, b)) for a, b in ends), timers=(0, dom))
    found = align(one, other, Mapping())

    for n in range(6):
        assert found.ports[0, ports_0[n]] == (0, 8 + n)
        assert found.ports[dom, ports_1[n]] == (1, 8 + n)
    assert found.doubts == []
