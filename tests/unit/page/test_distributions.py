"""Frames behind the figures of a page."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evtrace.analysis.page.distributions import (
    TIME_BINS,
    busiest,
    causes_over_time,
    histogram,
    percentile_curve,
)

TIMES = st.lists(st.integers(min_value=1, max_value=10**12), min_size=1, max_size=300)


def times(*ns, channel="a"):
    return pl.DataFrame({"channel": channel, "stage": "s", "latency_ns": list(ns)})


@given(TIMES)
def test_every_latency_is_in_the_bin_that_holds_it(values):
    bins = histogram(times(*values))
    inside = [
        sum(low <= value * (1 + 1e-12) and value < high * (1 + 1e-12) for value in values)
        for low, high in bins.select("from_ns", "to_ns").iter_rows()
    ]

    assert len(values) == bins["count"].sum()
    assert all(found <= held for found, held in zip(bins["count"], inside, strict=True))


def test_bins_between_others_are_there_and_empty():
    bins = histogram(times(1.1, 9.9))

    assert [1, *[0] * 8, 1] == bins["count"].to_list()
    assert bins["to_ns"][:-1].to_list() == bins["from_ns"][1:].to_list()


def test_what_is_not_above_nought_has_no_bin():
    assert 1 == histogram(times(-5, 0, 3))["count"].sum()


@given(TIMES)
def test_a_percentile_curve_ascends_to_the_maximum(values):
    curve = percentile_curve(times(*values))

    assert max(values) == curve["latency_ns"][-1]
    assert len(values) == curve["one_in"][-1]
    assert curve["latency_ns"].is_sorted()
    assert curve["one_in"].is_sorted()


def test_a_percentile_is_the_latency_that_so_many_do_not_exceed():
    curve = percentile_curve(times(*range(1, 1001)))
    at = dict(curve.select(pl.col("one_in").round(6), "latency_ns").iter_rows())

    assert at[10.0] == pytest.approx(900, abs=1)
    assert at[100.0] == pytest.approx(990, abs=1)


def test_the_busiest_channels_come_first():
    all_times = pl.concat([times(1, channel="a"), times(1, 2, 3, channel="b"), times(1, 2)])

    assert ["a", "b"] == sorted(busiest(all_times, "s", 9))
    assert 1 == len(busiest(all_times, "s", 1))
    assert [] == busiest(all_times, "t", 9)


def test_causes_are_counted_in_equal_stretches():
    runs = pl.DataFrame({"tsc": [1000, 1001, 241_000], "cause": ["SEND", "VIRQ", "SEND"]})
    counted = causes_over_time(runs)

    assert [("SEND", 1), ("VIRQ", 1), ("SEND", 1)] == counted.select("cause", "runs").rows()
    assert 3 == counted["runs"].sum()
    assert 1 == counted["cycles"].n_unique()
    assert counted["cycles"][0] * TIME_BINS > 240_000


def test_of_no_run_there_is_nothing_to_count():
    runs = pl.DataFrame(schema={"tsc": pl.Int64, "cause": pl.String})

    assert 0 == causes_over_time(runs).height
