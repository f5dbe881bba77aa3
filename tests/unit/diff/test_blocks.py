"""Moving blocks: what is computed is what drawing gives, and intervals hold what they say."""

from math import exp, sqrt
from random import Random as Generator

import pytest

from evtrace.analysis.diff.blocks import LONGEST, Sureness, block_length, spread_of
from evtrace.analysis.diff.intervals import (
    Interval,
    difference,
    mean_interval,
    nearest,
    quantile_interval,
    ratio,
    share_interval,
)


def seeded(seed):
    return Generator(seed)  # noqa: S311  the same draws each time


def series(count, random, memory=0.0):
    """Give values around 1, each of which remembers a share of the one before."""
    value = random.gauss(0, 1)
    found: list[float] = []
    for _ in range(count):
        value = memory * value + sqrt(1 - memory**2) * random.gauss(0, 1)
        found.append(exp(0.25 * value))
    return found


def bursts(count, random):
    """Give runs of twenty 1s now and then."""
    found: list[float] = []
    while len(found) < count:
        found += [float(random.random() < 0.2)] * 20
    return found[:count]


def drawn_error(values, length, random, resamples=1000):
    """Draw a moving-block bootstrap, as one would, and give the error of the mean."""
    starts = range(len(values) - length + 1)
    means = []
    for _ in range(resamples):
        blocks = [random.choice(starts) for _ in range(round(len(values) / length))]
        drawn = [value for start in blocks for value in values[start : start + length]]
        means.append(sum(drawn) / len(drawn))
    middle = sum(means) / len(means)
    return sqrt(sum((mean - middle) ** 2 for mean in means) / len(means))


@pytest.mark.parametrize("memory", [0.5, 0.8])
def test_the_computed_error_is_that_of_a_drawn_bootstrap(memory):
    random = seeded(1)
    values = series(400, random, memory)
    length = block_length(values)

    assert length > 1
    assert spread_of(values).error == pytest.approx(drawn_error(values, length, random), rel=0.15)


def test_independent_values_need_no_blocks():
    random = seeded(2)
    lengths = [block_length(series(200, random)) for _ in range(40)]

    assert lengths.count(1) >= 34


def test_bursts_make_blocks_as_long_as_they_are():
    spread = spread_of(bursts(2000, seeded(3)))

    assert 10 < spread.effect < 40
    assert spread.effective == pytest.approx(2000 / spread.effect)


def test_equal_values_have_no_spread_and_no_series_is_too_long():
    assert spread_of([5.0] * 50).error == 0
    random = seeded(4)
    long = series(3 * LONGEST, random)

    assert spread_of(long).error == pytest.approx(0.25 / sqrt(3 * LONGEST), rel=0.2)


@pytest.mark.parametrize("memory", [0.0, 0.5])
@pytest.mark.parametrize("what", ["mean", 0.5, 0.9])
def test_intervals_hold_as_often_as_they_say(what, memory):
    """Of 400 pairs without a difference, at the level of one comparison in ten."""
    random = seeded(5)
    sure = Sureness(10)
    wrong = 0
    for _ in range(400):
        sides = []
        for values in (series(200, random, memory), series(200, random, memory)):
            if what == "mean":
                sides.append(mean_interval(spread_of(values), sure))
                continue
            ordered = sorted(values)
            quantile = ordered[nearest(len(ordered), what)]
            below = spread_of([float(value <= quantile) for value in values])
            sides.append(quantile_interval(ordered, what, below, sure))
        change = ratio(*sides)
        wrong += not change.low <= 1 <= change.high

    assert wrong <= 400 * (0.005 if not memory else 0.02) + 4


def test_a_quantile_that_too_few_values_tell_has_no_upper_end():
    values = sorted(series(100, seeded(6)))
    found = quantile_interval(values, 0.99, spread_of([0.0] * 99 + [1.0]), Sureness(100))

    assert found.high == float("inf")
    assert found.low < found.value


def test_shares_at_the_ends_are_bounded():
    never = share_interval(0, 100, 1.0, 3.0)
    always = share_interval(100, 100, 1.0, 3.0)

    assert (never.low, never.value) == (0, 0)
    assert 0.05 < never.high < 0.12
    assert (always.high, always.value) == (1, 1)
    assert always.low == pytest.approx(1 - never.high)


def test_a_ratio_of_something_that_may_be_nothing_is_open():
    assert ratio(Interval(10, -5, 25), Interval(10, 9, 11)).high == float("inf")
    assert ratio(Interval(10, 9, 11), Interval(10, -5, 25)).low == 0


def test_sides_that_cannot_both_be_right_differ():
    change = difference(Interval(0.5, 0.4, 0.6), Interval(0.8, 0.7, 0.9))

    assert change.value == pytest.approx(0.3)
    assert change.low == pytest.approx(0.3 - sqrt(0.02))


def test_more_comparisons_need_wider_intervals():
    limits = [Sureness(count).limit(1000) for count in (1, 10, 100, 1000)]

    assert limits == sorted(limits)
    assert limits[0] == pytest.approx(1.962, abs=0.002)
    assert Sureness(1).limit(11) == pytest.approx(2.228, abs=0.002)  # Student's t, 10 degrees
