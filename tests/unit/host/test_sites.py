"""The finder of call sites, on functions assembled by hand."""

import pytest

from evtrace.tracer.host.code import Code, Function, Text
from evtrace.tracer.host.sites import find_sites
from tests.unit.host import assembled as a


def the_site(*parts, **kernel):
    (site,) = find_sites(a.kernel(*parts, **kernel)).sites
    return site


def test_the_probe_stands_on_the_instruction_before_a_static_call():
    site = the_site(a.LEA_RSI_RSP_8, a.MOV_EDI_SEND, a.MOV_EAX_EVTCHN, a.CALL, a.RET)

    assert ("notify_14", 10, 20) == (site.name, site.before, site.behind)
    assert "%di:u32" == site.cmd
    assert ("+0(%si):x32", "+4(%si):x32", "+20(%si):x32") == (*site.words[:2], site.words[5])


@pytest.mark.parametrize(
    ("loads", "first"),
    [(a.MOV_RSI_RSP, "+0(%sp):x32"), (a.LEA_RSI_RSP_8, "+8(%sp):x32")],
)
def test_where_the_structure_is_when_rsi_is_not_loaded_yet(loads, first):
    site = the_site(a.MOV_EDI_SEND, a.MOV_EAX_EVTCHN, loads, a.CALL, a.RET)

    assert 10 == site.before
    assert first == site.words[0]


def test_an_operation_that_is_not_loaded_yet_is_a_number():
    site = the_site(a.MOV_EAX_EVTCHN, a.MOV_RSI_RSP, a.MOV_EDI_SEND, a.CALL, a.RET)

    assert "\\4:u32" == site.cmd


def test_an_argument_stored_behind_the_probe_is_taken_from_its_register():
    site = the_site(a.MOV_EAX_EVTCHN, a.MOV_RSI_RSP, a.STORE_EBX_AT_RSP_4, a.CALL, a.RET)

    assert 5 == site.before
    assert ("+0(%sp):x32", "%bx:x32", "+8(%sp):x32") == site.words[:3]


def test_half_a_word_stored_behind_the_probe_leaves_the_words_out():
    site = the_site(a.MOV_EAX_EVTCHN, a.LEA_RSI_RSP_8, a.STORE_BP_AT_RSP_10, a.CALL, a.RET)

    assert 10 == site.before
    assert ("%di:u32", ()) == (site.cmd, site.words)


def test_a_store_to_an_unknown_place_is_not_stepped_over():
    site = the_site(a.MOV_EAX_EVTCHN, a.MOV_RSI_RSP, a.STORE_AL_AT_R12, a.CALL, a.RET)

    assert () == site.words


def test_a_call_into_the_hypercall_page_is_probed_itself():
    site = the_site(a.MOV_RSI_RSP, a.MOV_EDI_SEND, a.CALL_PAGE, a.RET)

    assert (8, 13) == (site.before, site.behind)
    assert ("%di:u32", "+0(%si):x32") == (site.cmd, site.words[0])


def test_other_hypercalls_are_counted():
    found = find_sites(a.kernel(a.MOV_EAX_SCHED, a.CALL, a.RET))

    assert ((), 1) == (found.sites, found.other_hypercalls)


def test_the_number_may_come_through_a_register():
    mov_ebx_evtchn, mov_eax_ebx = b"\xbb\x20\0\0\0", b"\x89\xd8"
    site = the_site(mov_ebx_evtchn, a.MOV_EAX_SCHED, a.CALL, mov_eax_ebx, a.CALL, a.RET)

    assert not site.is_any
    assert "+0(%si):x32" == site.words[0]


def test_a_number_told_at_run_time_is_filtered_by_before_and_behind():
    mov_rax_from_stack = b"\x48\x8b\x84\x24\x80\0\0\0"
    site = the_site(mov_rax_from_stack, a.NOP, a.NOP, a.NOP, a.CALL, a.RET)

    assert site.is_any
    assert 0 == site.before, "the kernel may patch what stands in for stac"
    assert ("+128(%sp):u32", "+u0(%si):x32") == (site.op, site.words[0])


def test_a_number_told_by_the_caller_is_not_understood():
    found = find_sites(a.kernel(a.MOV_RSI_RSP, b"\x89\xc8", a.CALL, a.RET))

    assert ((), ("notify+0x5",)) == (found.sites, found.not_understood)


def test_a_jump_to_the_call_leaves_no_place_for_a_probe_before_it():
    jump_to_the_call = b"\x74\x05"  # je over MOV_EDI_SEND
    site = the_site(a.MOV_EAX_EVTCHN, jump_to_the_call, a.MOV_EDI_SEND, a.CALL, a.RET)

    assert site.before is None
    assert 17 == site.behind


def test_a_call_that_two_branches_share_with_two_numbers_is_not_understood():
    jump_to_the_call = b"\xeb\x05"
    found = find_sites(a.kernel(a.MOV_EAX_SCHED, jump_to_the_call, a.MOV_EAX_EVTCHN, a.CALL, a.RET))

    assert ((), ("notify+0xc",)) == (found.sites, found.not_understood)


def test_a_number_that_a_loop_keeps_in_a_register():
    mov_ebx_evtchn, mov_eax_ebx, back_to_the_top = b"\xbb\x20\0\0\0", b"\x89\xd8", b"\x75\xf2"
    site = the_site(mov_ebx_evtchn, a.MOV_EDI_SEND, mov_eax_ebx, a.CALL, back_to_the_top, a.RET)

    assert (10, 17, 4) == (site.before, site.behind, site.constant)


def test_what_other_branches_come_to_is_told():
    over_the_call = b"\x74\x0a"
    alone = the_site(a.MOV_EDI_SEND, a.MOV_EAX_EVTCHN, a.CALL, a.RET)
    shared = the_site(a.MOV_EDI_SEND, over_the_call, a.MOV_EAX_EVTCHN, a.CALL, a.RET)

    assert (False, True) == (alone.is_shared, shared.is_shared)


def test_jumps_of_a_functions_cold_part_count():
    warm = a.assembled(a.MOV_EDI_SEND, a.MOV_EAX_EVTCHN, a.CALL, a.RET)
    cold = b"\xeb" + bytes([256 - 2 - len(warm) + 10])  # to the call
    functions = [
        Function("f", "", a.BASE, len(warm)),
        Function("f.cold", "", a.BASE + len(warm), len(cold)),
    ]
    code = Code([Text("", a.BASE, warm + cold)], functions, frozenset({a.ENTRY}))

    (site,) = find_sites(code).sites

    assert site.before is None


def test_bytes_inside_another_instruction_are_no_call():
    hidden = b"\x48\xb8" + a.assembled(a.CALL, address=a.BASE + 2) + b"\0\0\0"  # movabs

    found = find_sites(a.kernel(hidden, a.RET))

    assert ((), 0) == (found.sites, found.other_hypercalls)


def test_names_that_kprobes_refuse_are_changed():
    site = the_site(a.MOV_EAX_EVTCHN, a.CALL, name="__startup_pirq.isra.0")

    assert "__startup_pirq_isra_0_a" == site.name
