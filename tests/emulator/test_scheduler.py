"""The scheduler, as its records show it."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from evtrace.timeline import Kind, Row, Runstate
from evtrace.tracer.emulator.lab import Lab, Settings
from evtrace.tracer.emulator.linux import Linux
from evtrace.tracer.emulator.scenarios.pingpong import pingpong
from evtrace.tracer.emulator.scheduler import IDLE_DOMAIN, SLICE_MS
from evtrace.tracer.emulator.steps import Task

MS = 1_000_000


def work(linux: Linux, milliseconds: int, pieces: int = 1) -> Task:
    for _ in range(pieces):
        yield milliseconds * MS // pieces
    yield linux.log("done")


def changes(rows: list[Row]) -> Iterator[tuple[int, int, int, Runstate, Runstate, int]]:
    """Give (pcpu, dom, vcpu, old, new, tsc) of each change of runstate."""
    for row in rows:
        if row.kind == Kind.RUNSTATE:
            assert row.op is not None
            assert row.pcpu is not None
            assert row.dom is not None
            assert row.vcpu is not None
            old, new = Runstate(row.op >> 4), Runstate(row.op & 0xF)
            yield row.pcpu, row.dom, row.vcpu, old, new, row.tsc_lo


@pytest.mark.parametrize("seed", range(6))
def test_every_vcpus_states_follow_each_other_and_one_vcpu_runs_on_a_pcpu(rows_of, seed):
    settings = Settings(seed=seed, chaos=True, pcpus=1 + seed % 3)
    rows = rows_of(lambda lab: pingpong(lab, rounds=30), settings)
    state: dict[tuple[int, int], Runstate] = {}
    running: dict[int, tuple[int, int]] = {}
    seen = 0
    for pcpu, dom, vcpu, old, new, _ in changes(rows):
        assert state.get((dom, vcpu), old) is old
        state[dom, vcpu] = new
        if new is Runstate.RUNNING:
            assert pcpu not in running
            running[pcpu] = (dom, vcpu)
        elif old is Runstate.RUNNING and pcpu in running:
            assert running.pop(pcpu) == (dom, vcpu)
        seen += 1
    assert seen > 100


def test_guest_records_lie_where_their_vcpu_runs(rows_of):
    settings = Settings(seed=3, chaos=True, pcpus=2)
    rows = rows_of(lambda lab: pingpong(lab, rounds=50), settings)
    where: dict[tuple[int, int], int] = {}
    checked = 0
    for row in rows:
        if row.kind == Kind.RUNSTATE and row.op & 0xF == Runstate.RUNNING:
            where[row.dom, row.vcpu] = row.pcpu
        elif row.kind in {Kind.CALL_ENTER, Kind.HANDLER_ENTER, Kind.CLEAR} and row.pcpu is not None:
            assert where[row.dom, row.vcpu] == row.pcpu
            checked += 1
    assert checked > 100


def test_two_busy_vcpus_share_a_pcpu_by_time_slices(rows_of):
    def scenario(lab: Lab) -> None:
        for name in ("first", "second"):
            linux = lab.domain(name)
            lab.start(linux, work(linux, 200))

    rows = rows_of(scenario, Settings(pcpus=1))
    runs = [(dom, tsc) for _, dom, _, _, new, tsc in changes(rows) if new is Runstate.RUNNING]
    turns = [dom for dom, _ in runs if dom != IDLE_DOMAIN]
    spans_ms = [(after - before) / 2_100_000 for (_, before), (_, after) in pairwise(runs)]

    assert turns[:6] == [1, 2, 1, 2, 1, 2]
    assert all(abs(span - SLICE_MS) < 1 for span in spans_ms[1:5])


def test_a_vcpu_that_wakes_goes_before_one_that_only_computes(rows_of):
    def sleeper(linux: Linux) -> Task:
        yield linux.sleep(0.015)
        yield linux.log("awake")

    def scenario(lab: Lab) -> None:
        busy, light = lab.domain("busy"), lab.domain("light")
        lab.start(light, sleeper(light))
        lab.start(busy, work(busy, 100, 50))

    rows = rows_of(scenario, Settings(pcpus=1))
    lines = [row for row in rows if row.kind == Kind.TEXT and not row.words[0] & 0xFF]
    logs = {row.dom: row.tsc_lo / 2_100_000 for row in lines}

    assert logs[2] < 18, "awake at 15 ms and served before the end of the other's slice"
    assert logs[1] > 100


def test_a_vcpu_stays_where_it_may_run(rows_of):
    def scenario(lab: Lab) -> None:
        linux = lab.domain("pinned", vcpus=2, pinned=(2,))
        for vcpu in range(2):
            lab.start(linux, work(linux, 50), vcpu)

    rows = rows_of(scenario, Settings(pcpus=4, seed=1, chaos=True))
    pcpus = {pcpu for pcpu, dom, *_ in changes(rows) if dom == 1}

    assert pcpus == {2}
