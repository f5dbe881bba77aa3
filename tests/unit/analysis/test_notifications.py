"""Rates, storms, and what waited for an unmask."""

from evtrace.analysis.notifications import STORM_SENDS, held, rates, storms
from evtrace.verdicts import WorkVerdict
from tests.verdict_builder import frames, part, run, send

HZ = 1_000_000
WINDOW = HZ // 100
"""10 ms, in cycles."""


def burst(count, start=0, step=100, fate="COALESCED"):
    return [send(start + n, start + n * step, fate) for n in range(count)]


def test_a_rate_has_a_mean_and_a_busiest_moment():
    runs, sends = frames([], [*burst(11, step=WINDOW // 2), *burst(20, start=10 * WINDOW)])

    assert [("d1:8→d0:33", 31, 100 * 20, 10 * WINDOW)] == rates(sends, runs, HZ).select(
        "channel", "sends", "peak_hz", "peak_at_tsc"
    ).rows()


def test_one_send_has_no_mean_rate():
    runs, sends = frames([], burst(1))

    assert [None] == rates(sends, runs, HZ)["mean_hz"].to_list()


def test_many_sends_for_little_work_are_a_storm():
    many = burst(STORM_SENDS) + burst(STORM_SENDS, start=WINDOW)
    handled = [
        run(900 + n, part("SEND", n, n * 100), tsc=n * 100 + 50, work=WorkVerdict.NO_WORK)
        for n in range(STORM_SENDS)
    ]
    runs, sends = frames(handled, many)
    found = storms(sends, runs, HZ)

    assert [
        ("d1:8→d0:33", 0, 20_000_000, 2 * STORM_SENDS, STORM_SENDS, STORM_SENDS)
    ] == found.select("channel", "from_tsc", "lasted_ns", "sends", "runs", "no_work").rows()


def test_windows_apart_are_storms_apart():
    runs, sends = frames([], burst(STORM_SENDS) + burst(STORM_SENDS, start=3 * WINDOW))

    assert 2 == storms(sends, runs, HZ).height


def test_a_busy_channel_whose_runs_find_work_is_no_storm():
    handled = [run(900 + n, part("SEND", n, n * 100), tsc=n * 100 + 50) for n in range(STORM_SENDS)]
    runs, sends = frames(handled, burst(STORM_SENDS, fate="DELIVERED"))

    assert storms(sends, runs, HZ).is_empty()


def test_what_pollers_take_is_no_storm():
    runs, sends = frames([], burst(STORM_SENDS, fate="DELIVERED"))

    assert storms(sends, runs, HZ).is_empty()


def test_few_sends_are_no_storm():
    runs, sends = frames([], burst(STORM_SENDS - 1))

    assert storms(sends, runs, HZ).is_empty()


def test_an_event_that_met_a_masked_port_was_held_until_it_ran():
    runs, sends = frames(
        [
            run(5, part("SEND", 2, 100, masked=True), tsc=400),
            run(6, part("SEND", 3, 500), tsc=520),
            run(7, part("SEND", 4, 600, masked=True), tsc=700),
        ],
        [send(8, 800, "HELD_MASKED"), send(9, 900, "HELD_MASKED")],
    )

    assert [("d0:33", "eth0", 2, 300_000, 400, 2, 200_000)] == held(runs, sends, 1000, HZ).select(
        "port", "device", "released", "max_ns", "max_at_tsc", "still_held", "oldest_ns"
    ).rows()


def test_a_port_that_only_holds_is_listed():
    runs, sends = frames([], [send(8, 800, "HELD_MASKED")])

    assert [("d0:33", None, None, 1)] == held(runs, sends, 1000, HZ).select(
        "port", "released", "max_ns", "still_held"
    ).rows()
