"""What guest kernels do by themselves: single writes, and where a scan goes on."""

import pytest

from evtrace.guest import bits
from evtrace.guest.scan import ScanRules, run_upcall
from evtrace.xen.abi import EvtchnOp, FormName, PortState, Virq
from evtrace.xen.domain import Domain
from evtrace.xen.effects import EffectKind
from evtrace.xen.machine import Machine
from evtrace.xen.memory import SharedMemory


def domain_with(ports: list[int], form: FormName = FormName.TWO_LEVEL) -> tuple[Machine, Domain]:
    machine = Machine()
    domain = machine.seed_domain(1, 1, form)
    for number in ports:
        domain.seed_port(number, PortState.IPI)
    return machine, domain


def handle(machine: Machine, ports: list[int], rules: ScanRules | None = None) -> list[int]:
    """Send to `ports`, run the upcall, list what was handled."""
    for number in ports:
        machine.hypercall(1, 0, EvtchnOp.SEND, (number,))
    found = run_upcall(machine.domains[1].vcpus[0], rules or ScanRules())
    assert found is not None
    return found.handled


def test_masking_all_words_keeps_what_else_they_hold():
    machine, domain = domain_with([1, 1500], FormName.FIFO)
    machine.hypercall(1, 0, EvtchnOp.SEND, (1500,))
    machine.take_effects()
    bits.mask_all(domain)
    assert [effect for effect in machine.take_effects() if effect[0] == EffectKind.WORD] == [
        (EffectKind.WORD, 1, 0, 1500, 0x4000_0000),
        (EffectKind.WORD, 1, 1500, 1, 0xE000_0000),
        (EffectKind.WORD, 1, 1501, 547, 0x4000_0000),
    ]


def test_never_written_words_are_zero():
    memory = SharedMemory()
    assert not memory.clear_bits(5, 1)
    assert not memory.set_bits(6, 1)
    assert memory.set_bits(6, 3)
    assert (memory.read(5), memory.read(6)) == (0, 3)


@pytest.mark.parametrize(
    ("handled", "word", "bit"), [([3], 0, 4), ([63], 1, 0), ([64], 1, 1), ([4095], 0, 0)]
)
def test_the_next_scan_starts_behind_the_port_handled_last(handled, word, bit):
    machine, domain = domain_with(handled)
    assert handle(machine, handled) == handled
    notes = domain.vcpus[0].notes
    assert (notes.word, notes.bit) == (word, bit)


def test_a_scan_goes_round():
    machine, _ = domain_with([1, 63, 64, 130])
    assert handle(machine, [63]) == [63]
    assert handle(machine, [1, 63, 64, 130]) == [64, 130, 1, 63]


def test_the_first_word_is_scanned_again_as_a_whole():
    machine, _ = domain_with([1, 5, 9])
    assert handle(machine, [5]) == [5]
    assert handle(machine, [1, 5, 9], ScanRules(clears=False)) == [9, 1, 5, 9]


def test_a_handler_that_clears_nothing_ends_a_simple_scan_of_its_word():
    machine, _ = domain_with([1, 5, 64])
    rules = ScanRules(round_robin=False, clears=False)
    assert handle(machine, [1, 5, 64], rules) == [1, 64]
    assert handle(machine, [1, 5, 64], ScanRules(round_robin=False, masks=True, force=True)) == []


@pytest.mark.parametrize(("rules", "order"), [({}, [9, 1]), ({"round_robin": False}, [1, 9])])
def test_the_timer_comes_first_in_linux(rules, order):
    machine, domain = domain_with([1])
    domain.seed_port(9, PortState.VIRQ, virq=Virq.TIMER)
    machine.raise_vcpu_virq(1, 0, Virq.TIMER)
    assert handle(machine, [1], ScanRules(**rules)) == order


def test_a_clone_knows_who_handles_a_virq():
    machine, _ = domain_with([])
    machine.set_virq_handler(1, Virq.CONSOLE)
    clone = machine.clone()
    assert clone.hypercall(1, 0, EvtchnOp.BIND_VIRQ, (Virq.CONSOLE, 0)).ret == 0
    clone.destroy_domain(1)
    assert (machine.virq_handlers, clone.virq_handlers) == ({Virq.CONSOLE: 1}, {})
