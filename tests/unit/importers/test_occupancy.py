"""Occupancy: when vCPUs ran, read off the scheduler's and the VM records of tiny traces."""

import pytest

from evtrace.tracefile.records import encode
from evtrace.tracer.importers.intervals import FOREVER
from evtrace.tracer.importers.occupancy import read_occupancy
from tests.tinytrace import (
    BLOCKED,
    RUNNABLE,
    RUNNING,
    VMENTRY,
    VMEXIT,
    VMMCALL,
    hypercall,
    lost,
    opened,
    runstate,
    tiny_trace,
    window,
)

IDLE = 32767


@pytest.fixture
def occupancy(tmp_path):
    def read(*windows):
        with opened(tmp_path / "t.bin", tiny_trace(*windows)) as reader:
            return read_occupancy(reader)

    return read


def switch(dom, vcpu, tsc, *, was=(IDLE, 0)):
    old_dom, old_vcpu = was
    stop = runstate(old_dom, old_vcpu, RUNNING, RUNNABLE, tsc)
    return stop, runstate(dom, vcpu, RUNNABLE, RUNNING, tsc)


def test_a_vcpu_runs_until_another_one_starts_on_its_pcpu(occupancy):
    found = occupancy(
        window(0, *switch(1, 0, 100), *switch(IDLE, 0, 200, was=(1, 0)), hypercall(1, 300)),
        window(1, *switch(1, 0, 210), hypercall(1, 250)),
    )

    spans = found.running[1, 0]
    assert [(100, 200), (210, 300)] == spans.intervals()
    assert [0, 1] == spans.places
    assert [None, 0, None, 1, None] == [spans.at(tsc) for tsc in (99, 150, 205, 220, 301)]
    assert (100, 300) == (found.first_tsc, found.last_tsc)
    assert all(dom != IDLE for dom, _ in found.running)


def test_who_stops_first_ran_since_the_records_begin(occupancy):
    found = occupancy(
        window(0, hypercall(1, 50), runstate(2, 3, RUNNING, BLOCKED, 90), *switch(1, 0, 95)),
    )

    assert [(50, 90)] == found.running[2, 3].intervals()[:1]


def test_nothing_is_known_in_a_gap_and_the_lost_record_says_who_runs_behind_it(occupancy):
    found = occupancy(
        window(0, *switch(1, 0, 100), lost(5, 1, 0, 150, tsc=300), hypercall(1, 400)),
    )

    assert [(100, 150), (300, 400)] == found.running[1, 0].intervals()
    assert [(150, 300)] == found.gaps
    possible = found.possible(found.running[1, 0])
    assert [(-FOREVER, FOREVER)] == possible


def test_an_hvm_guest_runs_between_entry_and_exit(occupancy):
    found = occupancy(
        window(
            0,
            *switch(1, 0, 100),
            encode(VMENTRY, [], 110),
            encode(VMEXIT, [0x81, 2, 3], 120),
            encode(VMMCALL, [32]),
            encode(VMENTRY, [], 130),
            encode(VMEXIT, [0x78, 2, 3], 140),
            encode(VMENTRY, [], 150),
        ),
    )

    assert [(110, 120), (130, 140)] == found.in_guest[1, 0].intervals()
    assert [(120, 130)] == found.calls[1, 0].intervals()
    assert ({1}, set()) == (found.hvm, found.pv)
    assert [(110, 120), (130, 140)] == found.vcpus_of(1)[0].intervals()


def test_an_exit_and_an_entry_of_different_vcpus_are_no_pair(occupancy):
    found = occupancy(
        window(
            0,
            *switch(1, 0, 100),
            encode(VMENTRY, [], 110),
            *switch(2, 0, 115, was=(1, 0)),
            encode(VMEXIT, [0x81, 2, 3], 120),
        ),
    )

    assert {} == found.in_guest


def test_a_pv_hypercall_is_a_moment_of_its_vcpu(occupancy):
    found = occupancy(window(0, *switch(1, 0, 100), hypercall(0x20, 130), hypercall(0x17, 140)))

    assert [(130, 130)] == found.calls[1, 0].intervals()
    assert {1} == found.pv


def test_without_scheduler_records_nobody_is_known_to_run(occupancy):
    found = occupancy(window(0, hypercall(0x20, 130), encode(VMENTRY, [], 140)))

    assert ({}, {}, {}) == (found.running, found.in_guest, found.calls)
    assert (130, 140) == (found.first_tsc, found.last_tsc)
