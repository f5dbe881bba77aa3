"""Clocks: intervals of offsets, from what must be true."""

from hypothesis import given
from hypothesis import strategies as st

from evtrace.timeline import Kind
from evtrace.tracer.importers.clocks import ClockKind, find_clocks
from evtrace.tracer.importers.events import GuestEvent, GuestTrace
from evtrace.tracer.importers.ftrace import FtraceText
from evtrace.tracer.importers.intervals import deepest, intersection, union
from evtrace.tracer.importers.occupancy import Occupancy, Spans

intervals = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda p: (p[0], p[0] + p[1])),
    max_size=8,
)


def points(found):
    return {at for lo, hi in found for at in range(lo, hi + 1)}


@given(intervals, intervals)
def test_sets_of_intervals_are_sets_of_points(one, other):
    left, right = union(one), union(other)

    assert points(left) == points(one)
    assert points(intersection(left, right)) == points(one) & points(other)
    assert left == sorted(left)


@given(intervals.filter(bool), st.integers(0, 3))
def test_the_deepest_places_are_those_covered_most(given_intervals, slack):
    depth = {at: sum(lo <= at <= hi for lo, hi in given_intervals) for at in range(60)}
    enough = max(1, max(depth.values()) - slack)

    assert points(deepest(given_intervals, slack)) == {at for at, d in depth.items() if d >= enough}


def spans(*pairs):
    return Spans([lo for lo, _ in pairs], [hi for _, hi in pairs], [0] * len(pairs))


def find_clock(guest, occupancy):
    return find_clocks({1: guest}, occupancy)[1]


def guest_of(*tscs, vcpu=0):
    events = [GuestEvent(tsc, vcpu, Kind.UPCALL_ENTER) for tsc in tscs]
    return GuestTrace(FtraceText("t"), events)


RAN = [(100 * i, 100 * i + 10 + i % 7) for i in range(1, 40)]


def test_events_where_their_vcpu_ran_are_on_the_hosts_clock():
    guest = guest_of(*(lo + 3 for lo, _ in RAN))

    clock = find_clock(guest, Occupancy(running={(1, 0): spans(*RAN)}))

    assert clock.kind is ClockKind.HOST
    assert "39 events" in clock.describe(1)


def test_the_offset_of_an_hvm_guest_is_an_interval_that_every_event_allows():
    offset = 123_456
    guest = guest_of(*(lo + 3 - offset for lo, _ in RAN), *(hi - 2 - offset for _, hi in RAN))

    clock = find_clock(guest, Occupancy(in_guest={(1, 0): spans(*RAN)}))

    assert (ClockKind.OFFSET, (offset - 3, offset + 2)) == (clock.kind, clock.offset)


def test_a_text_that_does_not_overlap_the_stock_capture_tells_nothing():
    clock = find_clock(guest_of(10**9), Occupancy(running={(1, 0): spans(*RAN)}))

    assert clock.kind is ClockKind.ASSUMED
    assert clock.is_host


def test_events_that_no_constant_offset_explains():
    guest = guest_of(*(50 + 37 * i + i * i for i in range(60)))

    clock = find_clock(guest, Occupancy(running={(1, 0): spans(*RAN)}))

    assert clock.kind is ClockKind.APART
    assert not clock.is_host
