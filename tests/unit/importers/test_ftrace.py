"""ftrace text: lines, noise, gaps, and clocks that cannot be joined."""

import pytest

from evtrace.errors import NotATraceError, UsageError
from evtrace.tracer.importers.ftrace import parse_ftrace

LINE = "          <idle>-0       [001] d.h1. 275608713642: xen_evtchn_do_upcall <-__xen_pv_evtchn\n"


def test_a_traced_function():
    (line,) = parse_ftrace("t", [LINE]).lines

    assert ("<idle>/1", 1, 275608713642) == (line.task, line.cpu, line.tsc)
    assert ("xen_evtchn_do_upcall", "__xen_pv_evtchn") == (line.name, line.caller)


@pytest.mark.parametrize(
    ("start", "pid"),
    [
        ("  kworker/u8:3-ev-46     [000] d..2.", "46"),
        ("     my task-with-7-12   [000] .....", "12"),
        ("            bash-149   ( 149) [000] ...1.", "149"),
        ("            bash-149   [000]", "149"),
        ("            bash-149     [000] ..Zff", "149"),
    ],
)
def test_names_of_tasks_and_absent_columns(start, pid):
    (line,) = parse_ftrace("t", [f"{start} 12: p_pre: (f+0x1/0x2 [m]) cmd=4 w0=0x1\n"]).lines

    assert (pid, "p_pre", {"cmd": "4", "w0": "0x1"}) == (line.task, line.name, line.values)


def test_what_surrounds_the_text_is_the_consoles():
    text = ["DOMU-CMD cat trace\n", "# tracer: function\n", LINE, LINE, "DMESG-END\n"]

    parsed = parse_ftrace("t", text)

    assert (2, 2, {}) == (len(parsed.lines), parsed.surroundings, dict(parsed.unparsed))


def test_a_line_inside_that_does_not_parse_is_counted_with_an_example_of_its_kind():
    text = [LINE, "DomU says 6\n", "DomU says 7\n", "gibberish\n", LINE]

    parsed = parse_ftrace("t", text)

    assert [2, 1] == list(parsed.unparsed.values())
    assert ["line 2: DomU says 6", "line 4: gibberish"] == list(parsed.examples.values())


def test_kernel_and_hypervisor_messages_in_between_are_the_consoles():
    text = [LINE, "[   31.9] DomU: n=6\n", "(XEN) 'e' pressed\n", "<6>[    1.0] x\n", LINE]

    parsed = parse_ftrace("t", text)

    assert (2, 3, {}) == (len(parsed.lines), parsed.surroundings, dict(parsed.unparsed))


def test_an_event_that_was_cut_is_no_noise_even_at_the_end():
    parsed = parse_ftrace("t", [LINE, "          <idle>-0       [001] d.h1. 2756087"])

    assert [1] == list(parsed.unparsed.values())


def test_rubbish_does_not_make_a_kind_of_every_line():
    rubbish = [f"{chr(97 + place % 26) * (place + 1)}\n" for place in range(100)]

    parsed = parse_ftrace("t", [LINE, *rubbish, LINE])

    assert 100 == parsed.unparsed.total()
    assert len(parsed.examples) <= 21


def test_a_file_of_something_else_is_refused():
    with pytest.raises(NotATraceError, match="lines of ftrace text, found 2 lines"):
        parse_ftrace("t", ["total 0\n", "drwxr-xr-x 2 root root\n"])


def test_an_empty_ring_is_no_error():
    assert [] == parse_ftrace("t", ["# tracer: nop\n", "#\n"]).lines


@pytest.mark.parametrize(
    ("printed", "name", "caller", "values"),
    [
        ("function:             ack_dynirq", "ack_dynirq", "", {}),
        ("function:   ack_dynirq <-- handle_edge_irq", "ack_dynirq", "handle_edge_irq", {}),
        ("handle_irq_for_port:  (ffff81) port=1", "handle_irq_for_port", "", {"port": "1"}),
        ("irq_handler_entry:    irq=9 name=acpi event", "irq_handler_entry", "",
         {"irq": "9", "name": "acpi event"}),
    ],
)  # fmt: skip
def test_lines_as_trace_cmd_prints_them(printed, name, caller, values):
    (line,) = parse_ftrace("t", [f"      bash-147   [000]128065550410: {printed}\n"]).lines

    assert (128065550410, None) == (line.tsc, line.in_irq)
    assert (name, caller, values) == (line.name, line.caller, line.values)


@pytest.mark.parametrize(
    ("flags", "in_irq"),
    [("d.h1.", True), ("dNH2.", True), ("d.s3.", False), (".....", False), ("d.Z..", None)],
)
def test_flags_tell_whether_an_interrupt_is_being_handled(flags, in_irq):
    (line,) = parse_ftrace("t", [f"  bash-1 [000] {flags} 12: f <-g\n"]).lines

    assert line.in_irq is in_irq


def test_functions_of_modules_and_with_offsets():
    text = ["  bash-1 [000] d.h1. 12: evtchn_read [xen_evtchn] <-vfs_read+0x9f/0x3d0\n"]
    (line,) = parse_ftrace("t", text).lines

    assert ("evtchn_read", "vfs_read") == (line.name, line.caller)


def test_an_overwritten_ring_and_lost_events_are_noticed():
    text = ["# entries-in-buffer/entries-written: 5/9   #P:2\n", "CPU:1 [LOST 4 EVENTS]\n", LINE]

    parsed = parse_ftrace("t", text)

    assert parsed.overwritten
    assert [(1, 2)] == parsed.gaps


@pytest.mark.parametrize(
    "note", ["CPU:1 [LOST 4 EVENTS]", "CPU:1 [4 EVENTS DROPPED]", "CPU:1 [EVENTS DROPPED]"]
)
def test_both_tools_tell_of_lost_events(note):
    assert [(1, 2)] == parse_ftrace("t", [LINE, f"{note}\n", LINE]).gaps


def test_a_clock_that_is_not_the_tsc_is_refused_with_what_to_do():
    text = ["  bash-1 [000] d.h.. 79383.363885: irq_handler_entry: irq=95 name=alice_dev\n"]

    with pytest.raises(UsageError, match=r"domU.txt: line 1: .*x86-tsc"):
        parse_ftrace("domU.txt", text)


def test_lines_that_a_pipe_gave_late_come_in_order():
    late = ["a-1 [000] d.h1. 20: f <-g\n", "b-2 [001] d.h1. 10: f <-g\n"]

    assert [(10, 2), (20, 1)] == [(line.tsc, line.number) for line in parse_ftrace("t", late).lines]
