"""Probes: the lines for the kernel."""

from evtrace.tracer.host.probes import call_probes, function_probes, traced_functions
from evtrace.tracer.host.sites import find_sites
from tests.unit.host import assembled as a

SEND = (a.MOV_RSI_RSP, a.MOV_EDI_SEND, a.MOV_EAX_EVTCHN, a.CALL, a.RET)


def probes(*parts, **kernel):
    code = a.kernel(*parts, **kernel)
    return list(call_probes(find_sites(code).sites, code.origin))


def test_a_pair_around_a_call():
    before, behind = probes(*SEND)

    assert (
        "p:evtrace/notify_12_pre notify+8 cmd=%di:u32 w0=+0(%si):x32 w1=+4(%si):x32 "
        "w2=+8(%si):x32 w3=+12(%si):x32 w4=+16(%si):x32 w5=+20(%si):x32"
    ) == before.definition
    assert behind.definition.startswith(
        "p:evtrace/notify_12_post notify+18 cmd=%di:u32 rc=%ax:s32 w0=+0(%si):x32"
    )


def test_a_place_in_a_module():
    before, _ = probes(*SEND, module="xen_evtchn")

    assert "xen_evtchn:notify+8" == before.definition.split()[1]


def test_a_name_of_several_functions_is_counted_from_the_kernels_start():
    before, behind = probes(*SEND, is_unique=False)

    assert ("_text+4104", "_text+4114") == (
        before.definition.split()[1],
        behind.definition.split()[1],
    )


def test_what_programs_ask_for_is_filtered_and_read_from_their_memory():
    before, behind = probes(b"\x48\x8b\x84\x24\x80\0\0\0", a.CALL, a.RET)

    assert ("op==32", "op==32") == (before.filter, behind.filter)
    assert "op=+128(%sp):u32 cmd=%di:u32 rc=%ax:s32 w0=+u0(%si):x32" in behind.definition


def test_names_stay_below_the_kernels_limit():
    before, behind = probes(*SEND, name="f" * 80)

    assert 63 >= len(behind.name)
    assert before.name.removesuffix("_pre") == behind.name.removesuffix("_post")


def test_only_functions_that_the_kernel_has():
    code = a.kernel(*SEND)
    code.names = frozenset({"bind_virq_to_irq", "evtchn_fifo_mask", "schedule"})

    assert [
        "p:evtrace/bind_virq_to_irq bind_virq_to_irq",
        "r10:evtrace/bind_virq_to_irq_ret bind_virq_to_irq irq=$retval:s32",
    ] == [probe.definition for probe in function_probes(code)]
    assert ["evtchn_fifo_mask"] == traced_functions(code)


def test_the_return_that_other_branches_come_to_is_told_by_what_a_call_leaves():
    over_the_call = b"\x74\x0a"
    before, behind = probes(a.MOV_EDI_SEND, over_the_call, a.MOV_EAX_EVTCHN, a.CALL, a.RET)

    assert ("", "cmd==4 && cmd<=14 && rc<=0 && rc>-4096") == (before.filter, behind.filter)


def test_a_function_that_runs_with_interrupts_on_is_probed_behind_its_entry():
    followed, endbr64 = b"\x0f\x1f\x44\0\0", b"\xf3\x0f\x1e\xfa"
    code = a.kernel(endbr64, followed, a.RET, name="xen_irq_lateeoi")
    code.names = frozenset({"xen_irq_lateeoi"})

    assert ["p:evtrace/xen_irq_lateeoi xen_irq_lateeoi+9 irq=%di:s32 flags=%si:u32"] == [
        probe.definition for probe in function_probes(code)
    ]
