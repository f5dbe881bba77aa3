"""The promise in a few pairs; `make differences` tries a hundred of each scenario."""

import pytest

from tests.diff.acceptance import Warp, judge

QUICK, MANY = 4, 40


def test_time_is_stretched_in_the_intervals_only():
    warp = Warp([(100, 200), (150, 250), (400, 410)], 1.2)

    assert [warp(tsc) for tsc in (0, 100, 150, 250, 300, 405, 500)] == [
        *(0, 100, 160),
        *(280, 330, 436, 532),
    ]


@pytest.mark.parametrize("scenario", ["pingpong", "netfront"])
def test_two_seeds_do_not_differ_and_a_slow_stage_is_found(tmp_path, scenario):
    found = judge(scenario, QUICK, tmp_path)

    assert found.quiet >= QUICK - 1, found.alarms
    if scenario == "pingpong":
        assert len(found.found) == 4
        assert min(found.found.values()) >= QUICK - 1, found.found


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["blkfront", "migrate", "many", "storm", "timer"])
def test_many_pairs_of_seeds_do_not_differ(tmp_path, scenario):
    found = judge(scenario, MANY, tmp_path, slower=False)

    assert found.quiet >= 0.9 * MANY, found.alarms
