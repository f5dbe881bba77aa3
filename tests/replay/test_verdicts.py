"""Each cause, route and fate: a timeline that produces it, and one that withholds it."""

import pytest

from evtrace.timeline import Kind, RecordClass
from evtrace.tracefile.family import ChannelBits, GuestHabits
from evtrace.verdicts import Cause, Fate, Route
from evtrace.xen.abi import DOMID_SELF, EvtchnOp
from tests.timeline_builder import INTERDOMAIN, PIRQ, UNBOUND, VIRQ, Script, connected


def only_run(results):
    assert len(results.runs) == 1
    return results.runs[0]


def fates(results):
    return [send.fate for send in results.sends]


def test_a_send_of_the_peer_is_the_cause():
    script = connected()
    sent = script.send(10, 12, 1, dom=1)
    script.run(20, 1)

    results = script.replay()

    run = only_run(results)
    assert (Cause.SEND, "observed") == (run.cause, run.evidence)
    assert [sent.seq] == [part.seq for part in run.contributors]
    assert fates(results) == [Fate.DELIVERED]
    assert results.sends[0].run_seq == run.seq


def test_a_hypercall_of_the_peer_that_no_probe_saw_may_have_been_the_send():
    script = connected()
    script.add(12, Kind.HYPERCALL, dom=1)
    script.run(20, 1)
    script.run(30, 1)

    results = script.replay()

    first, second = results.runs
    assert Cause.UNKNOWN is first.cause
    assert "a hypercall of d1 at 12" in first.reason
    assert Cause.UNPROVOKED is second.cause
    assert 1 == len(results.divergences)


def test_a_port_may_have_been_opened_by_a_hypercall_of_a_domain_without_probes():
    script = connected()
    script.add(12, Kind.HYPERCALL, dom=1)
    bind = (1, 9)
    script.call(20, 22, EvtchnOp.BIND_INTERDOMAIN, *bind, out=(2,))

    results = script.replay((1, RecordClass.CALL))

    assert [] == results.divergences
    assert {"d1:9 was not seen before": 1} == dict(results.adoptions)


def test_two_sends_before_one_run_coalesce():
    script = connected()
    script.send(10, 12, 1, dom=1)
    script.send(13, 15, 1, dom=1)
    script.run(20, 1)

    results = script.replay()

    assert fates(results) == [Fate.DELIVERED, Fate.COALESCED]
    assert len(only_run(results).contributors) == 2


def test_a_send_whose_handler_starts_before_it_returns():
    script = connected()
    script.send(10, 100, 1, dom=1)
    script.run(20, 1)

    assert only_run(script.replay()).cause is Cause.SEND


def test_a_send_that_took_effect_after_the_clearing_is_given_to_the_next_run():
    script = connected()
    script.send(10, 12, 1, dom=1)
    late = script.send(15, 100, 1, dom=1)
    script.run(20, 1)
    script.run(110, 1)

    results = script.replay()

    first, second = results.runs
    assert (Cause.SEND, Cause.SEND) == (first.cause, second.cause)
    assert [late.seq] == [part.seq for part in second.contributors]
    assert fates(results) == [Fate.DELIVERED, Fate.DELIVERED]


def test_an_ipi():
    script = connected()
    script.send(10, 12, 2)
    script.run(20, 2, vcpu=1)

    results = script.replay()

    assert only_run(results).cause is Cause.IPI
    assert fates(results) == [Fate.DELIVERED]


def test_a_run_that_nothing_provoked_is_a_divergence():
    script = connected()
    script.run(20, 1)

    results = script.replay()

    assert only_run(results).cause is Cause.UNPROVOKED
    assert len(results.divergences) == 1


def test_it_is_unknown_where_the_peers_calls_were_not_captured():
    script = connected()
    script.run(20, 1)

    results = script.replay((1, RecordClass.CALL))

    run = only_run(results)
    assert (Cause.UNKNOWN, "no CALL of d1") == (run.cause, run.reason)
    assert results.divergences == []


@pytest.mark.parametrize(("state", "cause"), [(VIRQ, Cause.VIRQ), (PIRQ, Cause.PIRQ)])
def test_interrupts_are_inferred_from_the_binding(state, cause):
    script = Script()
    script.snapshot(1, 0, (3, state, 0, 0, 9))
    script.run(20, 3)

    run = only_run(script.replay())

    assert (cause, "inferred(binding)") == (run.cause, run.evidence)


def test_an_interrupts_record_makes_it_observed_even_if_written_late():
    script = Script()
    script.snapshot(1, 0, (3, PIRQ, 0, 0, 9))
    script.add(10, Kind.IRQ_HANDLED, irq=9)
    script.run(20, 3)
    script.run(30, 3)
    script.add(40, Kind.IRQ_HANDLED, irq=9, a0=25)

    results = script.replay()

    assert [run.evidence for run in results.runs] == ["observed", "observed"]


def bound(script):
    """Let d0 bind to the waiting d1:1 at 10."""
    script.snapshot(1, 0)
    script.snapshot(1, 1, (1, UNBOUND, 0, 0, 0))
    script.call(10, 12, EvtchnOp.BIND_INTERDOMAIN, 1, 1, out=(1,))


def test_the_run_after_a_bind_is_xens_own():
    script = Script()
    bound(script)
    script.add(13, Kind.UNMASK, port=1)
    script.run(20, 1)

    run = only_run(script.replay())

    assert (Cause.BIND_CONSERVATIVE, "observed") == (run.cause, run.evidence)
    assert [(run.dom, run.port)] == [(part.dom, part.port) for part in run.contributors]
    assert run.routes == (Route.UNMASK_RESEND,)


def test_it_is_inferred_where_the_peers_sends_were_not_captured():
    script = Script()
    bound(script)
    script.run(20, 1)

    run = only_run(script.replay((1, RecordClass.CALL)))

    assert run.cause is Cause.BIND_CONSERVATIVE
    assert run.evidence == "inferred(no send seen; no CALL of d1)"


def test_bind_and_send_merge():
    script = Script()
    bound(script)
    script.send(14, 15, 1, dom=1)
    script.run(20, 1)

    results = script.replay()

    assert only_run(results).cause is Cause.BIND_MERGED
    assert fates(results) == [Fate.COALESCED]


def test_an_event_linked_before_the_port_moved_comes_from_the_old_queue():
    script = connected()
    script.send(10, 12, 1, dom=1)
    script.call(13, 14, EvtchnOp.BIND_VCPU, 1, 1)
    script.run(20, 1, vcpu=0)

    assert only_run(script.replay()).routes == (Route.FIFO_OLD_QUEUE,)


def test_there_are_no_old_queues_in_the_two_level_form():
    script = Script()
    script.snapshot(1, 0, (1, INTERDOMAIN, 0, 1, 1), fifo=False)
    script.snapshot(1, 1, (1, INTERDOMAIN, 0, 0, 1), fifo=False)
    script.send(10, 12, 1, dom=1)
    script.call(13, 14, EvtchnOp.BIND_VCPU, 1, 1)
    script.run(20, 1, vcpu=0)

    run = only_run(script.replay())

    assert (run.cause, run.routes) == (Cause.SEND, ())


def test_an_event_set_while_masked_is_resent_by_the_unmask():
    script = connected()
    script.add(5, Kind.MASK, port=1)
    script.send(10, 12, 1, dom=1)
    script.add(15, Kind.UNMASK, port=1)
    script.call(16, 17, EvtchnOp.UNMASK, 1)
    script.run(20, 1)

    assert only_run(script.replay()).routes == (Route.UNMASK_RESEND,)


def test_the_guests_own_retrigger():
    script = connected()
    script.add(10, Kind.SET, port=1)
    script.run(20, 1)

    assert only_run(script.replay()).cause is Cause.RETRIGGER_LOCAL


def test_a_second_handler_for_one_event():
    script = connected()
    script.send(10, 12, 1, dom=1)
    script.run(20, 1, ends=False)
    script.run(30, 1, vcpu=1)

    assert [run.cause for run in script.replay().runs] == [Cause.SEND, Cause.DOUBLE_HANDLE]


def test_the_last_call_while_an_irq_is_freed():
    script = connected()
    script.add(10, Kind.IRQ_UNBOUND, port=1, irq=101)
    script.add(12, Kind.HANDLER_ENTER, port=1, irq=101)

    assert only_run(script.replay()).cause is Cause.UNBIND_LAST_CALL


def test_a_peer_that_sent_and_closed():
    script = connected()
    script.send(10, 12, 1, dom=1)
    script.call(13, 14, EvtchnOp.CLOSE, 1, dom=1)
    script.run(20, 1)

    assert only_run(script.replay()).cause is Cause.PEER_CLOSE_RESIDUE


def test_pending_since_before_the_capture():
    script = Script()
    script.snapshot(1, 0, (1, INTERDOMAIN, 0, 1, 1))
    script.rows[-1] = script.rows[-1]._replace(a1=script.rows[-1].a1 | 0x200)
    script.snapshot(1, 1, (1, INTERDOMAIN, 0, 0, 1))
    script.run(20, 1)

    run = only_run(script.replay())

    assert (Cause.UNKNOWN, "the port was pending already when the capture began") == (
        run.cause,
        run.reason,
    )


def test_a_send_on_an_unbound_port_is_dropped():
    script = Script()
    script.snapshot(1, 0, (1, UNBOUND, 0, 1, 0))
    script.send(10, 12, 1)

    assert fates(script.replay()) == [Fate.DROP_UNBOUND]


def test_a_send_on_a_closed_port_is_refused():
    script = connected()
    script.send(10, 12, 9, rc=-22)

    results = script.replay()

    assert fates(results) == [Fate.SEND_INVALID]
    assert results.divergences == []


def test_a_send_held_by_the_mask():
    script = connected()
    script.add(5, Kind.MASK, port=1)
    script.send(10, 12, 1, dom=1)

    assert fates(script.replay()) == [Fate.HELD_MASKED]


def test_a_send_that_the_capture_ended_upon():
    script = connected()
    script.send(10, 12, 1, dom=1)

    assert fates(script.replay()) == [Fate.PENDING_AT_END]


def test_a_send_that_later_upcalls_passed_over_is_lost():
    script = connected()
    script.send(10, 12, 1, dom=1)
    for tsc in (20, 30):
        script.add(tsc, Kind.UPCALL_ENTER)

    assert fates(script.replay()) == [Fate.LOST]


def test_a_send_to_a_domain_whose_handlers_were_not_captured_is_unknown():
    script = connected()
    script.send(10, 12, 1)

    results = script.replay((1, RecordClass.HANDLER))

    assert [(Fate.UNKNOWN, "no HANDLER of d1")] == [(s.fate, s.reason) for s in results.sends]


def test_a_send_to_a_port_that_its_owner_closes():
    script = connected()
    script.send(10, 12, 1, dom=1)
    script.call(13, 14, EvtchnOp.CLOSE, 1)

    assert fates(script.replay()) == [Fate.CLOSED]


def test_upcalls_without_a_handler_are_counted_per_domain():
    script = connected()
    script.send(10, 12, 1, dom=1)
    script.run(20, 1)
    script.add(30, Kind.UPCALL_ENTER)
    script.add(40, Kind.UPCALL_EXIT)

    results = script.replay()

    assert {0: 2} == dict(results.upcalls)
    assert {0: 1} == dict(results.empty_upcalls)


def test_a_clearing_that_was_not_seen_is_inferred_from_the_run():
    script = connected()
    script.send(10, 12, 1, dom=1)
    script.run(20, 1, clear=False)

    run = only_run(script.replay())

    assert run.cause is Cause.SEND
    assert run.evidence == "inferred(the clearing of its pending bit was not seen)"


def test_a_send_that_the_hypervisor_takes():
    script = connected()
    last = script.rows[-1]  # d1:1
    script.rows[-1] = last._replace(a1=last.a1 | ChannelBits.XEN_CONSUMER)
    script.send(10, 12, 1)

    results = script.replay()

    assert fates(results) == [Fate.XEN_CONSUMER]
    assert results.divergences == []


def test_a_reset_makes_a_port_forget_its_runs():
    script = connected()
    script.send(10, 12, 1, dom=1)
    script.run(20, 1, ends=False)
    script.call(30, 31, EvtchnOp.RESET, 0x7FF0)
    script.call(32, 33, EvtchnOp.BIND_IPI, 0, out=(1,))
    script.run(40, 1, vcpu=1)

    causes = [run.cause for run in script.replay().runs]

    assert causes == [Cause.SEND, Cause.UNPROVOKED]  # no second handler of the run before the reset


def unmasked_in_memory(*, fifo=True):
    """A guest clears the mask of a pending port and asks nobody."""
    script = Script()
    script.snapshot(1, 0, (1, INTERDOMAIN, 0, 1, 1), fifo=fifo)
    script.snapshot(1, 1, (1, INTERDOMAIN, 0, 0, 1))
    script.add(5, Kind.MASK, port=1)
    script.send(10, 12, 1, dom=1)
    script.add(15, Kind.UNMASK, port=1)
    return script


def test_an_event_that_a_guest_unmasks_without_a_look():
    script = unmasked_in_memory(fifo=False)
    script.send(20, 22, 1, dom=1)  # finds the bit set
    for tsc in (30, 40, 50):
        script.add(tsc, Kind.UPCALL_ENTER)
        script.add(tsc + 1, Kind.UPCALL_EXIT)

    results = script.replay(habits={0: GuestHabits(0)})

    reason = "the guest unmasked it in memory and did not look for a waiting event"
    assert [(Fate.NOT_ANNOUNCED, reason)] * 2 == [(one.fate, one.reason) for one in results.sends]


def test_one_that_linux_unmasks_is_announced():
    assert fates(unmasked_in_memory(fifo=False).replay()) == [Fate.PENDING_AT_END]


def test_in_the_fifo_form_only_the_hypercall_announces_it():
    script = unmasked_in_memory()
    assert fates(script.replay()) == [Fate.NOT_ANNOUNCED]

    script.call(16, 17, EvtchnOp.UNMASK, 1)
    assert fates(script.replay()) == [Fate.PENDING_AT_END]


def test_a_guest_in_an_upcall_may_have_taken_it_just_now():
    script = unmasked_in_memory()
    script.call(16, 17, EvtchnOp.UNMASK, 1)
    script.add(20, Kind.UPCALL_ENTER)
    script.add(21, Kind.CONSUME, port=1)
    assert fates(script.replay()) == [Fate.PENDING_AT_END]

    script.add(22, Kind.UPCALL_EXIT)
    assert fates(script.replay()) == [Fate.NOT_ANNOUNCED]


def fifo_starts(*, expands, vcpu=1):
    """d3 starts with two vCPUs and a control block for the first."""
    script = Script()
    script.add(5, Kind.DOMAIN_CREATED, 3, 0xFFFF, a0=2)
    script.call(6, 7, EvtchnOp.INIT_CONTROL, 9, 0, 0, 0, out=(17,), dom=3)
    if expands:
        script.call(8, 9, EvtchnOp.EXPAND_ARRAY, 10, 0, dom=3)
    script.call(10, 11, EvtchnOp.BIND_IPI, vcpu, out=(1,), dom=3)
    script.send(20, 21, 1, dom=3)
    return script


@pytest.mark.parametrize(
    ("expands", "vcpu", "fate"),
    [
        (True, 1, Fate.DROP_NO_CONTROL_BLOCK),
        (True, 0, Fate.HELD_MASKED),
        (False, 0, Fate.HELD_NO_WORD),
        (False, 1, Fate.HELD_NO_WORD),
    ],
)
def test_what_a_fifo_guest_has_not_lent_to_xen(expands, vcpu, fate):
    results = fifo_starts(expands=expands, vcpu=vcpu).replay()

    assert fates(results) == [fate]
    assert results.divergences == []


def test_before_4_17_the_bit_was_set_without_a_control_block():
    assert fates(fifo_starts(expands=True).replay(xen="4.16")) == [Fate.HELD_MASKED]


@pytest.mark.parametrize(("vcpu", "fate"), [(0, Fate.HELD_MASKED), (1, Fate.DROP_NO_CONTROL_BLOCK)])
def test_what_xen_kept_is_raised_or_dropped_when_the_word_is_there(vcpu, fate):
    script = fifo_starts(expands=False, vcpu=vcpu)
    script.call(30, 31, EvtchnOp.EXPAND_ARRAY, 10, 0, dom=3)

    assert fates(script.replay()) == [fate]


@pytest.mark.parametrize("ends", ["reset", "destroyed"])
def test_a_send_to_a_port_that_is_closed_with_all_others(ends):
    script = connected()
    script.send(10, 12, 1, dom=1)
    if ends == "reset":
        script.call(13, 14, EvtchnOp.RESET, DOMID_SELF)
    else:
        script.add(13, Kind.DOMAIN_DESTROYED, 0, 0xFFFF)

    (send,) = script.replay().sends

    assert send.fate is Fate.CLOSED
    assert ends in send.reason


@pytest.mark.parametrize(("sent", "routes"), [(15, ()), (22, (Route.UPCALL_COALESCED,))])
def test_an_event_that_an_upcall_under_way_takes(sent, routes):
    script = connected()
    script.add(20, Kind.UPCALL_ENTER)
    script.send(sent, sent + 1, 1, dom=1)
    script.add(30, Kind.CLEAR, port=1)
    script.add(31, Kind.HANDLER_ENTER, port=1, irq=101)

    assert only_run(script.replay()).routes == routes


def test_without_upcalls_captured_none_is_under_way():
    script = connected()
    script.send(22, 23, 1, dom=1)
    script.add(30, Kind.CLEAR, port=1)
    script.add(31, Kind.HANDLER_ENTER, port=1, irq=101)

    assert only_run(script.replay((0, RecordClass.UPCALL))).routes == ()
