"""The records that Xen itself writes, by class; 4.3 to 4.21.

Sources: xen/include/public/trace.h and the places that write the records: common/sched/*.c,
arch/x86/pv/trace.c, arch/x86/hvm, arch/x86/irq.c, common/grant_table.c, arch/x86/mm/shadow.
"""

from collections.abc import Iterable

from evtrace.timeline import Runstate
from evtrace.tracefile.layouts import (
    S32,
    U8,
    U16,
    U32,
    U64,
    X8,
    X16,
    X32,
    X64,
    Layout,
    Member,
    layout,
)

FLAG_64 = 0x100
"""TRC_64_FLAG: addresses are 64 bits wide."""
NESTED = 0x400
"""TRC_HVM_NESTEDFLAG: of a guest's own guest (SVM)."""

UNIT = {"unit": U16, "dom": U16}
VCPU = {"vcpu": U16, "dom": U16}
"""A vCPU in one word. The records of `DOM_VCPU` take two."""
DOM_VCPU = {"dom": U32, "vcpu": U32}

RUNSTATE_CHANGE = 0x21001
CREDIT, CREDIT2, ARINC653, RTDS, NULL = 0, 1, 3, 4, 5


def _gen() -> Iterable[Layout]:
    yield layout(0x1F001, "LOST_RECORDS", count=U32, did=U16, vid=U16, first_tsc=U64)
    yield layout(0x1F002, "WRAP_BUFFER")
    yield layout(0x1F003, "TRACE_CPU_CHANGE", cpu=S32, window_size=U32)
    yield layout(0x1F004, "TRACE_IRQ", vector=U32, tsc_in=U32, tsc_out=U32)


def _sched() -> Iterable[Layout]:
    for old in Runstate:
        for new in Runstate:
            name = f"RUNSTATE_CHANGE {old.name.lower()}->{new.name.lower()}"
            yield layout(RUNSTATE_CHANGE | old << 8 | new << 4, name, **VCPU)
    yield layout(0x21002, "CONTINUE_RUNNING", **VCPU)
    yield layout(0x28001, "SCHED_DOM_ADD", dom=U32)
    yield layout(0x28002, "SCHED_DOM_REM", dom=U32)
    yield layout(0x28003, "SCHED_SLEEP", **DOM_VCPU)
    yield layout(0x28004, "SCHED_WAKE", **DOM_VCPU)
    yield layout(0x28005, "SCHED_YIELD", **DOM_VCPU)
    yield layout(0x28006, "SCHED_BLOCK", **DOM_VCPU)
    yield layout(0x28007, "SCHED_SHUTDOWN", **DOM_VCPU, reason=U32)
    yield layout(0x28008, "SCHED_CTL")
    yield layout(0x28009, "SCHED_ADJDOM", dom=U32)
    switch = {"prev_dom": U32, "prev_unit": U32, "next_dom": U32, "next_unit": U32}
    yield layout(0x2800A, "SCHED_SWITCH", **switch)
    yield layout(0x2800B, "SCHED_S_TIMER_FN")
    yield layout(0x2800C, "SCHED_T_TIMER_FN")
    yield layout(0x2800D, "SCHED_DOM_TIMER_FN")
    unit = {"dom": U32, "unit": U32}
    yield layout(0x2800E, "SCHED_SWITCH_INFPREV", **unit, ran_ns=U32)
    yield layout(0x2800F, "SCHED_SWITCH_INFNEXT", **unit, waited_ns=U32, slice_ns=S32)
    yield layout(0x28010, "SCHED_SHUTDOWN_CODE", **DOM_VCPU, reason=U32)
    yield layout(0x28011, "SCHED_SWITCH_INFCONT", **unit, ran_ns=U32, slice_ns=S32)
    yield layout(0x41001, "DOM0_DOM_ADD", dom=U32)
    yield layout(0x41002, "DOM0_DOM_REM", dom=U32)


def _private(scheduler: int, number: int, name: str, **members: Member) -> Layout:
    """Declare a record that one scheduler keeps for itself."""
    return layout(0x22000 | scheduler << 9 | number, name, **members)


def _credit() -> Iterable[Layout]:
    dom_unit = {"dom": U32, "unit": U32}
    yield _private(CREDIT, 1, "CSCHED_SCHED_TASKLET")
    yield _private(CREDIT, 2, "CSCHED_ACCOUNT_START", **dom_unit, active=U32)
    yield _private(CREDIT, 3, "CSCHED_ACCOUNT_STOP", **dom_unit, active=U32)
    yield _private(CREDIT, 4, "CSCHED_STOLEN_UNIT", peer_cpu=U32, **dom_unit)
    yield _private(CREDIT, 5, "CSCHED_PICKED_CPU", **dom_unit, cpu=U32)
    yield _private(CREDIT, 6, "CSCHED_TICKLE", cpu=U32)
    yield _private(CREDIT, 7, "CSCHED_BOOST_START", **dom_unit)
    yield _private(CREDIT, 8, "CSCHED_BOOST_END", **dom_unit)
    yield _private(CREDIT, 9, "CSCHED_SCHEDULE", cpu=U16, tasklet=U8, idle=U8)
    yield _private(CREDIT, 10, "CSCHED_RATELIMIT", **UNIT, runtime=U32)
    yield _private(CREDIT, 11, "CSCHED_STEAL_CHECK", peer_cpu=U32, checked=U32)


def _credit2() -> Iterable[Layout]:
    yield _private(CREDIT2, 1, "CSCHED2_TICK")
    yield _private(CREDIT2, 2, "CSCHED2_RUNQ_POS", **UNIT, pos=U32)
    burn = {"credit": S32, "budget": S32, "delta": S32}
    yield _private(CREDIT2, 3, "CSCHED2_CREDIT_BURN", **UNIT, **burn)
    yield _private(CREDIT2, 4, "CSCHED2_CREDIT_ADD")
    yield _private(CREDIT2, 5, "CSCHED2_TICKLE_CHECK", **UNIT, credit=S32, score=S32)
    yield _private(CREDIT2, 6, "CSCHED2_TICKLE", cpu=U32)
    yield _private(CREDIT2, 7, "CSCHED2_CREDIT_RESET", **UNIT, credit_start=S32, credit_end=S32)
    yield _private(CREDIT2, 8, "CSCHED2_SCHED_TASKLET")
    yield _private(CREDIT2, 9, "CSCHED2_UPDATE_LOAD")
    yield _private(CREDIT2, 10, "CSCHED2_RUNQ_ASSIGN", **UNIT, runq=U32)
    yield _private(CREDIT2, 11, "CSCHED2_UPDATE_UNIT_LOAD", avgload=U64, **UNIT, shift=U32)
    runq = {"runq_avgload": U64, "b_avgload": U64, "load": U16, "runq": U8, "shift": U8}
    yield _private(CREDIT2, 12, "CSCHED2_UPDATE_RUNQ_LOAD", **runq)
    yield _private(CREDIT2, 13, "CSCHED2_TICKLE_NEW", **UNIT, processor=U32, credit=S32)
    yield _private(CREDIT2, 14, "CSCHED2_RUNQ_MAX_WEIGHT", runq=U16, max_weight=U16)
    yield _private(CREDIT2, 15, "CSCHED2_MIGRATE", **UNIT, runq=U16, to_runq=U16)
    yield _private(CREDIT2, 16, "CSCHED2_LOAD_CHECK", runq=U16, other_runq=U16, delta=S32)
    balance = {"avgload": U64, "other_avgload": U64, "runq": U16, "other_runq": U16}
    yield _private(CREDIT2, 17, "CSCHED2_LOAD_BALANCE", **balance)
    yield _private(CREDIT2, 19, "CSCHED2_PICKED_CPU", b_avgload=U64, **UNIT, runq=U16, new_cpu=U16)
    yield _private(CREDIT2, 20, "CSCHED2_RUNQ_CANDIDATE", **UNIT, tickled_cpu=S32, credit=S32)
    states = {"tasklet": U8, "idle": U8, "smt_idle": U8, "tickled": U8}
    yield _private(CREDIT2, 21, "CSCHED2_SCHEDULE", cpu=U16, runq=U16, **states)
    yield _private(CREDIT2, 22, "CSCHED2_RATELIMIT", **UNIT, runtime=S32)
    yield _private(CREDIT2, 23, "CSCHED2_RUNQ_CAND_CHECK", **UNIT)


def _other_schedulers() -> Iterable[Layout]:
    yield _private(RTDS, 1, "RTDS_TICKLE", cpu=U32)
    yield _private(RTDS, 2, "RTDS_RUNQ_PICK", **UNIT, deadline=U64, budget=U64)
    yield _private(RTDS, 3, "RTDS_BUDGET_BURN", **UNIT, budget=U64, delta=S32)
    yield _private(RTDS, 4, "RTDS_BUDGET_REPLENISH", **UNIT, deadline=U64, budget=U64)
    yield _private(RTDS, 5, "RTDS_SCHED_TASKLET")
    yield _private(RTDS, 6, "RTDS_SCHEDULE", cpu=U16, tasklet=U8, idle_tickled=X8)
    yield _private(NULL, 1, "SNULL_PICKED_CPU", **UNIT, new_cpu=U32)
    yield _private(NULL, 2, "SNULL_UNIT_ASSIGN", **UNIT, cpu=U32)
    yield _private(NULL, 3, "SNULL_UNIT_DEASSIGN", **UNIT, cpu=S32)
    yield _private(NULL, 4, "SNULL_MIGRATE", **UNIT, cpu=U16, new_cpu=U16)
    yield _private(NULL, 5, "SNULL_SCHEDULE", cpu=U16, tasklet=U16, **UNIT)
    yield _private(NULL, 6, "SNULL_TASKLET")


def _mem() -> Iterable[Layout]:
    for number, name in enumerate(("MAP", "UNMAP", "TRANSFER"), 1):
        yield layout(0x10F000 | number, f"MEM_PAGE_GRANT_{name}", dom=U32)


def _pv() -> Iterable[Layout]:
    for flag, address in ((0, X32), (FLAG_64, X64)):
        wide = "" if not flag else "64"
        ip, where = {f"{'r' if flag else 'e'}ip": address}, {"addr": address}
        yield layout(0x201001 | flag, f"PV_HYPERCALL{wide}", **ip, eax=U32)
        yield layout(0x201003 | flag, f"PV_TRAP{wide}", **ip, trapnr_use_ec=X16, error_code=X16)
        yield layout(0x201004 | flag, f"PV_PAGE_FAULT{wide}", **ip, **where, error_code=X32)
        yield layout(0x201005 | flag, f"PV_FORCED_INVALID_OP{wide}", **ip)
        yield layout(0x201006 | flag, f"PV_EMULATE_PRIVOP{wide}", **ip)
        yield layout(0x201007 | flag, f"PV_EMULATE_4GB{wide}", **ip)
        yield layout(0x201008 | flag, f"PV_MATH_STATE_RESTORE{wide}")
        yield layout(0x201009 | flag, f"PV_PAGING_FIXUP{wide}", **ip, **where)
        yield layout(0x20100A | flag, f"PV_GDT_LDT_MAPPING_FAULT{wide}", **ip, offset=address)
        yield layout(0x20100B | flag, f"PV_PTWR_EMULATION{wide}", npte=X64, **where, **ip)
        yield layout(0x20100C | flag, f"PV_PTWR_EMULATION_PAE{wide}", npte=X64, **where, **ip)
    # Words after the first depend on its upper bits: `events.py` takes them apart.
    yield layout(0x20100D, "PV_HYPERCALL_V2", op=X32)
    yield layout(0x20200E, "PV_HYPERCALL_SUBCALL", op=X32)


def _hvm_switches() -> Iterable[Layout]:
    for nested, prefix in ((0, "HVM_"), (NESTED, "HVM_NESTED_")):
        yield layout(0x81001 | nested, f"{prefix}VMENTRY")
        yield layout(0x81002 | nested, f"{prefix}VMEXIT", reason=X32, eip=X32)
        yield layout(0x81102 | nested, f"{prefix}VMEXIT64", reason=X32, rip=X64)
        yield layout(0x81003 | nested, f"{prefix}SVM_EXIT", reason=X32, eip=X32)
        yield layout(0x81103 | nested, f"{prefix}SVM_EXIT64", reason=X32, rip=X64)


def _hvm_handlers() -> Iterable[Layout]:
    yield layout(0x82001, "HVM_PF_XEN", virt=X32, error_code=X32)
    yield layout(0x82101, "HVM_PF_XEN64", virt=X64, error_code=X32)
    yield layout(0x82002, "HVM_PF_INJECT", error_code=X32, virt=X32)
    yield layout(0x82102, "HVM_PF_INJECT64", error_code=X32, virt=X64)
    yield layout(0x82003, "HVM_INJ_EXC", vector=X32, error_code=X32)
    yield layout(0x82004, "HVM_INJ_VIRQ", vector=X32, fake=U32)
    yield layout(0x82005, "HVM_REINJ_VIRQ", vector=X32)
    yield layout(0x82006, "HVM_IO_READ", port=X32, size=U32)
    yield layout(0x82007, "HVM_IO_WRITE", port=X32, size=U32)
    for number, name in ((0x82008, "CR_READ"), (0x82009, "CR_WRITE")):
        yield layout(number, f"HVM_{name}", cr=U32, value=X32)
        yield layout(number | FLAG_64, f"HVM_{name}64", cr=U32, value=X64)
    yield layout(0x8200A, "HVM_DR_READ", dr=U32)
    yield layout(0x8200B, "HVM_DR_WRITE", dr=U32)
    yield layout(0x8200C, "HVM_MSR_READ", msr=X32, value=X64)
    yield layout(0x8200D, "HVM_MSR_WRITE", msr=X32, value=X64)
    yield layout(0x8200E, "HVM_CPUID", leaf=X32, eax=X32, ebx=X32, ecx=X32, edx=X32, subleaf=X32)
    yield layout(0x8200F, "HVM_INTR", vector=X32)
    yield layout(0x82010, "HVM_NMI")
    yield layout(0x82011, "HVM_SMI")
    yield layout(0x82012, "HVM_VMMCALL", op=U32)
    yield layout(0x82013, "HVM_HLT", pending=U32)
    yield layout(0x82014, "HVM_INVLPG", invlpga=U32, virt=X32)
    yield layout(0x82114, "HVM_INVLPG64", invlpga=U32, virt=X64)
    yield layout(0x82015, "HVM_MCE")
    yield layout(0x82016, "HVM_IOPORT_READ", port=X32, value=X32)
    yield layout(0x82216, "HVM_IOPORT_WRITE", port=X32, value=X32)
    yield layout(0x82017, "HVM_IOMEM_READ", gpa=X32, value=X32)
    yield layout(0x82217, "HVM_IOMEM_WRITE", gpa=X32, value=X32)
    yield layout(0x82018, "HVM_CLTS")
    yield layout(0x82019, "HVM_LMSW", value=X32)
    yield layout(0x82119, "HVM_LMSW64", value=X64)
    yield layout(0x8201A, "HVM_RDTSC", value=X64)
    yield layout(0x82020, "HVM_INTR_WINDOW", vector=X32, source=U32, intr=S32)
    yield layout(0x82021, "HVM_NPF", gpa=X64, mfn=X64, qualification=X32, p2m_type=U32)
    yield layout(0x82022, "HVM_REALMODE_EMULATE")
    yield layout(0x82023, "HVM_TRAP", vector=X32)
    yield layout(0x82024, "HVM_TRAP_DEBUG")
    yield layout(0x82025, "HVM_VLAPIC")
    yield layout(0x82126, "HVM_XCR_READ64", xcr=U32, value=X64)
    yield layout(0x82127, "HVM_XCR_WRITE64", xcr=U32, value=X64)


def _hvm_emulation() -> Iterable[Layout]:
    times = {"delta": U64, "period": U64}
    yield layout(0x84001, "HVM_EMUL_HPET_START_TIMER", timer=U32, irq=U32, **times)
    yield layout(0x84002, "HVM_EMUL_PIT_START_TIMER", **times)
    yield layout(0x84003, "HVM_EMUL_RTC_START_TIMER", **times)
    yield layout(0x84004, "HVM_EMUL_LAPIC_START_TIMER", **times, irq=U32)
    yield layout(0x84005, "HVM_EMUL_HPET_STOP_TIMER", timer=U32)
    for number, name in enumerate(("PIT_STOP_TIMER", "RTC_STOP_TIMER", "LAPIC_STOP_TIMER"), 6):
        yield layout(0x84000 | number, f"HVM_EMUL_{name}")
    yield layout(0x84009, "HVM_EMUL_PIT_TIMER_CB")
    yield layout(0x8400A, "HVM_EMUL_LAPIC_TIMER_CB")
    output = {"int_output": U32, "is_master": U32, "irq": S32}
    yield layout(0x8400B, "HVM_EMUL_PIC_INT_OUTPUT", **output)
    yield layout(0x8400C, "HVM_EMUL_PIC_KICK", irq=S32)
    yield layout(0x8400D, "HVM_EMUL_PIC_INTACK", is_master=U32, irq=S32)
    yield layout(0x8400E, "HVM_EMUL_PIC_POSEDGE", irq=S32)
    yield layout(0x8400F, "HVM_EMUL_PIC_NEGEDGE", irq=S32)
    yield layout(0x84010, "HVM_EMUL_PIC_PEND_IRQ_CALL", accept_pic_intr=U32, int_output=U32)
    yield layout(0x84011, "HVM_EMUL_LAPIC_PIC_INTR", i8259_target=U32, accept_pic_intr=U32)


def _shadow() -> Iterable[Layout]:
    names = (
        "NOT_SHADOW FAST_PROPAGATE FAST_MMIO FALSE_FAST_PATH MMIO FIXUP DOMF_DYING EMULATE "
        "EMULATE_UNSHADOW_USER EMULATE_UNSHADOW_EVTINJ EMULATE_UNSHADOW_UNHANDLED WRMAP_BF "
        "PREALLOC_UNPIN RESYNC_FULL RESYNC_ONLY"
    )
    for number, name in enumerate(names.split(), 1):
        yield layout(0x40F000 | number, f"SHADOW_{name}")
        yield layout(0x40F000 | number | FLAG_64, f"SHADOW_{name}64")


def _hw() -> Iterable[Layout]:
    yield layout(0x801001, "PM_FREQ_CHANGE", old_mhz=U32, new_mhz=U32)
    idle = {"cx": U32, "pm_tick": U32}
    yield layout(0x801002, "PM_IDLE_ENTRY", **idle, expected_us=U32, predicted_us=U32)
    yield layout(0x801003, "PM_IDLE_EXIT", **idle, irq0=U32, irq1=U32, irq2=U32, irq3=U32)
    moved = {"irq": U32, "vector": X32, "cpu": U32}
    yield layout(0x802001, "HW_IRQ_MOVE_CLEANUP_DELAY", **moved)
    yield layout(0x802002, "HW_IRQ_MOVE_CLEANUP", **moved)
    # Two halves of one word, then a mask of CPUs 0-191; xenalyze takes them for whole words.
    bound = {"irq": U16, "vector": X16, **{f"mask{n}": X32 for n in range(6)}}
    yield layout(0x802003, "HW_IRQ_BIND_VECTOR", **bound)
    yield layout(0x802004, "HW_IRQ_CLEAR_VECTOR", **bound)
    yield layout(0x802005, "HW_IRQ_MOVE_FINISH", **moved)
    yield layout(0x802006, "HW_IRQ_ASSIGN_VECTOR", **bound)
    yield layout(0x802007, "HW_IRQ_UNMAPPED_VECTOR", vector=X32)
    yield layout(0x802008, "HW_IRQ_HANDLED", irq=U32, tsc_in_lo=U32, tsc_out_lo=U32)


STOCK: dict[int, Layout] = {
    made.event: made
    for group in (
        _gen,
        _sched,
        _credit,
        _credit2,
        _other_schedulers,
        _mem,
        _pv,
        _hvm_switches,
        _hvm_handlers,
        _hvm_emulation,
        _shadow,
        _hw,
    )
    for made in group()
}
"""Every stock record by its event."""
