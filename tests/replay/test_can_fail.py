"""A replay that cannot fail proves nothing: each change of an observed answer must be noticed."""

import pytest

from evtrace.replay.calls import Call, CallPairing
from evtrace.replay.follow import Follow
from evtrace.timeline import Kind
from evtrace.verdicts import Cause
from evtrace.xen.abi import EvtchnOp
from tests.conftest import FTRACE_CAPTURES

AFTER = 60
"""Rows behind a changed exit that are replayed, too: time for the change to be noticed."""


def replay(trace, rows, xen="4.17"):
    return Follow(trace.belief(xen), trace.coverage).follow(rows)


def calls_of(rows):
    return [item for item in CallPairing(rows) if isinstance(item, Call) and item.exit]


def changed_exits(row):
    """Give the exit with another result, and with each of its outputs changed."""
    yield row._replace(rc=-22 if row.rc == 0 else 0)
    if row.rc == 0 and row.a0 is not None:
        yield row._replace(a0=row.a0 + 1)


@pytest.mark.parametrize("name", FTRACE_CAPTURES)
def test_every_changed_answer_is_a_divergence_there(name, replayed_rows):
    trace, rows = replayed_rows(name)
    place = {row.seq: number for number, row in enumerate(rows)}
    missed = []
    for call in calls_of(rows):
        at = place[call.exit.seq]
        for changed in changed_exits(call.exit):
            results = replay(trace, [*rows[:at], changed, *rows[at + 1 : at + AFTER]])
            if call.enter.seq not in {found.seq for found in results.divergences}:
                missed.append((call.enter.seq, EvtchnOp(call.op).name, changed.rc, changed.a0))

    assert missed == []


def bind_of(rows):
    return next(call for call in calls_of(rows) if call.op == EvtchnOp.BIND_INTERDOMAIN)


def first_run(results, call):
    port = call.outputs[0]
    return next(run for run in results.runs if (run.dom, run.port) == (call.dom, port))


@pytest.mark.parametrize("name", FTRACE_CAPTURES)
def test_without_the_bind_nobody_blames_it(name, replayed_rows):
    trace, rows = replayed_rows(name)
    bind = bind_of(rows)
    left = [row for row in rows if row.seq not in {bind.enter.seq, bind.exit.seq}]

    results = replay(trace, left)

    assert first_run(replay(trace, rows), bind).cause is Cause.BIND_CONSERVATIVE
    assert Cause.BIND_CONSERVATIVE not in {run.cause for run in results.runs}


@pytest.mark.parametrize("name", FTRACE_CAPTURES)
def test_a_send_of_the_peer_before_the_first_run_is_merged(name, replayed_rows):
    trace, rows = replayed_rows(name)
    bind = bind_of(rows)
    peer_dom = bind.dom if bind.args[0] in {bind.dom, 0x7FF0} else bind.args[0]
    at = next(i for i, row in enumerate(rows) if row.seq == bind.exit.seq) + 1
    send = bind.enter._replace(
        kind=Kind.CALL_ENTER,
        dom=peer_dom,
        vcpu=0,
        op=EvtchnOp.SEND,
        call_id=0xABCDEF,
        a0=bind.args[1],
        a1=None,
        seq=10**9,
        tsc_lo=rows[at].tsc_lo,
        tsc_hi=rows[at].tsc_lo,
    )
    answer = send._replace(kind=Kind.CALL_EXIT, rc=0, a0=None, seq=10**9 + 1)

    results = replay(trace, [*rows[:at], send, answer, *rows[at:]])

    run = first_run(results, bind)
    assert run.cause is Cause.BIND_MERGED
    assert {"BIND", "SEND"} == {part.kind for part in run.contributors}


@pytest.mark.parametrize("name", FTRACE_CAPTURES)
def test_qemus_emulation_predicts_no_first_run(name, replayed_rows):
    trace, rows = replayed_rows(name)
    bind = bind_of(rows)

    results = replay(trace, rows, xen="qemu")

    run = first_run(results, bind)
    assert run.cause is Cause.UNPROVOKED
    assert run.seq in {found.seq for found in results.divergences}
