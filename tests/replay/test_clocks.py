"""Clocks: what nothing explains is the machine's doing, unless the TSCs can be so far apart."""

from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evtrace.replay.belief import Belief
from evtrace.replay.clocks import Clocks
from evtrace.replay.offsets import DRIFT_SHARE, Offsets
from evtrace.replay.suspicions import Suspicions
from evtrace.timeline import Kind, RecordClass, Runstate
from evtrace.tracefile.coverage import CoverageMap
from evtrace.verdicts import Cause, FindingCode
from evtrace.xen.abi import EvtchnOp, PortState
from evtrace.xen.profiles import find_profile
from tests.timeline_builder import Script

RUNNING, RUNNABLE, BLOCKED = Runstate.RUNNING, Runstate.RUNNABLE, Runstate.BLOCKED
LATER = 1_000_000


class Host(Script):
    """d0 on pCPU 0 and d1 on pCPU 1; d1 has two ports of d0's."""

    def __init__(self):
        super().__init__()
        self.pcpus = {(0, 0): 0, (1, 0): 1}
        both = ((1, PortState.INTERDOMAIN, 0, 1, 1), (2, PortState.INTERDOMAIN, 0, 1, 2))
        self.snapshot(1, 0, *both)
        self.snapshot(1, 1, *((port, state, 0, 0, peer) for port, state, _, _, peer in both))
        self.change(2, BLOCKED, RUNNING, pcpu=1)

    def change(self, tsc, old, new, pcpu, dom=1):
        """Add a change of runstate."""
        self.add(tsc, Kind.RUNSTATE, dom, op=old << 4 | new, pcpu=pcpu)

    def sleeps(self, tsc, for_cycles, until_run=2_000):
        """Let d1 sleep on its pCPU, and be woken from pCPU 0."""
        self.change(tsc, RUNNING, BLOCKED, pcpu=1)
        self.change(tsc + for_cycles, BLOCKED, RUNNABLE, pcpu=0)
        self.change(tsc + for_cycles + until_run, RUNNABLE, RUNNING, pcpu=1)

    def blames_clocks(self):
        found = self.replay(raises=True)
        return FindingCode.CLOCKS_DISAGREE in {one.code for one in found.findings}


def host_with_early_run(at=LATER, before=10_000, port=1):
    """Give a host on which a run of d1:1 comes so long before the send that it would answer."""
    script = Host()
    script.run(at, 1, dom=1)
    script.send(at + before, at + before + 100, port)
    return script


def test_a_run_shortly_before_its_send_shows_that_clocks_disagree():
    script = host_with_early_run()

    assert script.blames_clocks()
    assert {Cause.UNKNOWN} == {run.cause for run in script.replay(raises=True).runs}


def test_a_send_to_another_port_explains_nothing():
    script = host_with_early_run(port=2)

    assert not script.blames_clocks()
    assert [Cause.UNPROVOKED] == [run.cause for run in script.replay(raises=True).runs]


@pytest.mark.parametrize(("slept", "clocks"), [(9_000, False), (11_000, True)])
def test_a_sleep_that_ends_on_the_other_pcpu_limits_what_clocks_can_explain(slept, clocks):
    script = host_with_early_run(before=10_000)
    script.sleeps(LATER + 20_000, slept)

    assert clocks == script.blames_clocks()


@pytest.mark.parametrize(("slept", "clocks"), [(8_000, False), (11_000, True)])
def test_clocks_that_were_closer_before_must_show_more_than_once(slept, clocks):
    script = host_with_early_run(before=10_000)
    script.sleeps(LATER - 20_000, slept)

    assert clocks == script.blames_clocks()

    script.run(2 * LATER, 1, dom=1)
    script.run(2 * LATER + 10, 1, dom=1)
    script.send(2 * LATER + 10_000, 2 * LATER + 10_100, 1)

    assert script.blames_clocks()


@pytest.mark.parametrize(("twice", "clocks"), [(False, False), (True, True)])
def test_clocks_that_are_far_apart_must_show_more_than_once(twice, clocks):
    script = host_with_early_run(before=900_000)
    script.sleeps(LATER + 950_000, 910_000)
    if twice:
        script.run(4 * LATER, 2, dom=1)
        script.send(4 * LATER + 850_000, 4 * LATER + 850_100, 2)
        script.sleeps(5 * LATER, 910_000)

    assert clocks == script.blames_clocks()


def test_a_send_that_came_while_the_guest_cleared_the_bit_counts_from_there():
    script = Host()
    script.add(LATER, Kind.UPCALL_ENTER, 1)
    script.add(LATER + 1, Kind.CLEAR, 1, port=1)
    script.send(LATER + 100, LATER + 200, 1)
    script.add(LATER + 40_000, Kind.HANDLER_ENTER, 1, port=1, irq=101)

    assert script.blames_clocks()


@pytest.mark.parametrize(("twice", "clocks"), [(False, False), (True, True)])
def test_sends_that_just_missed_a_close_show_in_the_next_port_s_number(twice, clocks):
    """Each is taken to be dropped, and Xen gives the port's number to nobody."""
    script = Host()

    def close_and_open(at, port, instead):
        script.call(at, at + 100, EvtchnOp.CLOSE, port)
        script.send(at + 5_000, at + 5_100, port, dom=1)
        script.call(at + 90_000, at + 90_100, EvtchnOp.ALLOC_UNBOUND, 0, 1, out=(instead,))

    close_and_open(LATER, 1, instead=3)
    if twice:
        script.call(2 * LATER, 2 * LATER + 100, EvtchnOp.ALLOC_UNBOUND, 0, 1, out=(1,))
        close_and_open(3 * LATER, 2, instead=4)

    assert clocks == script.blames_clocks()
    assert clocks == (script.replay(raises=True).divergences == [])


@pytest.mark.parametrize(("twice", "clocks"), [(False, False), (True, True)])
def test_runs_of_the_former_owner_may_seem_to_come_after_the_bind(twice, clocks):
    """Two runs on one bind: the first answered a send that came before the close."""
    script = Host()
    script.pcpus[0, 1] = 1

    def bind_anew(at, port):
        script.send(at, at + 100, port, dom=1)
        script.call(at + 500, at + 600, EvtchnOp.CLOSE, port)
        script.call(at + 700, at + 800, EvtchnOp.BIND_INTERDOMAIN, 1, port, out=(port,))
        script.run(at + 3_000, port, vcpu=1)
        script.run(at + 9_000, port, vcpu=1)

    bind_anew(LATER, 1)
    if twice:
        bind_anew(2 * LATER, 2)

    assert clocks == script.blames_clocks()


@pytest.mark.parametrize(("elsewhere", "clocks"), [(True, True), (False, False)])
def test_two_wake_ups_in_a_row_show_that_a_change_elsewhere_is_out_of_place(elsewhere, clocks):
    script = Host()
    script.sleeps(LATER, 10_000)
    if not elsewhere:
        script.rows = [row._replace(pcpu=0) for row in script.rows]
    script.change(2 * LATER, RUNNING, BLOCKED, pcpu=int(elsewhere))
    script.change(2 * LATER + 10_000, BLOCKED, RUNNABLE, pcpu=0)
    script.change(2 * LATER + 20_000, BLOCKED, RUNNABLE, pcpu=0)

    assert clocks == script.blames_clocks()


def test_without_the_scheduler_s_records_nothing_is_said_of_clocks():
    script = host_with_early_run()
    script.rows = [row for row in script.rows if row.kind != Kind.RUNSTATE]

    assert not script.blames_clocks()


def test_on_one_pcpu_the_order_is_certain():
    script = host_with_early_run()
    script.rows = [row._replace(pcpu=0) for row in script.rows]

    assert not script.blames_clocks()


class Until:
    """Coverage of all domains that ends at a time."""

    loss = ""

    def __init__(self, lo, hi):
        self._extent = lo, hi

    def extent(self, dom, cls):
        del dom, cls
        return self._extent


@pytest.mark.parametrize(("tsc", "broken"), [(9, True), (10, False), (20, False), (21, True)])
def test_a_record_outside_of_its_capture_shows_that_clocks_disagree(tsc, broken):
    suspicions = Suspicions(Belief(find_profile("HEAD")))
    clocks = Clocks(cast("CoverageMap", Until(10, 20)), suspicions)
    script = Script()
    clocks.scheduled(script.add(10, Kind.RUNSTATE, 1, op=RUNNING << 4 | BLOCKED))
    clocks.happens(script.add(tsc, Kind.CALL_ENTER, op=EvtchnOp.SEND, a0=1), RecordClass.CALL)

    assert broken == (clocks.broken is not None)


@given(
    ahead=st.lists(st.integers(-50_000, 50_000), min_size=3, max_size=3),
    parts_in_1000=st.integers(-4, 4),
    steps=st.lists(st.tuples(st.integers(1, 100_000), st.integers(0, 2)), min_size=1, max_size=40),
)
def test_no_true_offset_is_ever_ruled_out(ahead, parts_in_1000, steps):
    """Causes and effects in their true order, on pCPUs of which one drifts."""

    def offset(pcpu, true):
        return ahead[pcpu] + (true * parts_in_1000 // 1_000 if pcpu == 1 else 0)

    true, rows, script = 1_000_000, [], Script()
    for cycles, pcpu in steps:
        true += cycles
        rows.append((true, script.add(true + offset(pcpu, true), Kind.RUNSTATE, pcpu=pcpu)))
    offsets = Offsets()
    for (_, cause), (_, effect) in pairwise(rows):
        offsets.take(cause, effect)
    limits = offsets.at(rows[-1][1].tsc_lo)

    assert DRIFT_SHARE < 1_000 // 4
    for one in range(3):
        for other in range(3):
            most = limits.most(one, other)
            assert most is None or most >= offset(one, true) - offset(other, true) - 2 * len(rows)
