"""What Xen itself writes about a run: the records of xentrace, with the TSC flags they really have.

Written by common/sched/core.c, arch/x86/pv/trace.c, common/multicall.c, arch/x86/hvm and
arch/x86/irq.c. The host is an AMD one: VM exits carry SVM's codes.
"""

from typing import TYPE_CHECKING, Final

from evtrace.timeline import Runstate
from evtrace.tracefile.family import pack_vcpu
from evtrace.tracefile.stock import FLAG_64, RUNSTATE_CHANGE
from evtrace.tracer.emulator.scheduler import IDLE_DOMAIN

if TYPE_CHECKING:
    from evtrace.tracer.emulator.recorder import Recorder
    from evtrace.tracer.emulator.scheduler import Pcpu
    from evtrace.tracer.emulator.timing import TimingProfile
    from evtrace.tracer.emulator.vcpu import VirtualCpu

_CONTINUE_RUNNING = 0x21002
_WAKE = 0x28004
_BLOCK = 0x28006
_SWITCH = 0x2800A
_SWITCH_INFPREV = 0x2800E
_SWITCH_INFNEXT = 0x2800F
_SWITCH_INFCONT = 0x28011
_DOM_ADD = 0x28001
_DOM_REM = 0x28002
_PV_HYPERCALL_V2 = 0x20100D
_PV_HYPERCALL_SUBCALL = 0x20200E
_VMENTRY = 0x81001
_VMEXIT = 0x81002 | FLAG_64
_SVM_EXIT = 0x81003 | FLAG_64
_INJ_VIRQ = 0x82004
_INTR = 0x8200F
_VMMCALL = 0x82012
_HLT = 0x82013
_INTR_WINDOW = 0x82020
_IRQ_HANDLED = 0x802008

CALLBACK_VECTOR: Final = 0xF3
"""The vector that Linux gives Xen for event channels."""
EXIT_INTR: Final = 0x60
EXIT_VINTR: Final = 0x64
EXIT_HLT: Final = 0x78
EXIT_VMMCALL: Final = 0x81
"""Exit codes of SVM that matter here."""

_GUEST_RIP: Final = 0xFFFFFFFF81001000
_CALLBACK_SOURCE: Final = 2
"""hvm_intsrc_vector"""
_NO_VECTOR: Final = 0xFFFFFFFF
_IDLE_SLICE: Final = 0xFFFFFFFF
_MASK_32: Final = 0xFFFFFFFF


class StockWriter:
    """Writes Xen's records; each method is one thing that Xen records."""

    def __init__(
        self, recorder: "Recorder", timing: "TimingProfile", xen_version: tuple[int, int]
    ) -> None:
        self._recorder = recorder
        self._ns_per_cycle = 1_000_000_000 / timing.tsc_hz
        # Before 4.19 VMX and SVM shared one number.
        self._vmexit = _SVM_EXIT if xen_version >= (4, 19) else _VMEXIT

    # Scheduling

    def runstate(self, pcpu: "Pcpu", vcpu: "VirtualCpu", old: Runstate, new: Runstate) -> None:
        """Record a change of runstate, on the pCPU where it is made."""
        self._runstate(pcpu, pack_vcpu(vcpu.dom, vcpu.number), old, new)

    def idle(self, pcpu: "Pcpu", old: Runstate, new: Runstate) -> None:
        """Record a change of runstate of a pCPU's idle vCPU."""
        self._runstate(pcpu, pack_vcpu(IDLE_DOMAIN, pcpu.number), old, new)

    def _runstate(self, pcpu: "Pcpu", packed: int, old: Runstate, new: Runstate) -> None:
        self._recorder.stock(pcpu.number, RUNSTATE_CHANGE | old << 8 | new << 4, [packed])

    def wake(self, waker: "Pcpu", vcpu: "VirtualCpu") -> None:
        """Record vcpu_wake, at its top."""
        self._recorder.stock(waker.number, _WAKE, [vcpu.dom, vcpu.number])

    def block(self, vcpu: "VirtualCpu") -> None:
        """Record that a vCPU waits: SCHEDOP_block, SCHEDOP_poll, or HLT of an HVM guest."""
        self._recorder.stock(vcpu.pcpu.number, _BLOCK, [vcpu.dom, vcpu.number])

    def switch(
        self,
        pcpu: "Pcpu",
        previous: "VirtualCpu | None",
        chosen: "VirtualCpu | None",
        ran: int,
        waited: int,
        time_slice: int,
    ) -> None:
        """Record that another vCPU runs; times in cycles."""
        old, new = _unit(pcpu, previous), _unit(pcpu, chosen)
        slice_ns = self._ns(time_slice) if chosen else _IDLE_SLICE
        write, number = self._recorder.stock, pcpu.number
        write(number, _SWITCH_INFPREV, [*old, self._ns(ran)])
        write(number, _SWITCH_INFNEXT, [*new, self._ns(waited), slice_ns])
        write(number, _SWITCH, [*old, *new])

    def goes_on(self, pcpu: "Pcpu", vcpu: "VirtualCpu", ran: int, time_slice: int) -> None:
        """Record that the scheduler ran and left the vCPU where it is."""
        words = [vcpu.dom, vcpu.number, self._ns(ran), self._ns(time_slice)]
        self._recorder.stock(pcpu.number, _SWITCH_INFCONT, words)
        self._recorder.stock(pcpu.number, _CONTINUE_RUNNING, [pack_vcpu(vcpu.dom, vcpu.number)])

    def domain(self, pcpu: int, dom: int, *, added: bool) -> None:
        """Record that the scheduler knows a domain, or no longer does."""
        self._recorder.stock(pcpu, _DOM_ADD if added else _DOM_REM, [dom])

    # Hypercalls

    def pv_hypercall(self, pcpu: int, number: int, shown: dict[int, int]) -> None:
        """Record a PV guest's hypercall; `shown` has the arguments that Xen records, by index."""
        self._recorder.stock(pcpu, _PV_HYPERCALL_V2, _hypercall_words(number, shown))

    def pv_subcall(self, pcpu: int, number: int) -> None:
        """Record one entry of a multicall."""
        self._recorder.stock(pcpu, _PV_HYPERCALL_SUBCALL, _hypercall_words(number, {}))

    # HVM

    def vmexit(self, pcpu: int, reason: int) -> None:
        """Record that the guest was left."""
        rip = _GUEST_RIP
        self._recorder.stock(pcpu, self._vmexit, [reason, rip & _MASK_32, rip >> 32])

    def vmentry(self, pcpu: int) -> None:
        """Record that the guest is entered."""
        self._recorder.stock(pcpu, _VMENTRY, [])

    def vmmcall(self, pcpu: int, number: int) -> None:
        """Record an HVM guest's hypercall; it has no TSC of its own."""
        self._recorder.stock(pcpu, _VMMCALL, [number], timed=False)

    def hlt(self, pcpu: int, *, pending: bool) -> None:
        """Record HLT."""
        self._recorder.stock(pcpu, _HLT, [int(pending)], timed=False)

    def interrupted(self, pcpu: int) -> None:
        """Record that a physical interrupt, such as another pCPU's IPI, ended the guest's run."""
        self._recorder.stock(pcpu, _INTR, [], timed=False)

    def window(self, pcpu: int) -> None:
        """Record that the guest has interrupts off: Xen asks to be told when they are on."""
        words = [CALLBACK_VECTOR, _CALLBACK_SOURCE, _NO_VECTOR]
        self._recorder.stock(pcpu, _INTR_WINDOW, words, timed=False)

    def inject(self, pcpu: int) -> None:
        """Record the event-channel vector being injected."""
        self._recorder.stock(pcpu, _INJ_VIRQ, [CALLBACK_VECTOR, 0], timed=False)

    # Interrupts

    def irq_handled(self, pcpu: int, irq: int, began: int) -> None:
        """Record a physical interrupt, when Xen is done with it."""
        words = [irq, began & _MASK_32, self._recorder.stamp(pcpu) & _MASK_32]
        self._recorder.stock(pcpu, _IRQ_HANDLED, words)

    def _ns(self, cycles: int) -> int:
        return round(cycles * self._ns_per_cycle) & _MASK_32


def _unit(pcpu: "Pcpu", vcpu: "VirtualCpu | None") -> tuple[int, int]:
    return (vcpu.dom, vcpu.number) if vcpu else (IDLE_DOMAIN, pcpu.number)


def _hypercall_words(number: int, shown: dict[int, int]) -> list[int]:
    """Pack as TRC_PV_HYPERCALL_V2 does: two bits an argument say that one word of it follows."""
    head = number
    for index in shown:
        head |= 1 << 20 + 2 * index
    return [head, *(shown[index] & _MASK_32 for index in sorted(shown))]
