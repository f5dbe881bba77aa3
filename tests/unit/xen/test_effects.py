"""The difference in shared memory is told exactly, as few runs as there are."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evtrace.guest import bits
from evtrace.guest.scan import ScanRules, run_upcall
from evtrace.xen.abi import Errno, EvtchnOp, FormName, PortState
from evtrace.xen.effects import EffectKind
from evtrace.xen.machine import Machine
from evtrace.xen.memory import MASK_BASE, PENDING_BASE, SharedMemory, page_address

words = st.lists(st.integers(0, (1 << 32) - 1), min_size=4, max_size=4)


def expanded(effects, kind):
    """Ports and their new values, from runs."""
    return [
        (port + i, value)
        for found, _, port, count, value in (e for e in effects if e[0] == kind)
        for i in range(count)
    ]


@given(words, words, st.sampled_from([PENDING_BASE, MASK_BASE]), st.sampled_from([32, 64]))
def test_runs_of_bits_are_the_difference(old, new, base, word_bits):
    machine = Machine()
    domain = machine.create_domain(1, 1, word_bits=word_bits)
    domain.memory.words.update({base + i: word for i, word in enumerate(old)})
    domain.memory.write_many({base + i: word for i, word in enumerate(new)})
    kind = EffectKind.PENDING if base == PENDING_BASE else EffectKind.MASK
    effects = machine.take_effects()
    assert {effect[0] for effect in effects} <= {kind}
    assert expanded(effects, kind) == [
        (i * word_bits + bit, new[i] >> bit & 1)
        for i in range(4)
        for bit in range(word_bits)
        if (old[i] ^ new[i]) >> bit & 1
    ]
    runs = [effect[2:] for effect in effects]
    for (port, count, value), (next_port, _, next_value) in pairwise(runs):
        assert (port + count, value) != (next_port, next_value)


def test_neighbours_that_change_to_different_values_are_two_runs():
    machine = Machine()
    domain = machine.create_domain(1, 1)
    domain.memory.words[PENDING_BASE] = 0b0110
    domain.memory.write(PENDING_BASE, 0b1001)
    assert [effect[2:] for effect in machine.take_effects()] == [(0, 1, 1), (1, 2, 0), (3, 1, 1)]


def test_a_run_goes_on_in_the_next_word():
    machine = Machine()
    domain = machine.create_domain(1, 1)
    bits.mask_all(domain)
    assert [effect[1:] for effect in machine.take_effects()] == [(1, 0, 4096, 1)]


def test_what_was_written_back_is_no_difference():
    memory = SharedMemory()
    memory.write(5, 1)
    memory.write(5, 0)
    memory.write_many({6: 1})
    memory.write_many({6: 2})
    memory.write(7, 3)
    memory.write_many({7: 0})
    assert memory.take_changes() == [(6, 0, 2)]
    assert memory.take_changes() == []


def test_words_are_told_in_order_and_as_runs():
    machine = Machine()
    domain = machine.seed_domain(1, 1, FormName.FIFO)
    for number in (1, 2, 4):
        domain.seed_port(number, PortState.IPI)
    for number in (4, 2, 1):
        bits.mask(domain, number)
    assert [effect[2:] for effect in machine.take_effects()] == [
        (1, 2, 0x4000_0000),
        (4, 1, 0x4000_0000),
    ]


def fifo_domain(machine, *array_gfns):
    domain = machine.create_domain(1, 2)
    for vcpu in (1, 0):
        machine.hypercall(1, 0, EvtchnOp.INIT_CONTROL, (1, 128 * vcpu, vcpu))
    for gfn in array_gfns:
        machine.hypercall(1, 0, EvtchnOp.EXPAND_ARRAY, (gfn,))
    machine.take_effects()
    return domain


def test_a_page_lent_twice_changes_at_both_places():
    machine = Machine()
    domain = fifo_domain(machine, 2, 2)
    bits.mask(domain, 5)
    ports = [effect[2] for effect in machine.take_effects()]
    assert ports == [5, 1029]


def test_a_page_can_be_control_block_and_array():
    machine = Machine()
    domain = fifo_domain(machine, 1)
    bits.fill_page(domain, 1, 3)
    effects = machine.take_effects()
    assert effects[0] == (EffectKind.WORD, 1, 0, 1024, 3)
    blocks = [(EffectKind(effect[0]).name, *effect[1:]) for effect in effects[1:]]
    assert blocks == [
        entry
        for vcpu in (0, 1)
        for entry in [
            ("READY", 1, vcpu, 3),
            *(("HEAD", 1, vcpu, priority, 3) for priority in range(16)),
        ]
    ]


def test_guest_page_0_is_a_page():
    machine = Machine()
    domain = machine.create_domain(1, 1)
    machine.hypercall(1, 0, EvtchnOp.INIT_CONTROL, (0, 0, 0))
    domain.memory.write(page_address(0), 1)
    assert machine.take_effects() == [(EffectKind.READY, 1, 0, 1)]


def test_pages_that_xen_does_not_use_have_no_effect():
    machine = Machine()
    domain = fifo_domain(machine, 2)
    bits.fill_page(domain, 9, 7)
    assert machine.take_effects() == []
    assert domain.memory.read(page_address(9) + 1023) == 7
    machine.hypercall(1, 0, EvtchnOp.EXPAND_ARRAY, (9,))
    assert machine.take_effects() == []
    bits.fill_page(domain, 9, 8)
    assert machine.take_effects() == [(EffectKind.WORD, 1, 1024, 1024, 8)]


def test_a_page_beyond_the_last_is_not_written():
    machine = Machine()
    domain = machine.create_domain(1, 1)
    bits.fill_page(domain, domain.limits.gfns, 7)
    assert domain.memory.words == {domain.vcpus[0].mask_address: 0}


def test_bits_above_the_priorities_are_not_ready():
    machine = Machine()
    domain = fifo_domain(machine, 2)
    behind_the_heads = page_address(1) + 2 + 16
    domain.memory.write_many({page_address(1): 0xFFFF_0000, behind_the_heads: 5000})
    upcall = run_upcall(domain.vcpus[0], ScanRules(force=True))
    assert upcall is not None
    assert (upcall.handled, upcall.bad_heads, domain.vcpus[0].notes.ready) == ([], 0, 0)
    assert domain.memory.read(page_address(1)) == 0


def test_a_head_outside_the_array_is_counted():
    machine = Machine()
    domain = fifo_domain(machine, 2)
    domain.memory.write_many({page_address(1): 1, page_address(1) + 2: 5000})
    upcall = run_upcall(domain.vcpus[0], ScanRules(force=True))
    assert upcall is not None
    assert (upcall.handled, upcall.bad_heads, domain.vcpus[0].notes.ready) == ([], 1, 0)


@pytest.mark.parametrize("is_cloned", [False, True])
def test_a_clone_knows_who_holds_an_interrupt(is_cloned):
    machine = Machine()
    for domid in (1, 2, 3):
        machine.create_domain(domid, 1)
    machine.hypercall(1, 0, EvtchnOp.BIND_PIRQ, (5, 0))
    machine.hypercall(2, 0, EvtchnOp.BIND_PIRQ, (6, 1))
    asked = machine.clone() if is_cloned else machine
    rets = [asked.hypercall(3, 0, EvtchnOp.BIND_PIRQ, (pirq, 1)).ret for pirq in (5, 6)]
    assert rets == [-Errno.EBUSY, 0]
    assert machine.pirqs.owners[6] == ([2] if is_cloned else [2, 3])
