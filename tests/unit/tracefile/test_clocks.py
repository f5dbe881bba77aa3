"""Calibration: cycles per nanosecond from the chain of switches."""

from itertools import pairwise

import polars as pl
import pytest

from evtrace.tracefile.clocks import calibrate
from evtrace.tracefile.records import encode
from tests.tinytrace import INFPREV, lost, opened, tiny_trace, window

HZ = 2_400_000_000


def switches(times_ns, hz=HZ, late_cycles=(0,)):
    """Give the records of switches at `times_ns`, each written somewhat later than its time."""
    for number, (before, now) in enumerate(pairwise(times_ns)):
        late = late_cycles[number % len(late_cycles)]
        ran_ns = now - before & 0xFFFFFFFF
        yield encode(INFPREV, [0, 0, ran_ns], now * hz // 1_000_000_000 + late)


@pytest.fixture
def hz_of(tmp_path):
    def read(*windows):
        with opened(tmp_path / "tiny.bin", tiny_trace(*windows)) as reader:
            return reader.facts.tsc_hz

    return read


def regular(count, step_ns=10_000_000):
    return [10**9 + step_ns * number for number in range(count)]


def test_a_chain_of_switches_gives_the_frequency(hz_of):
    assert hz_of(window(0, *switches(regular(10)))) == HZ


def test_what_single_records_err_by_does_not_add_up(hz_of):
    late = (0, 90_000, 4_000, 250_000, 11_000, 0)
    calibrated = hz_of(window(0, *switches(regular(200), late_cycles=late)))
    assert calibrated == pytest.approx(HZ, rel=1e-4)


def test_intervals_over_4_29_s_are_left_out(hz_of):
    times = [*regular(10), 10**9 + 8 * 10**9, 10**9 + 8 * 10**9 + 10_000_000]
    assert hz_of(window(0, *switches(times))) == HZ


def test_a_gap_ends_a_chain(hz_of):
    before = list(switches(regular(8)))
    after = list(switches([time + 10**9 for time in regular(8)]))
    gap = lost(5, 0, 0, 10**9 * 12 // 5 + 10**9, 10**9 * 24 // 5)
    assert hz_of(window(0, *before, gap, *after)) == HZ


def test_the_first_pcpu_decides(hz_of):
    steered = window(1, *switches(regular(50), hz=HZ + 3_000_000))
    assert hz_of(steered, window(0, *switches(regular(10)))) == HZ


def test_chains_go_on_across_windows(hz_of):
    parts = [window(0, record) for record in switches(regular(10))]
    assert hz_of(*parts) == HZ


def test_too_little_to_calibrate_with_gives_none(hz_of):
    assert hz_of(window(0, *switches(regular(5)))) is None
    empty = {"pcpu": pl.Int32, "ns": pl.Int64, "cycles": pl.Int64}
    assert calibrate(pl.DataFrame(schema=empty)) is None
