"""What the timeline of a page draws, as frames."""

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from evtrace.analysis.page import tracks as tracks_module
from evtrace.analysis.page.tracks import make_tracks, story
from evtrace.api import Trace
from tests.hostile import EVERYTHING, hostile_trace
from tests.page_builder import busy_report, report_of, tracks_of


@pytest.fixture(scope="module")
def real(imported):
    return tracks_of(imported("pv_fifo_blog"))


def test_each_run_is_drawn_on_its_vcpu_for_as_long_as_it_lasted(real):
    start = 279750097572 - real.first_tsc
    run = real.marks["runs"].filter(start=start).row(0, named=True)
    lane = real.lanes.row(run["lane"], named=True)

    assert 1697 == real.marks["runs"].height
    assert (0, 0) == (lane["dom"], lane["vcpu"])
    assert 279753686420 - 279750097572 == run["lasts"]
    assert "UNMASK_RESEND + FIFO_OLD_QUEUE" == run["routes"]


def test_an_arrow_leads_from_the_send_to_the_run_that_answers(real):
    runs, arrows = real.marks["runs"], real.marks["arrows"]
    start = 282132835851 - real.first_tsc
    answered = runs.with_row_index("run").filter(start=start)["run"].item()
    arrow = arrows.filter(run=answered).row(0, named=True)
    sender = real.lanes.row(arrow["lane"], named=True)

    assert ("SEND", 1, 0) == (arrow["kind"], sender["dom"], sender["vcpu"])
    assert 282131954995 == real.first_tsc + arrow["start"]


def test_an_upcall_without_a_recorded_end_lasts_as_long_as_its_handlers(real):
    start = 279750057422 - real.first_tsc
    upcall = real.marks["upcalls"].filter(start=start).row(0, named=True)

    assert 279753686420 - 279750057422 == upcall["lasts"]
    assert real.marks["upcalls"].height == real.marks["upcalls"].unique().height


def test_calls_are_told_with_their_arguments(real):
    texts = real.marks["calls"]["text"].to_list()

    assert "bind_interdomain(remote_dom=1, remote_port=8)" in texts
    assert not any(text.startswith("send") for text in texts)
    assert {"0"} == set(real.marks["calls"]["rc"])


def test_a_pcpu_shows_who_ran(imported, real):
    with Trace(imported("pv_fifo_blog")) as trace:
        rows = pl.concat(trace.batches())
    began = rows.filter(
        (pl.col("kind") == 2) & (pl.col("op") % 16 == 0) & (pl.col("dom") != 0x7FFF)
    ).height

    assert [0, 1, 2] == real.pcpus
    assert began == real.marks["occupancy"].height
    assert {"d0v0", "d0v1", "d1v0"} == set(real.marks["occupancy"]["who"])


def test_marks_ascend_and_begin_at_nought(real):
    starts: list[Any] = [frame["start"] for frame in real.marks.values() if frame.height]

    assert all(start.is_sorted() for start in starts)
    assert 0 == min(start[0] for start in starts)


def test_of_a_clock_of_its_own_the_middle_of_the_interval_is_drawn(imported):
    drawn = tracks_of(imported("pvh_blog"))
    report = report_of(imported("pvh_blog"))
    lo, hi = report.source.facts.clock_offsets[1]
    half = (hi - lo) // 2
    run = report.runs.filter(dom=1).row(0, named=True)
    start = drawn.marks["runs"].filter(seq=run["seq"])["start"].item()

    assert half > 0
    assert run["tsc"] + half == drawn.first_tsc + start
    assert half == drawn.lanes.filter(dom=1)["uncertainty"].item()


def test_log_lines_are_put_together_and_inert(tmp_path):
    path = tmp_path / "hostile.bin"
    path.write_bytes(hostile_trace())
    logs = tracks_of(path).marks["logs"]

    assert len(EVERYTHING) == logs.height
    assert all(text.isprintable() for text in logs["text"])
    assert EVERYTHING[0] == logs["text"][0]


def test_the_story_is_the_unprovoked_run_and_what_led_to_it(real):
    begin, end = story(real) or (0, 0)

    assert begin < 279743850690 - real.first_tsc  # the bind
    assert 279753686420 - real.first_tsc < end < 279760000000 - real.first_tsc


def test_without_an_unprovoked_run_there_is_no_story(tmp_path):
    path = tmp_path / "hostile.bin"
    path.write_bytes(hostile_trace())

    assert story(tracks_of(path)) is None


def test_what_is_too_much_is_left_out_from_the_end(monkeypatch):
    monkeypatch.setattr(tracks_module, "MAX_MARKS", 100)
    drawn = make_tracks(busy_report(1000), list)
    ends: list[Any] = [frame["start"].max() for frame in drawn.marks.values() if frame.height]

    assert 4000 == drawn.total
    assert 90 <= drawn.kept <= 100
    assert max(ends) < 1000 * 3_000


def test_lanes_that_are_too_many_are_those_with_least(monkeypatch):
    monkeypatch.setattr(tracks_module, "MAX_LANES", 3)
    report = busy_report(1000, vcpus=8)
    busiest = report.runs.filter((pl.col("dom") < 2) | (pl.col("seq") < 800))
    drawn = make_tracks(replace(report, runs=busiest, sends=report.sends.head(0)), list)

    assert [0, 1, 2] == drawn.lanes["dom"].to_list()
    assert 5 == drawn.lanes_left_out


def test_a_report_of_nothing_draws_nothing():
    drawn = make_tracks(busy_report(0), list)

    assert (0, 0, 0) == (drawn.total, drawn.length, drawn.lanes.height)
    assert story(drawn) is None
