"""The interleaving: who did what, side by side, and what led to what."""

import re
from typing import cast

import polars as pl
import pytest

from evtrace.analysis.interleaving.picture import interleaving
from evtrace.errors import UsageError
from evtrace.timeline import Kind, RecordClass, schema
from evtrace.tracefile.coverage import CoverageMap
from evtrace.tracefile.facts import Facts
from evtrace.tracefile.selection import Selection
from evtrace.xen.abi import EvtchnOp
from tests.timeline_builder import INTERDOMAIN, UNBOUND, Captured, Script, connected

HZ = 1_000_000_000


class Everything(Captured):
    """Coverage of every class, so that no hypercall but those of events is told."""

    def classes(self, dom=None):
        del dom
        return RecordClass.CALL


def draw(script, around=None, reach=10, hz=HZ, coverage=None, **selected):
    """Draw a script, around one of its rows; records are numbered as they come in time."""
    rows = sorted(script.rows, key=lambda row: (row.tsc_lo, row.seq))
    script.rows = [row._replace(seq=place) for place, row in enumerate(rows, 1)]
    if around is not None:
        middle = next(place for place, row in enumerate(rows, 1) if row.seq == around.seq)
        selected |= {"seqs": (middle - reach, middle + reach), "middle": middle}
    frame = pl.DataFrame(script.rows, schema(), orient="row")
    return interleaving(
        lambda: [frame],
        Selection(**selected),
        script.replay(),
        Facts(tsc_hz=hz),
        cast("CoverageMap", coverage or Everything()),
    )


def line_of(picture, text):
    """Give the only line that holds a text."""
    [line] = [line for line in picture if text in line]
    return line


def columns(picture):
    """Give the place at which each vCPU's column begins."""
    title = next(line for line in picture if re.search(r"d\d+v\d+", line) and " us " in line)
    return {match[0]: match.start() for match in re.finditer(r"d\d+v\d+", title)}


def sent():
    """d1 sends to d0:1, whose handler runs 3 us later on d0v0."""
    script = connected()
    send = script.send(1_000, 1_200, 1, dom=1)
    run = script.run(4_000, 1)
    return script, send, run


def test_an_arrow_goes_from_the_send_to_the_column_of_the_handlers_vcpu():
    script, send, _ = sent()
    picture = draw(script, send)
    left, right = columns(picture)["d0v0"], columns(picture)["d1v0"]

    arrow = line_of(picture, "send 1")
    assert re.fullmatch(r"> +0\.00 +1 pending <-+\(1\)-- +send 1", arrow)
    assert left < arrow.index("<") < arrow.index("send") > right
    assert re.fullmatch(r" +\+3\.00 +handler d0:1 <-\(1\) \{ 1ns \}", line_of(picture, "handler"))


def test_the_step_asked_about_is_marked_whichever_of_its_records_is_named():
    script, send, run = sent()
    ends = {send: "send 1", script.rows[-5]: "send 1", run: "handler d0:1"}
    assert Kind.CALL_EXIT == script.rows[-5].kind

    for row, text in ends.items():
        [marked] = [line for line in draw(script, row) if line.startswith(">")]
        assert text in marked


def test_a_send_that_met_a_pending_port_shares_the_arrow_of_the_first():
    script, _, _ = sent()
    script.send(2_000, 2_100, 1, dom=1)
    picture = draw(script, script.rows[-1])

    assert len([line for line in picture if "(1)" in line and "send 1" in line]) == 2
    assert "1 COALESCED <" in line_of(picture, "COALESCED")


def test_what_happens_inside_a_call_stands_between_its_braces():
    script = connected()
    send = script.send(1_000, 5_000, 1, dom=1)
    script.run(4_000, 1)
    picture = draw(script, send)
    right = columns(picture)["d1v0"]

    begin = next(at for at, line in enumerate(picture) if "send 1 {" in line)
    end = next(at for at, line in enumerate(picture) if line[right:].strip() == "}")
    assert [line[right + 2] for line in picture[begin + 1 : end]] == ["|"] * (end - begin - 1)
    assert end - begin == 4  # the upcall, the clearing and the handler lie inside


def test_the_cause_stands_at_a_handler_that_no_send_explains():
    script = Script()
    script.snapshot(1, 0)
    script.snapshot(1, 1, (5, UNBOUND, 0, 0, 0))
    script.call(100, 200, EvtchnOp.BIND_INTERDOMAIN, 1, 5, out=(1,))
    run = script.run(300, 1)
    picture = draw(script, run)

    assert "bind_interdomain(1:5) = 1 (1)" in line_of(picture, "bind_interdomain")
    assert "handler d0:1 <-(1) BIND_CONSERVATIVE" in line_of(picture, "handler")


def test_of_an_event_handled_twice_both_vcpus_are_drawn():
    script = connected()
    script.snapshot(1, 0, (1, INTERDOMAIN, 0, 1, 1))
    script.send(1_000, 1_200, 1, dom=1)
    script.run(4_000, 1, ends=False)
    double = script.run(4_500, 1, vcpu=1, clear=False)
    picture = draw(script, double)

    assert {"d0v0", "d0v1"} <= columns(picture).keys()
    assert "DOUBLE_HANDLE" in line_of(picture, "DOUBLE_HANDLE")
    assert len([line for line in picture if "handler d0:1" in line]) == 2


def test_a_handler_out_of_sight_is_named_with_its_distance():
    script, send, run = sent()
    for at in range(5_000, 5_000 + 100 * 100, 100):
        script.add(at, Kind.MASK, 0, port=40)
    picture = draw(script, script.rows[-1], 5)
    assert all("handler" not in line for line in picture)

    others = draw(script, run, 1, doms=frozenset({0}))
    assert f"SEND (from #{send.seq}, 3.00us before)" in line_of(others, "handler")


def test_the_other_end_follows_behind_a_gap_however_far_it_is():
    script = connected()
    send = script.send(1_000, 1_200, 1, dom=1)
    for at in range(2_000, 2_000 + 200 * 10, 10):
        script.add(at, Kind.MASK, 0, port=40)
    script.run(9_000, 1)
    picture = draw(script, send, 5)

    assert "steps left out" in line_of(picture, "...")
    assert "<-(1)" in line_of(picture, "handler d0:1")


def test_a_time_that_is_an_interval_is_uncertain_where_another_vcpu_acts_in_it():
    script, send, _ = sent()
    place = script.rows.index(send)
    script.rows[place] = send._replace(tsc_hi=4_500)
    picture = draw(script, send)

    assert "~0.00" in line_of(picture, "send 1")
    assert any(line.startswith("~ order uncertain") for line in picture)
    assert not any("~" in line for line in draw(*sent()[:2]))


def test_without_a_frequency_times_are_cycles():
    script, send, _ = sent()
    picture = draw(script, send, hz=None)

    assert picture[1] == "times in TSC cycles from TSC 1000"
    assert "+3,002" in line_of(picture, "handler")


def test_scheduling_shows_as_the_sign_of_a_column():
    script = connected()
    script.add(900, Kind.RUNSTATE, 1, op=0x10)
    send = script.send(1_000, 2_000, 1, dom=1)
    script.add(1_500, Kind.WAKE)
    script.add(1_501, Kind.RUNSTATE, op=0x21)
    script.add(3_000, Kind.RUNSTATE, op=0x10)
    script.run(4_000, 1)
    picture = draw(script, send)
    left = columns(picture)["d0v0"]
    signs = {text: line_of(picture, text)[left] for text in ("send 1", "woken", "handler")}

    assert {"send 1": ".", "woken": ":", "handler": "|"} == signs
    assert "woken by d1v0" in line_of(picture, "woken")
    assert line_of(picture, "+2.00").index("runs on p0") == left + 2


def test_hypercalls_are_told_where_calls_are_not():
    script = connected()
    for at in (100, 200, 300):
        script.add(at, Kind.HYPERCALL, op=32)
    script.add(400, Kind.HYPERCALL, op=23)
    picture = draw(script, script.rows[-1], coverage=Captured())

    assert "event_channel_op x3" in line_of(picture, "event_channel_op")
    assert "iret" in line_of(picture, "iret")


def test_a_port_hides_the_others():
    script, _, _ = sent()
    script.add(2_000, Kind.MASK, 0, port=40)
    picture = draw(script, ports=frozenset({(0, 1)}))

    assert "send 1" in line_of(picture, "send 1")
    assert not any("mask 40" in line for line in picture)


def test_lost_records_stand_across_all_columns():
    script, send, _ = sent()
    script.add(2_000, Kind.LOST, None, None, a0=7)
    assert "*** 7 records of p0 lost ***" in line_of(draw(script, send), "lost")


def test_lost_records_alone_are_drawn_too():
    script, _, _ = sent()
    script.add(20_000, Kind.LOST, None, None, a0=7)
    assert "*** 7 records of p0 lost ***" in line_of(draw(script, tsc_from=10_000), "lost")


@pytest.mark.parametrize("selected", [{"middle": 999_999, "seqs": (9, 99)}, {"tsc_from": 10**9}])
def test_where_nothing_is_there_an_error_says_so(selected):
    with pytest.raises(UsageError):
        draw(sent()[0], **selected)
