"""Stages and their latencies: what is measured, by whose clock, summed up by what."""

import pytest

from evtrace.analysis.latency import GroupBy, latencies, stage_times
from tests.verdict_builder import frames, part, run, send

GHZ = 1_000_000_000


def sent(seq, entered, effect, dom=1, port=8):
    return send(seq, effect, dom=dom, port=port, entered_tsc=entered)


def stages(runs, sends=(), clock_widths=None):
    found = stage_times(*frames(list(runs), list(sends)), clock_widths or {})
    return {
        stage: (cycles, uncertainty)
        for stage, cycles, uncertainty in found.select("stage", "cycles", "uncertainty").iter_rows()
    }


def test_the_way_of_a_send_is_the_sum_of_its_stages():
    found = stages(
        [run(2, part("SEND", 1, 120), upcall_tsc=300, eoi_tsc=600, unmask_tsc=900)],
        [sent(1, 100, 120)],
    )

    assert {
        "send→pending": (20, 0),
        "pending→upcall": (180, 0),
        "upcall→handler": (200, 0),
        "send→handler": (400, 0),
        "handler→EOI": (100, 0),
        "EOI→unmask": (300, 0),
    } == found


def test_without_a_record_of_the_hypercall_when_it_took_effect_is_not_told():
    found = stages([run(2, part("SEND", 1, 100), upcall_tsc=300)], [sent(1, 100, 100)])

    assert {"send→upcall", "upcall→handler", "send→handler"} == found.keys()


def test_an_upcall_that_was_under_way_has_not_been_waited_for():
    found = stages([run(2, part("SEND", 1, 400), upcall_tsc=300)], [sent(1, 390, 400)])

    assert {"send→pending", "upcall→handler", "send→handler"} == found.keys()


def test_a_bind_is_measured_from_its_call_to_the_first_run():
    found = stages([run(2, part("BIND", 1, 120, dom=0, port=0), unmask_tsc=700)])

    assert {"bind→run": (380, 0), "handler→unmask": (200, 0)} == found


@pytest.mark.parametrize(
    ("own_clock", "expected"),
    [
        (0, {"send→pending": 0, "pending→upcall": 50, "send→handler": 50, "handler→EOI": 0}),
        (1, {"send→pending": 50, "pending→upcall": 0, "send→handler": 50, "handler→EOI": 0}),
    ],
)
def test_only_a_stage_between_two_clocks_is_uncertain(own_clock, expected):
    found = stages(
        [run(2, part("SEND", 1, 220), tsc=1500, upcall_tsc=1300, eoi_tsc=1600)],
        [sent(1, 100, 220)],
        {own_clock: 100},
    )

    assert expected == {stage: found[stage][1] for stage in expected}


@pytest.mark.parametrize(("own_clock", "shift"), [(0, 50), (1, -50)])
def test_across_two_clocks_the_middle_of_the_interval_is_given(own_clock, shift):
    found = stages([run(2, part("SEND", 1, 100))], [sent(1, 100, 100)], {own_clock: 100})

    assert (400 + shift, 50) == found["send→handler"]


def test_a_domain_by_itself_has_one_clock():
    ipi = run(2, part("IPI", 1, 100, dom=0, port=33))

    assert (400, 0) == stages([ipi], [sent(1, 100, 100, dom=0, port=33)], {0: 100})["send→handler"]


@pytest.mark.parametrize(
    ("group_by", "name"),
    [
        (GroupBy.CHANNEL, "d1:8→d0:33"),
        (GroupBy.PORT, "d0:33"),
        (GroupBy.DOM, "d1→d0"),
        (GroupBy.VCPU, "d1v0→d0v0"),
        (GroupBy.DEVICE, "d0 eth0"),
    ],
)
def test_latencies_are_summed_up_by_what_is_asked_for(group_by, name):
    made = frames([run(2, part("SEND", 1, 100)), run(4, part("SEND", 3, 400))])
    found = latencies(stage_times(*made, {}), GHZ, group_by)

    assert [(name, "send→handler", 2, 250, 400, 500)] == found.select(
        group_by.value, "stage", "count", "mean_ns", "max_ns", "max_at_tsc"
    ).rows()


def test_without_a_frequency_there_is_no_time():
    made = frames([run(2, part("SEND", 1, 100))], device=None)
    found = latencies(stage_times(*made, {}), None)

    assert [(1, None, None, 500)] == found.select("count", "p50_ns", "max_ns", "max_at_tsc").rows()
