"""Sketches of durations: how near they come, and that they add up."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from evtrace.analysis.stock.sketch import Sketch, bucket_bounds, bucket_expr, bucket_of

values = st.integers(0, (1 << 62) - 1)


def sketch_of(numbers):
    made = Sketch()
    for at, number in enumerate(numbers):
        made.add(number, at)
    return made


@given(values)
def test_a_bucket_holds_its_values_and_is_narrow(value):
    low, high = bucket_bounds(bucket_of(value))

    assert low <= value <= high
    assert high - low <= value / 64


@given(values)
def test_buckets_follow_each_other(value):
    _, high = bucket_bounds(bucket_of(value))

    assert bucket_of(value) + 1 == bucket_of(high + 1)


@given(st.lists(values, min_size=1))
def test_a_column_has_the_buckets_of_its_values(numbers):
    found = pl.DataFrame({"n": numbers}, {"n": pl.Int64}).select(bucket_expr(pl.col("n")))

    assert [bucket_of(number) for number in numbers] == found.to_series().to_list()


@given(st.lists(values, min_size=1), st.floats(0, 1))
def test_a_quantile_is_told_to_one_part_in_64(numbers, q):
    exact = sorted(numbers)[round(q * (len(numbers) - 1))]
    told = sketch_of(numbers).quantile(q)

    assert told is not None
    assert abs(told - exact) <= exact / 64


@given(st.lists(values), st.lists(values))
def test_two_sketches_add_up(one, other):
    merged = sketch_of(one)
    merged.merge(sketch_of(other))
    whole = sketch_of(one + other)

    assert (whole.buckets, whole.count, whole.max) == (merged.buckets, merged.count, merged.max)


def test_an_empty_sketch_tells_nothing():
    assert (None, None) == (Sketch().quantile(0.5), Sketch().max)


def test_where_the_longest_ended_is_kept():
    assert (9, 1) == (sketch_of([3, 9, 4]).max, sketch_of([3, 9, 4]).max_at)
