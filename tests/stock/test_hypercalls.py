"""Hypercalls in tiny traces: counted, and timed where their end is known."""

import polars as pl
import pytest

from evtrace.analysis.stock.hypercalls import CallKey, Hypercalls, Timing
from evtrace.tracefile.reader import open_trace
from evtrace.tracefile.records import encode
from evtrace.tracefile.rows import annotated
from tests.stock.found import vcpu
from tests.tinytrace import (
    BLOCKED,
    RUNNABLE,
    RUNNING,
    SUBCALL,
    VMENTRY,
    VMEXIT,
    VMMCALL,
    hypercall,
    lost,
    runstate,
    tiny_trace,
    window,
)

D0V0 = vcpu(0, 0)
SEND, IRET, MULTICALL, BLOCK_OP = 32, 23, 13, 29
TRAP, FIXUP = 0x201103, 0x201109


@pytest.fixture
def measure(tmp_path):
    """Give {(op, timing): (count, descheduled, longest)} of what d0v0 does from 10 on."""

    def of(*records, batch=1 << 17):
        path = tmp_path / "tiny.bin"
        path.write_bytes(
            tiny_trace(window(0, runstate(0, 0, RUNNABLE, RUNNING, 10), *records)),
        )
        calls = Hypercalls()
        with open_trace(path) as reader:
            for frame in pl.concat(annotated(reader)).iter_slices(batch):
                calls.take(frame)
        assert {D0V0} == {key.vcpu for key in calls.counts}
        return {
            (key.op, key.timing): (count, calls.descheduled[key], _longest(calls, key))
            for key, count in calls.counts.items()
        }

    return of


def _longest(calls: Hypercalls, key: CallKey):
    return calls.sketches[key].max if key in calls.sketches else None


def test_a_pv_call_ends_by_the_next_record_of_its_guest(measure):
    assert {(SEND, Timing.BOUND): (2, 0, 70), (IRET, Timing.BOUND): (1, 0, None)} == measure(
        hypercall(SEND, 100),
        hypercall(SEND, 150),
        encode(TRAP, [0, 0, 0], 220),
        hypercall(IRET, 300),
    )


def test_a_fixup_may_be_xens_own_and_ends_nothing(measure):
    found = measure(
        hypercall(SEND, 100), encode(FIXUP, [0, 0, 0, 0], 120), encode(TRAP, [0, 0, 0], 150)
    )

    assert {(SEND, Timing.BOUND): (1, 0, 50)} == found


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_an_hvm_call_lasts_from_exit_to_entry(measure, batch):
    found = measure(
        encode(VMEXIT, [0x81, 0, 0], 100),
        encode(VMMCALL, [SEND], None),
        encode(VMENTRY, [], 140),
        encode(VMEXIT, [0x12, 0, 0], 200),
        encode(VMENTRY, [], 900),
        batch=batch,
    )

    assert {(SEND, Timing.EXACT): (1, 0, 40)} == found


def test_an_hvm_call_whose_exit_is_missing_is_not_timed(measure):
    found = measure(encode(VMMCALL, [SEND], 100), encode(VMENTRY, [], 140))

    assert {(SEND, Timing.EXACT): (1, 0, None)} == found


def test_a_call_in_which_the_vcpu_stops_is_counted_not_timed(measure):
    found = measure(
        hypercall(BLOCK_OP, 100),
        runstate(0, 0, RUNNING, BLOCKED, 150),
        runstate(0, 0, RUNNABLE, RUNNING, 500),
        hypercall(IRET, 600),
    )

    assert (1, 1, None) == found[BLOCK_OP, Timing.BOUND]


def test_a_call_is_not_timed_across_a_gap(measure):
    found = measure(hypercall(SEND, 100), lost(3, 0, 0, 110, 200), hypercall(SEND, 300))

    assert {(SEND, Timing.BOUND): (2, 0, None)} == found


def test_a_multicall_is_not_ended_by_its_entries(measure):
    found = measure(
        hypercall(MULTICALL, 100),
        encode(SUBCALL, [SEND], 110),
        encode(SUBCALL, [SEND], 120),
        hypercall(IRET, 180),
    )

    assert (1, 0, 80) == found[MULTICALL, Timing.BOUND]
    assert (2, 0, None) == found[SEND, Timing.IN_MULTICALL]


def test_a_call_without_its_word_is_no_call(measure):
    assert {(SEND, Timing.BOUND): (1, 0, None)} == measure(
        hypercall(SEND, 100), encode(0x20100D, [], 150)
    )
