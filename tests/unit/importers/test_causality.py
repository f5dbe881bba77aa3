"""Causality: offsets that sends and the handlers they cause allow."""

import re

from evtrace.tracer.importers.causality import (
    Activity,
    PortActivity,
    bounds,
    find_peers,
    read_activity,
)
from evtrace.tracer.importers.clocks import ClockKind, find_clocks
from evtrace.tracer.importers.ftrace import parse_ftrace
from evtrace.tracer.importers.guest import read_guest
from evtrace.tracer.importers.intervals import holds
from evtrace.tracer.importers.occupancy import Occupancy
from evtrace.tracer.importers.snapshots import parse_lsevtchn

PEERS = {(0, 33): (1, 8), (1, 8): (0, 33)}
OFFSET = 1_000_000
"""Host TSC = the guest's + this."""


def connected(remote_dom, remote_port, port):
    text = f"   {port}: VCPU 0: Interdomain (Connected) - Remote Domain {remote_dom}, "
    return f"{text}Port {remote_port}"


def test_peers_come_from_snapshots_and_binds_and_must_be_one():
    snapshot = parse_lsevtchn(
        ["# lsevtchn 0", connected(1, 8, 33), connected(0, 41, 40), connected(2, 5, 44)]
    )
    bind = [
        "  bash-1 [000] ..... 10: b_pre: (f) cmd=0 w0=0x3 w1=0x5 w2=0x0\n",
        "  bash-1 [000] ..... 20: b_post: (f) cmd=0 rc=0 w0=0x3 w1=0x5 w2=0x2c\n",
    ]
    guest = read_guest(parse_ftrace("t", bind), {})

    peers = find_peers([snapshot], {0: guest})

    assert {(0, 33): (1, 8), (1, 8): (0, 33), (0, 40): (0, 41), (0, 41): (0, 40)} == {
        one: other for one, other in peers.items() if 44 not in {one[1], other[1]}
    }
    assert (0, 44) not in peers  # bound twice, to different peers


def text_of(events):
    return [f"  bash-1 [000] d.h1. {tsc}: {event}\n" for tsc, event in events]


def send(tsc, port):
    yield tsc, f"s_pre: (f) cmd=4 w0={port}"
    yield tsc + 40, f"s_post: (f) cmd=4 rc=0 w0={port}"


def run(tsc, port, irq):
    yield tsc, f"handle_irq_for_port: (f) port={port}"
    yield tsc + 1, "evtchn_fifo_clear_pending <-handle_edge_irq"
    yield tsc + 2, f"irq_handler_entry: irq={irq} name=x"
    yield tsc + 3, f"irq_handler_exit: irq={irq} ret=handled"


def test_activity_is_read_port_by_port():
    guest = read_guest(parse_ftrace("t", text_of([*send(100, 33), *run(200, 33, 50)])), {})

    activity = read_activity(guest)

    assert (100, 203) == activity.span
    assert [(100, 140)] == activity.ports[33].sends
    assert [(201, 202)] == activity.ports[33].runs
    assert not activity.ports[33].is_new


def ping_pong(rounds):
    """Give the texts of a host and a guest that answer each other."""
    host, guest = [(1_900_000, "sys_enter: x")], [(1_900_000 - OFFSET, "sys_enter: x")]
    for number in range(rounds):
        start = 2_000_000 + 10_000 * number + 1_700 * number * number
        host += [*send(start, 33), *run(start + 3_000, 33, 50)]
        guest += [
            *run(start + 900 - OFFSET, 8, 7),
            *send(start + 2_000 - OFFSET, 8),
        ]
    return text_of(host), text_of(guest)


def test_every_run_of_a_ping_pong_bounds_the_offset_and_none_excludes_the_truth():
    host, guest = (read_activity(read_guest(parse_ftrace("t", text), {})) for text in ping_pong(5))

    found = bounds(1, guest, 0, host, PEERS)

    assert len(found) == 10
    assert all(holds(bound.caused, OFFSET) for bound in found)
    assert not all(holds(bound.allowed, OFFSET + 10_000) for bound in found)


def test_a_run_while_the_peer_was_not_observed_excludes_nothing():
    own = Activity({8: PortActivity(runs=[(10, 12), (500, 510)])}, (0, 1000))
    host = Activity({33: PortActivity(sends=[(5000, 5010)])}, (5000, 6000))

    found = bounds(1, own, 0, host, PEERS)

    assert all(holds(bound.unobserved, 0) for bound in found)
    assert not any(holds(bound.caused, 0) for bound in found)


def test_the_first_run_of_a_port_bound_in_the_text_is_xens_own():
    own = Activity({8: PortActivity(runs=[(10, 12)], is_new=True)}, (0, 1000))
    host = Activity({33: PortActivity(sends=[(500, 510)])}, (0, 1000))

    assert [] == bounds(1, own, 0, host, PEERS)


SNAPSHOT = parse_lsevtchn(["# lsevtchn 0", connected(1, 8, 33)])
HVM_UPCALL = "xen_evtchn_do_upcall <-__sysvec_xen_hvm_callback"


def clocks_of(*texts):
    guests = {dom: read_guest(parse_ftrace("t", text), {}) for dom, text in enumerate(texts)}
    return find_clocks(guests, Occupancy(), [SNAPSHOT])


def test_without_any_record_of_xen_sends_join_the_clock_of_an_hvm_guest():
    host, guest = ping_pong(6)

    clocks = clocks_of(host, text_of([(890_000, HVM_UPCALL)]) + guest)

    lo, hi = clocks[1].offset
    assert (ClockKind.ASSUMED, ClockKind.OFFSET) == (clocks[0].kind, clocks[1].kind)
    assert lo <= OFFSET <= hi
    assert hi - lo < 3_000


def test_a_pv_guests_clock_is_assumed_to_be_the_hosts_if_nothing_tells():
    host, guest = ping_pong(6)

    assert clocks_of(host, guest)[1].kind is ClockKind.ASSUMED


def test_an_hvm_guests_is_not():
    host, _ = ping_pong(6)

    clock = clocks_of(host, text_of([(890_000, HVM_UPCALL)]))[1]

    assert (ClockKind.APART, False) == (clock.kind, clock.is_host)
    assert "nothing bounds it" in clock.describe(1)


def test_clocks_that_are_one_are_found_to_be():
    host, guest = ping_pong(6)
    on_host_clock = [
        re.sub(r" (\d+): ", lambda tsc: f" {int(tsc[1]) + OFFSET}: ", line, count=1)
        for line in guest
    ]

    clock = clocks_of(host, on_host_clock)[1]

    assert clock.kind is ClockKind.HOST
    assert "12 handlers follow a send" in clock.describe(1)


def test_a_run_that_nothing_explains_is_an_exception_not_a_contradiction():
    host, guest = ping_pong(12)
    spurious = text_of(run(2_000_000 + 6_000 - OFFSET, 8, 7))
    at = next(place for place, line in enumerate(guest) if " 1011700: " in line or " 10126" in line)
    text = text_of([(890_000, HVM_UPCALL)]) + guest[:at] + spurious + guest[at:]

    lo, hi = clocks_of(host, text)[1].offset

    assert lo <= OFFSET <= hi
    assert (lo, hi) != (0, 0)
