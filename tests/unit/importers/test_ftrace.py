"""ftrace text: lines, noise, gaps, and clocks that cannot be joined."""

import pytest

from evtrace.errors import UsageError
from evtrace.tracer.importers.ftrace import parse_ftrace

LINE = "          <idle>-0       [001] d.h1. 275608713642: xen_evtchn_do_upcall <-__xen_pv_evtchn\n"


def test_a_traced_function():
    (line,) = parse_ftrace("t", [LINE]).lines

    assert ("<idle>/1", 1, 275608713642) == (line.task, line.cpu, line.tsc)
    assert ("xen_evtchn_do_upcall", "__xen_pv_evtchn") == (line.name, line.caller)


@pytest.mark.parametrize(
    ("start", "task"),
    [
        ("  kworker/u8:3-ev-46     [000] d..2.", "kworker/u8:3-ev-46"),
        ("     my task-with-7-12   [000] .....", "my task-with-7-12"),
        ("            bash-149   ( 149) [000] ...1.", "bash-149"),
        ("            bash-149   [000]", "bash-149"),
        ("            bash-149     [000] ..Zff", "bash-149"),
    ],
)
def test_names_of_tasks_and_absent_columns(start, task):
    (line,) = parse_ftrace("t", [f"{start} 12: p_pre: (f+0x1/0x2 [m]) cmd=4 w0=0x1\n"]).lines

    assert (task, "p_pre", {"cmd": "4", "w0": "0x1"}) == (line.task, line.name, line.values)


def test_what_surrounds_the_text_is_the_consoles():
    text = ["DOMU-CMD cat trace\n", "# tracer: function\n", LINE, LINE, "DMESG-END\n"]

    parsed = parse_ftrace("t", text)

    assert (2, 2, {}) == (len(parsed.lines), parsed.surroundings, dict(parsed.unparsed))


def test_a_line_inside_that_does_not_parse_is_counted_with_an_example_of_its_kind():
    text = [LINE, "[   31.9] DomU: n=6\n", "[   32.1] DomU: n=7\n", "gibberish\n", LINE]

    parsed = parse_ftrace("t", text)

    assert [2, 1] == list(parsed.unparsed.values())
    assert ["line 2: [   31.9] DomU: n=6", "line 4: gibberish"] == list(parsed.examples.values())


def test_an_overwritten_ring_and_lost_events_are_noticed():
    text = ["# entries-in-buffer/entries-written: 5/9   #P:2\n", "CPU:1 [LOST 4 EVENTS]\n", LINE]

    parsed = parse_ftrace("t", text)

    assert parsed.overwritten
    assert {1: [2]} == parsed.gaps


def test_a_clock_that_is_not_the_tsc_is_refused_with_what_to_do():
    text = ["  bash-1 [000] d.h.. 79383.363885: irq_handler_entry: irq=95 name=alice_dev\n"]

    with pytest.raises(UsageError, match=r"domU.txt: line 1: .*x86-tsc"):
        parse_ftrace("domU.txt", text)
