"""Guest events: probes, upcalls, handlers and shared memory read off a text."""

import pytest

from evtrace.timeline import Kind, RecordClass
from evtrace.tracer.importers.ftrace import parse_ftrace
from evtrace.tracer.importers.guest import read_guest

UPCALL = ("xen_evtchn_do_upcall <-__xen_pv", "evtchn_2l_handle_events <-xen_evtchn_do_upcall")


class Text:
    """Writes ftrace text, ten cycles a line."""

    def __init__(self):
        self.lines = []

    def add(self, *events, cpu=0, task="bash-7", flags="d.h1."):
        for event in events:
            tsc = 1000 + 10 * len(self.lines)
            self.lines.append(f"  {task} [{cpu:03}] {flags} {tsc}: {event}\n")
        return self

    def note(self, line):
        """Add a line that is no event."""
        self.lines.append(f"{line}\n")
        return self

    def read(self, timers=None):
        return read_guest(parse_ftrace("t", self.lines), timers or {})


def call(cmd, *words, rc=None, name="f_5a"):
    values = " ".join(f"w{place}={word:#x}" for place, word in enumerate(words))
    if rc is None:
        return f"{name}_pre: (f+0x50/0x90) cmd={cmd} {values}"
    return f"{name}_post: (f+0x5a/0x90) cmd={cmd} rc={rc} {values}"


def dispatch(port, irq, name="dev", form="fifo"):
    return (
        f"handle_irq_for_port: (handle_irq_for_port+0x0/0xf0) port={port}",
        f"evtchn_{form}_clear_pending <-handle_edge_irq",
        f"irq_handler_entry: irq={irq} name={name}",
        f"irq_handler_exit: irq={irq} ret=handled",
    )


def of_kind(guest, kind):
    return [event for event in guest.events if event.kind is kind]


def test_nested_pairs_close_innermost_first():
    guest = Text().add(call(4, 1), call(4, 2), call(4, 2, rc=0), call(4, 1, rc=0)).read()

    outer, inner = guest.calls.calls
    assert (1000, 1030, 1010, 1020) == (
        outer.pre.tsc,
        outer.post.tsc,
        inner.pre.tsc,
        inner.post.tsc,
    )
    assert [1, 2] == [outer.call_id, inner.call_id]


def test_tasks_that_interleave_on_one_cpu_keep_their_pairs():
    text = Text().add(call(4, 1), task="a-1").add(call(4, 2), task="b-2")
    text.add(call(4, 1, rc=0), task="a-1").add(call(4, 2, rc=0), task="b-2")

    first, second = text.read().calls.calls

    assert ("1", "1") == (first.pre.task, first.post.task)
    assert ("2", "2") == (second.pre.task, second.post.task)


def test_a_task_whose_name_changes_keeps_its_pairs():
    text = Text().add(call(4, 1), task="bash-7").add(call(4, 1, rc=0), task="exercise-7")

    (only,) = text.read().calls.calls

    assert (1000, 1010) == (only.pre.tsc, only.post.tsc)


def test_arguments_that_the_probe_before_could_not_see_are_those_behind():
    text = Text().add(call(6), call(6, 0x30000, 5, rc=0))
    (only,) = text.read().calls.calls

    assert (0, 3) == only.arguments()
    assert (5,) == only.outputs()


def test_the_idle_tasks_of_two_cpus_are_two_tasks():
    text = Text().add(call(4, 1), cpu=0, task="<idle>-0").add(call(4, 2), cpu=1, task="<idle>-0")
    text.add(call(4, 1, rc=0), cpu=0, task="<idle>-0")

    first, second = text.read().calls.calls

    assert first.post.cpu == 0
    assert second.post is None


def test_a_return_without_its_entry_is_counted():
    guest = Text().add(call(4, 1, rc=0)).read()

    assert (1, 0) == (len(guest.calls.calls), guest.calls.paired)
    assert [Kind.CALL_EXIT] == [event.kind for event in guest.events]


def test_argument_structs_are_decoded_and_what_a_probe_did_not_see_is_left_out():
    text = Text().add(call(6, 0x10000 | 0x7FF0, 0, 0), call(6, 0x10000 | 0x7FF0, 9, 0, rc=0))
    text.add(call(11, 0x1234, 0x1, 0x40), call(11, 0x1234, 0x1, 0x40, rc=-22))

    alloc, init = text.read().calls.calls

    assert ([0x7FF0, 1], [9]) == (alloc.argument_words(), list(alloc.outputs()))
    assert [0x1234, 0x1, 0x40] == init.argument_words()  # vcpu and link_bits lie behind w2
    assert init.rc() == -22


def test_functions_of_one_upcall_are_one_upcall():
    text = Text().add("__xen_pv_evtchn_do_upcall <-x", *UPCALL, UPCALL[1])  # the loop's second turn
    text.add(UPCALL[1]).add(*UPCALL).add("__xen_pv_evtchn_do_upcall <-x", UPCALL[1])

    upcalls = of_kind(text.read(), Kind.UPCALL_ENTER)

    assert [1000, 1050, 1070] == [event.tsc for event in upcalls]


def test_ports_of_dispatched_handlers():
    guest = Text().add(*dispatch(7, 30), *dispatch(9, 31)).read()

    assert [(7, 30), (9, 31)] == [
        (event.port, event.irq) for event in of_kind(guest, Kind.HANDLER_ENTER)
    ]
    assert [7, 9] == [event.port for event in of_kind(guest, Kind.CLEAR)]
    assert guest.fifo is True


def test_a_dropped_dispatch_is_made_good_by_what_the_text_says_elsewhere():
    guest = Text().add(*dispatch(7, 30)[2:], *dispatch(7, 30), *dispatch(7, 30)).read()

    assert [7, 7, 7] == [event.port for event in of_kind(guest, Kind.HANDLER_ENTER)]


def test_the_two_level_form_dispatches_the_timer_without_a_port():
    text = Text().add(*UPCALL, *dispatch(1, 24, "timer0", "2l")[1:])

    guest = text.read(timers={0: 3})

    (clear,) = of_kind(guest, Kind.CLEAR)
    (run,) = of_kind(guest, Kind.HANDLER_ENTER)
    assert (3, 3) == (clear.port, run.port)
    assert guest.fifo is False


def test_an_irq_that_is_no_event_channel_is_no_run():
    guest = Text().add("irq_handler_entry: irq=1 name=i8042", "irq_handler_exit: irq=1 ret=handled")

    assert of_kind(guest.read(), Kind.HANDLER_ENTER) == []
    assert guest.read().other_irqs == 1


def test_an_irq_may_stand_for_another_port_after_it_was_given_up():
    text = Text().add(*dispatch(7, 30), "unbind_from_irqhandler: (f) irq=30")
    text.add(call(3, 7), call(3, 7, rc=0)).add(*dispatch(9, 30), *dispatch(9, 30)[2:])

    assert [7, 9, 9] == [event.port for event in of_kind(text.read(), Kind.HANDLER_ENTER)]
    assert [7] == [event.port for event in of_kind(text.read(), Kind.IRQ_UNBOUND)]


def test_bind_and_its_return_tell_irq_and_port():
    text = Text().add(
        'bind_evtchn_to_irqhandler: (f) port=33 name="alice"',
        *dispatch(33, 52)[2:],
        "bind_evtchn_to_irqhandler_ret: (g <- f) irq=52",
    )

    guest = text.read()

    assert [33] == [event.port for event in of_kind(guest, Kind.HANDLER_ENTER)]
    assert [(33, 52)] == [(e.port, e.irq) for e in of_kind(guest, Kind.IRQ_BOUND)]


@pytest.mark.parametrize(
    ("events", "port"),
    [
        ((*dispatch(7, 30)[:1], "evtchn_fifo_mask <-lateeoi_ack_dynirq"), 7),
        (("evtchn_fifo_mask <-set_affinity_irq", call(8, 5, 1), call(8, 5, 1, rc=0)), 5),
        (("evtchn_fifo_mask <-x", "evtchn_fifo_unmask: (f+0x0/0xc0) port=6"), 6),
        (("evtchn_2l_mask: (f) port=4",), 4),
        (("evtchn_fifo_mask <-somebody",), None),
    ],
)
def test_the_port_of_a_mask_is_that_of_its_surroundings(events, port):
    (mask,) = of_kind(Text().add(*events).read(), Kind.MASK)

    assert port == mask.port


def test_the_drivers_verdict_is_covered_only_if_its_flags_are_seen():
    seen = Text().add("xen_irq_lateeoi: (f) irq=30 eoi_flags=1", *dispatch(7, 30)).read()
    bare = Text().add("xen_irq_lateeoi <-evtchn_write").read()

    assert [(7, (1,))] == [(e.port, e.words) for e in of_kind(seen, Kind.EOI)]
    assert RecordClass.EOI in seen.classes
    assert RecordClass.EOI not in bare.classes


def test_values_that_are_no_numbers_do_no_harm_and_are_counted():
    text = Text().add("f_pre: (f) cmd=(fault) w0=0x1", "g_pre: (f) cmd=4 w0=(fault)")
    text.add("irq_handler_entry: irq=x name=y", "handle_irq_for_port: (f) port=?")
    guest = text.read()

    (call_seen,) = guest.calls.calls

    assert [] == call_seen.argument_words()
    assert 3 == guest.text.unparsed.total()
    assert "line 1: f_pre: cmd=(fault) w0=0x1" in guest.text.examples.values()


def test_where_events_were_lost_an_open_call_ends_only_with_its_own_arguments():
    def read(returned):
        text = Text().add(call(4, 1)).note("CPU:0 [LOST 9 EVENTS]").add(call(4, returned, rc=0))
        return text.read()

    assert [(1, 1), (2, 0)] == [(len(g.calls.calls), g.calls.paired) for g in map(read, (1, 2))]


def test_a_loss_on_another_cpu_leaves_a_call_in_peace():
    text = Text().add(call(4, 1)).note("CPU:1 [LOST 9 EVENTS]").add(call(4, 2, rc=0))

    assert 1 == text.read().calls.paired


def test_calls_migrate():
    guest = Text().add(call(4, 1), cpu=0).add(call(4, 1, rc=0), cpu=3).read()

    assert [(Kind.CALL_ENTER, 0), (Kind.CALL_EXIT, 3)] == [(e.kind, e.vcpu) for e in guest.events]
    assert 4 == guest.vcpus


def test_a_scan_alone_after_other_code_is_an_upcall():
    text = Text().add(*UPCALL).add("vfs_read <-x", flags="d..1.").add(UPCALL[1])

    assert 2 == len(of_kind(text.read(), Kind.UPCALL_ENTER))


def test_kernels_that_enter_the_interrupt_late_have_one_upcall_too():
    text = Text().add("xen_evtchn_do_upcall <-asm_exc", flags="d....").add(UPCALL[1])

    assert 1 == len(of_kind(text.read(), Kind.UPCALL_ENTER))


def test_a_dispatch_without_handler_is_not_the_next_interrupts():
    text = Text().add(*dispatch(7, 30)[:1]).add("vfs_read <-x", flags=".....")
    guest = text.add("irq_handler_entry: irq=1 name=i8042").read()

    assert ([], 1) == (of_kind(guest, Kind.HANDLER_ENTER), guest.other_irqs)


def test_a_timer_is_a_run_even_if_nothing_tells_its_port():
    (run,) = of_kind(Text().add(*dispatch(1, 24, "timer0")[2:]).read(), Kind.HANDLER_ENTER)

    assert (24, None) == (run.irq, run.port)


def test_a_bind_of_the_timers_virq_tells_its_port():
    text = Text().add(call(1, 0, 2, 0), call(1, 0, 2, 9, rc=0), flags=".....")
    guest = text.add(*dispatch(1, 24, "timer2")[2:], cpu=2).read()

    assert [9] == [event.port for event in of_kind(guest, Kind.HANDLER_ENTER)]


def test_two_tracers_on_one_function_are_one_access():
    text = Text().add("evtchn_2l_unmask <-enable_dynirq", "evtchn_2l_unmask: (f+0x0/0x9) port=5")
    text.add("evtchn_2l_unmask: (f+0x0/0x9) port=6", "evtchn_2l_unmask <-enable_dynirq")
    text.add("evtchn_2l_unmask: (f+0x0/0x9) port=7", "evtchn_2l_unmask: (f+0x0/0x9) port=7")

    assert [5, 6, 7, 7] == [event.port for event in of_kind(text.read(), Kind.UNMASK)]


def test_an_interrupt_does_not_name_the_ports_of_the_task_below():
    text = Text().add("evtchn_fifo_mask <-set_affinity_irq", flags="d..4.")
    text.add(*dispatch(9, 31), "evtchn_fifo_unmask: (f) port=9")
    text.add(call(8, 5, 1), call(8, 5, 1, rc=0), flags="d..2.")

    assert [5] == [event.port for event in of_kind(text.read(), Kind.MASK)]


def test_a_mask_in_a_bind_or_an_unbind_is_of_its_port():
    text = Text()
    for event in (
        "bind_evtchn_to_irqhandler: (f) port=33",
        "evtchn_fifo_mask <-x",
        "bind_evtchn_to_irqhandler_ret: (g <- f) irq=52",
        "evtchn_fifo_mask <-disable_dynirq",
        "unbind_from_irqhandler: (f) irq=52",
        "evtchn_fifo_mask <-y",
    ):
        text.add(event, flags=".....")

    assert [33, 33, 33] == [event.port for event in of_kind(text.read(), Kind.MASK)]


def test_a_port_that_other_business_of_the_task_separates_is_not_guessed():
    text = Text().add("evtchn_fifo_mask <-disable_dynirq", call(4, 7), flags=".....")
    text.add("evtchn_fifo_unmask: (f) port=6", flags=".....")

    assert [None] == [event.port for event in of_kind(text.read(), Kind.MASK)]


def test_a_bind_that_makes_its_port_itself():
    text = Text().add("bind_interdomain_evtchn_to_irqhandler_lateeoi: (f) remote_port=4")
    text.add(call(0, 3, 4, 0), call(0, 3, 4, 41, rc=0))
    text.add("bind_interdomain_evtchn_to_irqhandler_lateeoi_ret: (g <- f) irq=60")

    assert [(41, 60)] == [(e.port, e.irq) for e in of_kind(text.read(), Kind.IRQ_BOUND)]


def test_binds_nest_and_a_lost_return_does_not_mix_them():
    text = Text().add("bind_evtchn_to_irqhandler: (f) port=5", "bind_evtchn_to_irq: (f) port=5")
    text.add("bind_evtchn_to_irqhandler_ret: (g <- f) irq=50")
    text.add("bind_evtchn_to_irq_ret: (g <- f) irq=51")

    assert [(5, 50)] == [(e.port, e.irq) for e in of_kind(text.read(), Kind.IRQ_BOUND)]


def test_an_unbind_whose_close_was_not_probed_ends_the_irq():
    text = Text().add(*dispatch(7, 30)).add("unbind_from_irqhandler: (f) irq=30", flags=".....")
    guest = text.add(*dispatch(9, 30)).read()

    assert [7, 9] == [event.port for event in of_kind(guest, Kind.HANDLER_ENTER)]


@pytest.mark.parametrize(
    ("line", "is_hvm"),
    [
        ("xen_evtchn_do_upcall <-__sysvec_xen_hvm_callback", True),
        ("xen_evtchn_do_upcall <-__xen_pv_evtchn_do_upcall", False),
        ("xen_hvm_evtchn_do_upcall <-__xen_pv_evtchn_do_upcall", False),
        ("evtchn_2l_handle_events <-xen_evtchn_do_upcall", None),
    ],
)
def test_the_callers_of_upcalls_tell_hvm_from_pv(line, is_hvm):
    assert Text().add(line).read().is_hvm is is_hvm


def test_a_text_without_flags_is_read_too():
    lines = [
        f"  bash-7     [000]{1000 + place}: {event}\n"
        for place, event in enumerate(
            [
                "function:             xen_evtchn_do_upcall <-- xen_pv",
                "handle_irq_for_port:  (ffffffff81664710) port=7",
                "function:             lateeoi_ack_dynirq",
                "function:             evtchn_fifo_mask",
                "function:             evtchn_fifo_clear_pending",
                "irq_handler_entry:    irq=30 name=dev",
            ],
        )
    ]
    guest = read_guest(parse_ftrace("t", lines), {})

    assert [Kind.UPCALL_ENTER, Kind.MASK, Kind.CLEAR, Kind.HANDLER_ENTER] == [
        event.kind for event in guest.events
    ]
    assert [7, 7, 7] == [event.port for event in guest.events[1:]]
