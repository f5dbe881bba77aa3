"""Xen's numbers: operations, errno values, channel states, VIRQs, event words, hypercalls.

They stand in Xen's public headers: event_channel.h, errno.h, xen.h, vcpu.h; `PortState` in sched.h.
"""

from enum import IntEnum, StrEnum, unique
from typing import Final

from evtrace.errors import EvtraceError

DOMID_SELF: Final = 0x7FF0
"""The caller itself; from here up no number names a domain."""

HYPERVISOR_xen_version: Final = 17
HYPERVISOR_vcpu_op: Final = 24
HYPERVISOR_sched_op: Final = 29
HYPERVISOR_event_channel_op: Final = 32
HYPERVISOR_hvm_op: Final = 34

VCPUOP_register_vcpu_info: Final = 10


@unique
class EvtchnOp(IntEnum):
    """EVTCHNOP_*: what the first argument of event_channel_op asks for."""

    BIND_INTERDOMAIN = 0
    BIND_VIRQ = 1
    BIND_PIRQ = 2
    CLOSE = 3
    SEND = 4
    STATUS = 5
    ALLOC_UNBOUND = 6
    BIND_IPI = 7
    BIND_VCPU = 8
    UNMASK = 9
    RESET = 10
    INIT_CONTROL = 11
    EXPAND_ARRAY = 12
    SET_PRIORITY = 13
    RESET_CONT = 14
    """Continues a reset that stopped half way; Xen re-issues it, no guest needs to."""


@unique
class Errno(IntEnum):
    """Xen's errno values that event channels answer with."""

    EPERM = 1
    ENOENT = 2
    ESRCH = 3
    EAGAIN = 11
    ENOMEM = 12
    EACCES = 13
    EFAULT = 14
    EBUSY = 16
    EEXIST = 17
    EINVAL = 22
    ENOSPC = 28
    ENOSYS = 38
    ERESTART = 85
    EOPNOTSUPP = 95


class HypercallError(EvtraceError):
    """Xen refuses: `errno` says why. Management methods raise it, hypercalls answer with it."""

    def __init__(self, errno: Errno) -> None:
        """Keep the `errno`."""
        super().__init__(errno.name)
        self.errno = errno


@unique
class PortState(IntEnum):
    """ECS_*: what Xen knows a port to be."""

    FREE = 0
    RESERVED = 1
    UNBOUND = 2
    INTERDOMAIN = 3
    PIRQ = 4
    VIRQ = 5
    IPI = 6


@unique
class PortStatus(IntEnum):
    """EVTCHNSTAT_*: what EVTCHNOP_status calls it; not the numbers of `PortState`."""

    CLOSED = 0
    UNBOUND = 1
    INTERDOMAIN = 2
    PIRQ = 3
    VIRQ = 4
    IPI = 5


@unique
class FormName(StrEnum):
    """The two forms in which Xen and a guest share events."""

    TWO_LEVEL = "2l"
    FIFO = "fifo"


@unique
class Virq(IntEnum):
    """VIRQ_*: interrupts that Xen itself makes up."""

    TIMER = 0
    DEBUG = 1
    CONSOLE = 2
    DOM_EXC = 3
    TBUF = 4
    DEBUGGER = 6
    XENOPROF = 7
    CON_RING = 8
    PCPU_STATE = 9
    MEM_EVENT = 10
    ARGO = 11
    ENOMEM = 12
    XENPMU = 13
    ARCH_0 = 16
    ARCH_1 = 17
    ARCH_2 = 18
    ARCH_3 = 19
    ARCH_4 = 20
    ARCH_5 = 21
    ARCH_6 = 22
    ARCH_7 = 23


NR_VIRQS: Final = 24
NR_FIFO_CHANNELS: Final = 1 << 17
"""No domain has more ports, in either form; xen/include/public/event_channel.h."""
MAX_VCPUS: Final = 8192
"""No domain has more vCPUs: a PV guest's MAX_VIRT_CPUS, xen/include/asm-x86/config.h."""

BIND_PIRQ_WILL_SHARE: Final = 1
"""Bit of `flags` in EVTCHNOP_bind_pirq."""

FIFO_PENDING: Final = 1 << 31
FIFO_MASKED: Final = 1 << 30
FIFO_LINKED: Final = 1 << 29
FIFO_BUSY: Final = 1 << 28
FIFO_LINK_BITS: Final = 17
FIFO_LINK_MASK: Final = (1 << FIFO_LINK_BITS) - 1
FIFO_LIMIT: Final = 1 << FIFO_LINK_BITS
"""Ports of the FIFO form: as many as the link of an event word can name."""

FIFO_QUEUES: Final = 16
"""Priorities: 0 is served first."""

FIFO_DEFAULT_PRIORITY: Final = 7

PAGE_BYTES: Final = 4096
PAGE_WORDS: Final = PAGE_BYTES // 4
CONTROL_BLOCK_BYTES: Final = 4 + 4 + 4 * FIFO_QUEUES
"""`ready`, padding, one head for each priority."""

HYPERCALL_NAMES: Final[dict[int, str]] = {
    0: "set_trap_table",
    1: "mmu_update",
    2: "set_gdt",
    3: "stack_switch",
    4: "set_callbacks",
    5: "fpu_taskswitch",
    6: "sched_op_compat",
    7: "platform_op",
    8: "set_debugreg",
    9: "get_debugreg",
    10: "update_descriptor",
    12: "memory_op",
    13: "multicall",
    14: "update_va_mapping",
    15: "set_timer_op",
    16: "event_channel_op_compat",
    HYPERVISOR_xen_version: "xen_version",
    18: "console_io",
    19: "physdev_op_compat",
    20: "grant_table_op",
    21: "vm_assist",
    22: "update_va_mapping_otherdomain",
    23: "iret",
    HYPERVISOR_vcpu_op: "vcpu_op",
    25: "set_segment_base",
    26: "mmuext_op",
    27: "xsm_op",
    28: "nmi_op",
    HYPERVISOR_sched_op: "sched_op",
    30: "callback_op",
    31: "xenoprof_op",
    HYPERVISOR_event_channel_op: "event_channel_op",
    33: "physdev_op",
    HYPERVISOR_hvm_op: "hvm_op",
    35: "sysctl",
    36: "domctl",
    37: "kexec_op",
    38: "tmem_op",
    39: "argo_op",
    40: "xenpmu_op",
    41: "dm_op",
    42: "hypfs_op",
    48: "arch_0",
    49: "arch_1",
    50: "arch_2",
    51: "arch_3",
    52: "arch_4",
    53: "arch_5",
    54: "arch_6",
    55: "arch_7",
}
"""Hypercalls by number; what is missing up to 55 is reserved."""
