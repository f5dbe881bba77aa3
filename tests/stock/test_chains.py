"""Wake chains in tiny traces: who woke whom, by what, and what followed."""

import pytest

from evtrace.analysis.stock.names import VM_EXIT
from evtrace.tracefile.records import encode
from tests.stock.found import find, vcpu
from tests.tinytrace import (
    BLOCK,
    BLOCKED,
    INJ_VIRQ,
    RUNNABLE,
    RUNNING,
    VMENTRY,
    VMEXIT,
    VMMCALL,
    hypercall,
    lost,
    runstate,
    tiny_trace,
    wake,
    window,
)

IDLE = 32767
SEND, IRET, DOMCTL, SET_TIMER = 32, 23, 36, 15
D0V0, D1V0 = vcpu(0, 0), vcpu(1, 0)


def irq(number, began, ended, tsc):
    return encode(0x802008, [number, began, ended], tsc)


def caller(*records):
    """Give pCPU 0, where d0v0 runs from 10 on."""
    return window(0, runstate(0, 0, RUNNABLE, RUNNING, 10), *records)


def woken(tsc):
    """Give the records of a wake-up of d1v0, which sleeps."""
    return wake(1, 0, tsc), runstate(1, 0, BLOCKED, RUNNABLE, tsc + 1)


def target(*records, at=200):
    """Give pCPU 1, where d1v0 runs from `at` on, in place of the idle vCPU."""
    switch = (runstate(IDLE, 1, RUNNING, RUNNABLE, at), runstate(1, 0, RUNNABLE, RUNNING, at))
    return window(1, *switch, *records)


@pytest.fixture
def found(tmp_path):
    def of(*windows, batch=1 << 17):
        path = tmp_path / "tiny.bin"
        path.write_bytes(tiny_trace(*windows))
        return find(path, batch)

    return of


def test_a_hypercall_wakes_a_vcpu_that_runs_elsewhere(found):
    (chain,) = found(
        caller(hypercall(SEND, 100), *woken(120), hypercall(IRET, 130)),
        target(hypercall(IRET, 230)),
    ).chains

    assert (D0V0, SEND, 100) == (chain.runner, chain.by, chain.led_tsc)
    assert (120, D1V0, True) == (chain.tsc, chain.target, chain.effective)
    assert (200, 230, None) == (chain.running_tsc, chain.bound_tsc, chain.entry_tsc)


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_it_does_not_matter_where_a_batch_ends(found, batch):
    windows = (
        caller(hypercall(SEND, 100), *woken(120), irq(5, 90, 125, 126), hypercall(IRET, 130)),
        target(hypercall(SEND, 230), runstate(1, 0, RUNNING, BLOCKED, 300)),
    )

    whole, parts = found(*windows), found(*windows, batch=batch)
    assert (whole.chains, whole.waits) == (parts.chains, parts.waits)


def test_a_wakeup_of_one_who_is_awake_has_no_effect(found):
    (chain,) = found(caller(hypercall(SEND, 100), wake(1, 0, 120)), target(at=50)).chains

    assert (False, None) == (chain.effective, chain.running_tsc)


def test_an_interrupt_is_recorded_after_what_it_woke(found):
    (chain,) = found(caller(*woken(120), irq(24, 110, 125, 126)), target()).chains

    assert (24, 110, None) == (chain.irq, chain.led_tsc, chain.by)


def test_an_interrupt_has_not_woken_what_came_before_it(found):
    (chain,) = found(
        caller(hypercall(SEND, 90), *woken(100), irq(24, 110, 125, 126)), target()
    ).chains

    assert (None, SEND) == (chain.irq, chain.by)


def test_times_of_interrupts_wrap(found):
    base = (7 << 32) + 0xFFFFFFF0
    began, ended = base + 5, base + 0x40
    (chain,) = found(
        window(0, *woken(base + 0x20), irq(3, began & 0xFFFFFFFF, ended & 0xFFFFFFFF, ended)),
    ).chains

    assert (3, began) == (chain.irq, chain.led_tsc)


def test_an_event_channel_hypercall_wakes_one_vcpu(found):
    chains = found(caller(hypercall(SEND, 100), *woken(120), wake(1, 1, 150))).chains

    assert [SEND, None] == [chain.by for chain in sorted(chains, key=lambda c: c.tsc)]


@pytest.mark.parametrize(
    ("led", "by"),
    [
        ([hypercall(DOMCTL, 100)], DOMCTL),
        ([hypercall(SET_TIMER, 100)], None),
        ([hypercall(SEND, 90), hypercall(IRET, 100)], None),
        ([hypercall(SEND, 90), encode(0x201106, [1, 2], 100)], None),
        ([hypercall(SEND, 90), encode(BLOCK, [0, 0], 100)], None),
        ([encode(VMEXIT, [0x38, 0, 0], 100)], VM_EXIT + 0x38),
        ([encode(VMEXIT, [0x01, 0, 0], 100)], None),
        ([encode(VMEXIT, [0x38, 0, 0], 90), encode(VMENTRY, [], 100)], None),
        ([encode(VMEXIT, [0x81, 0, 0], 100), encode(VMMCALL, [SEND], None)], SEND),
        ([], None),
    ],
)
def test_what_led_to_a_wakeup_is_the_last_record_that_could(found, led, by):
    (chain,) = found(caller(*led, *woken(120)), target()).chains

    assert by == chain.by


def test_an_hvm_guest_is_entered_with_a_vector(found):
    (chain,) = found(
        caller(hypercall(SEND, 100), *woken(120)),
        target(
            encode(INJ_VIRQ, [0xF3, 0], None),
            encode(VMENTRY, [], 240),
            encode(VMEXIT, [1, 0, 0], 300),
            encode(INJ_VIRQ, [0x30, 0], None),
            encode(VMENTRY, [], 320),
        ),
    ).chains

    assert (0xF3, 240, None) == (chain.vector, chain.entry_tsc, chain.bound_tsc)


def test_a_vcpu_that_stops_before_it_enters_leaves_no_arrival(found):
    (chain,) = found(
        caller(hypercall(SEND, 100), *woken(120)),
        target(
            runstate(1, 0, RUNNING, RUNNABLE, 210),
            runstate(1, 0, RUNNABLE, RUNNING, 220),
            hypercall(IRET, 230),
        ),
    ).chains

    assert (200, None) == (chain.running_tsc, chain.bound_tsc)


def test_a_chain_across_a_gap_is_excluded(found):
    (chain,) = found(
        caller(hypercall(SEND, 100), *woken(120), hypercall(IRET, 130)),
        target(at=200),
        window(2, lost(5, IDLE, 2, 150, 160)),
    ).chains

    assert (True, None) == (chain.excluded, chain.running_tsc)


def test_a_wakeup_whose_effect_may_be_lost_is_excluded(found):
    (chain,) = found(caller(hypercall(SEND, 100), wake(1, 0, 120), lost(5, 0, 0, 121, 150))).chains

    assert (True, False) == (chain.excluded, chain.effective)


def test_the_wait_is_split_by_who_held_the_cpu(found):
    waits = found(
        caller(hypercall(SEND, 100), *woken(120)),
        window(
            1,
            runstate(IDLE, 1, RUNNING, RUNNABLE, 50),
            runstate(2, 0, RUNNABLE, RUNNING, 50),
            runstate(2, 0, RUNNING, BLOCKED, 140),
            runstate(IDLE, 1, RUNNABLE, RUNNING, 143),
            runstate(IDLE, 1, RUNNING, RUNNABLE, 150),
            runstate(1, 0, RUNNABLE, RUNNING, 152),
        ),
    ).waits

    (wait,) = [one for one in waits if one.vcpu == D1V0]
    expected = {vcpu(2, 0): 140 - 121, vcpu(IDLE, 1): 7, "xen": 5}
    assert (121, 152, expected) == (wait.start, wait.end, dict(wait.held))


def test_who_held_the_cpu_before_its_first_switch_is_not_known(found):
    waits = found(
        caller(hypercall(SEND, 100), *woken(120)), window(1, runstate(1, 0, RUNNABLE, RUNNING, 150))
    ).waits

    assert [{"not known": 29}] == [dict(one.held) for one in waits if one.vcpu == D1V0]


def test_tscs_that_disagree_are_told_with_the_one_that_is_ahead(found):
    seen = found(
        caller(hypercall(SEND, 100), *woken(320)),
        window(1, runstate(1, 0, RUNNING, BLOCKED, 50), runstate(1, 0, RUNNABLE, RUNNING, 200)),
    )

    assert [(0, 1, 1, 1, 121, None, None, 200)] == seen.machine.order.frame().rows()
    assert [(True, True)] == [(chain.effective, chain.excluded) for chain in seen.chains]


def test_changes_that_follow_are_no_disagreement(found):
    seen = found(caller(hypercall(SEND, 100), *woken(120)), target())

    assert (0, []) == (seen.machine.order.odd, seen.machine.order.frame().rows())
