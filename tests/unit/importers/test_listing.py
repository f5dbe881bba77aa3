"""Listing: a snapshot taken while the text was recorded already, brought up to date."""

import pytest

from evtrace.snapshot import Channel, Snapshot
from evtrace.timeline import Kind
from evtrace.tracer.importers.clocks import Clock, ClockKind
from evtrace.tracer.importers.ftrace import LISTED_MARK, parse_ftrace
from evtrace.tracer.importers.guest import read_guest
from evtrace.tracer.importers.listing import bring_up_to_date, listed_tsc
from evtrace.xen.abi import DOMID_SELF, EvtchnOp, PortState

MARK_LINE = f"tracing_mark_write: {LISTED_MARK}"
HOST = Clock(ClockKind.HOST)


def guest(*events, start=1000):
    """Read a text of these events, ten cycles apart."""
    lines = [
        f"  bash-7 [000] d.h1. {start + 10 * place}: {event}\n"
        for place, event in enumerate(events)
    ]
    return read_guest(parse_ftrace("t", lines), {})


def called(op, *args, made=None, rc=0):
    """Give the lines of a call; what it makes is its last word."""
    words = [*args, *([] if made is None else [made])]
    text = " ".join(f"w{place}={word:#x}" for place, word in enumerate(words))
    return (
        f"f_pre: (f+0x50/0x90) cmd={op:d} {text}",
        f"f_post: (f+0x5a/0x90) cmd={op:d} rc={rc} {text}",
    )


def alloc(remote, port):
    return called(EvtchnOp.ALLOC_UNBOUND, DOMID_SELF | remote << 16, made=port)


def interdomain(port, peer, peer_port):
    return Channel(port, PortState.INTERDOMAIN, 0, peer, peer_port)


def after(text, *channels, others=()):
    """Give what a list of d0 (and of d1) shows at the mark."""
    snapshot = Snapshot({0: {channel.port: channel for channel in channels}})
    if others:
        snapshot.domains[1] = {channel.port: channel for channel in others}
    bring_up_to_date(snapshot, {0: guest(*text, MARK_LINE)}, {0: HOST})
    return {dom: [*listed.values()] for dom, listed in snapshot.domains.items()}


def test_the_trace_begins_at_the_mark():
    text = guest(*called(EvtchnOp.SEND, 5), MARK_LINE, *called(EvtchnOp.SEND, 6))

    assert [(6,)] == [call.arguments() for call in text.calls.calls]
    assert [Kind.CALL_ENTER, Kind.CALL_EXIT] == [event.kind for event in text.events]
    assert 1030 == text.text.lines[0].tsc
    assert 1020 == listed_tsc({0: text}, {0: HOST})


def test_a_call_that_ends_behind_the_mark_belongs_before_it():
    entry, ending = called(EvtchnOp.SEND, 5)
    text = guest(entry, MARK_LINE, ending)

    assert ([], []) == (text.events, text.calls.calls)
    assert 2 == len(text.listing)


def test_a_text_without_a_mark_is_left_as_it_is():
    text = guest(*called(EvtchnOp.SEND, 5))

    assert (2, []) == (len(text.events), text.listing)
    assert listed_tsc({0: text}, {0: HOST}) is None


@pytest.mark.parametrize("listed", [[], [Channel(9, PortState.IPI, 1)]], ids=["closed", "another"])
def test_a_port_made_meanwhile_is_there(listed):
    assert {0: [Channel(9, PortState.UNBOUND, 0, 3)]} == after(alloc(3, 9), *listed)


def test_a_call_that_failed_changes_nothing():
    assert {0: []} == after(called(EvtchnOp.BIND_IPI, 0, made=9, rc=-22))


@pytest.mark.parametrize(
    ("call", "channel"),
    [
        (called(EvtchnOp.BIND_VIRQ, 1, 2, made=9), Channel(9, PortState.VIRQ, 2, 1)),
        (called(EvtchnOp.BIND_IPI, 2, made=9), Channel(9, PortState.IPI, 2)),
        (called(EvtchnOp.BIND_PIRQ, 4, 0, made=9), Channel(9, PortState.PIRQ, 0, 4)),
    ],
    ids=["virq", "ipi", "pirq"],
)
def test_what_a_call_binds(call, channel):
    assert {0: [channel]} == after(call)


def test_binding_to_a_waiting_port_connects_both():
    bind = called(EvtchnOp.BIND_INTERDOMAIN, 1, 4, made=9)
    waiting = Channel(4, PortState.UNBOUND, 2, 0)

    found = after(bind, others=[waiting])

    assert [interdomain(9, 1, 4)] == found[0]
    assert [Channel(4, PortState.INTERDOMAIN, 2, 0, 9)] == found[1]


def test_closing_lets_the_other_end_wait_again():
    found = after(called(EvtchnOp.CLOSE, 9), interdomain(9, 1, 4), others=[interdomain(4, 0, 9)])

    assert {0: [], 1: [Channel(4, PortState.UNBOUND, 0, 0)]} == found


def test_closing_leaves_a_port_that_is_bound_to_another_by_now():
    other = interdomain(4, 2, 7)

    assert [other] == after(called(EvtchnOp.CLOSE, 9), interdomain(9, 1, 4), others=[other])[1]


def test_the_last_call_on_a_port_decides():
    text = (*alloc(3, 9), *called(EvtchnOp.CLOSE, 9), *called(EvtchnOp.BIND_IPI, 1, made=9))

    assert {0: [Channel(9, PortState.IPI, 1)]} == after(text)


def test_a_port_moves_to_the_vcpu_it_was_given():
    moved = after(called(EvtchnOp.BIND_VCPU, 9, 3), interdomain(9, 1, 4))

    assert {0: [Channel(9, PortState.INTERDOMAIN, 3, 1, 4)]} == moved


def test_reset_closes_all():
    assert {0: []} == after(called(EvtchnOp.RESET, DOMID_SELF), interdomain(9, 1, 4))


def test_bits_of_a_port_that_was_touched_are_not_known():
    nine, ten = (
        Channel(port, PortState.INTERDOMAIN, 0, 1, port, pending=True, masked=True)
        for port in (9, 10)
    )
    touched = ("evtchn_fifo_unmask: (evtchn_fifo_unmask+0x0/0x90) port=9",)

    nine_now, ten_now = after(touched, nine, ten)[0]

    assert (None, None) == (nine_now.pending, nine_now.masked)
    assert ten == ten_now


def test_a_send_leaves_unknown_what_the_other_end_has_pending():
    other = Channel(4, PortState.INTERDOMAIN, 0, 0, 9, pending=False, masked=False)

    found = after(called(EvtchnOp.SEND, 9), interdomain(9, 1, 4), others=[other])

    assert found[1][0].pending is None


def test_calls_of_a_domain_whose_text_has_no_mark_count_by_the_host_s_time():
    domu = guest(*alloc(0, 7), *alloc(0, 8), *alloc(0, 9), start=300)
    dom0 = guest("x: a=1", MARK_LINE, start=1017)
    snapshot = Snapshot({0: {}, 1: {}})

    clocks = {0: HOST, 1: Clock(ClockKind.OFFSET, (695, 695))}
    bring_up_to_date(snapshot, {0: dom0, 1: domu}, clocks)

    assert {0: {}, 1: {8: Channel(8, PortState.UNBOUND, 0, 0)}} == snapshot.domains
