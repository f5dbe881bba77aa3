"""evtrace's own record family, version 1: what stock xentrace cannot say (docs/trace-format.md).

A family record lives in the guest class (`TRC_GUEST | 0xe00 | kind`, xen/include/public/trace.h),
carries the cycles flag and at most seven words. The first word names the vCPU, packed as Xen's
runstate records pack it: vcpu in the low half, domain in the high half. Words that are absent at
the end of a record were not observed.
"""

from enum import IntEnum, IntFlag, unique

from evtrace.timeline import Kind

FAMILY_VERSION = 1
FAMILY_EVENT = 0x0800FE00
FAMILY_MASK = 0x0FFFFF00
"""`event & FAMILY_MASK == FAMILY_EVENT` tells a family record; the low byte is its `Kind`."""

MAX_WORDS = 7

FACTS_STREAM = 0x10000
"""Stream ("cpu" of a window) of facts, texts and snapshots: no physical CPU has this number."""
FIRST_GUEST_STREAM = 0x10001
"""Streams from here up hold records of one domain whose pCPU is unknown or whose clock is its own;
the fact `STREAM` names the domain."""

ALL_VCPUS = 0xFFFF
"""vcpu half of the first word when a record speaks of a whole domain."""
ALL_DOMAINS = 0xFFFF
"""domain half of the first word when a record speaks of the whole trace."""

TEXT_BYTES = 20
"""Bytes of a string that one TEXT record carries."""


@unique
class FactKey(IntEnum):
    """What a FACT record states; its two 64-bit values are given in brackets."""

    FORMAT_VERSION = 1
    """[FAMILY_VERSION, 0]"""
    TSC_HZ = 2
    """[Hz, HzSource]; of the host clock"""
    XEN_VERSION = 3
    """[major << 16 | minor, 0]"""
    TIMING = 4
    """[Timing, 0]"""
    CLOCK_OFFSET = 5
    """[lowest, highest]: host TSC = the domain's own TSC + offset (signed)"""
    FORM = 6
    """[0 for 2-level, 1 for FIFO, 0]; of a domain"""
    GUEST_TYPE = 7
    """[GuestType, 0]; of a domain"""
    STREAM = 8
    """[stream, clock domain + 1 or 0 for the host's clock]; of a domain"""
    VCPUS = 9
    """[number of vCPUs, 0]; of a domain"""
    UNPARSED = 10
    """[lines of the domain's source that could not be parsed, lines in all]"""
    SNAPSHOT = 11
    """[snapshot number, SnapshotSource]; a snapshot of this domain follows as CHANNEL records"""
    GUEST_HABITS = 12
    """[GuestHabits, 0]; what the kernel of a domain does with its ports; absent: as Linux"""


class GuestHabits(IntFlag):
    """What a guest kernel does unseen."""

    MASKED_AT_START = 1
    """All ports are masked before they are used."""
    UNMASK_RECHECKS = 2
    """Unmasking looks for an event that came meanwhile."""


LINUX_HABITS = GuestHabits.MASKED_AT_START | GuestHabits.UNMASK_RECHECKS


@unique
class HzSource(IntEnum):
    """Where a TSC frequency comes from."""

    UNKNOWN = 0
    RECORDER = 1
    SNAPSHOT = 2
    CALIBRATED = 3


@unique
class Timing(IntEnum):
    """Where the times of a trace come from; every table of latencies says so."""

    UNKNOWN = 0
    SCRIPTED = 1
    MODELLED = 2
    EMULATED_CPU = 3
    HARDWARE = 4


@unique
class GuestType(IntEnum):
    """How a domain runs, as far as records tell it apart."""

    UNKNOWN = 0
    PV = 1
    HVM = 2


@unique
class SnapshotSource(IntEnum):
    """What printed a snapshot; lsevtchn shows neither pending nor masked."""

    LSEVTCHN = 1
    DEBUG_KEYS = 2
    QEMU = 3
    EMULATOR = 4
    REPLAY = 5


@unique
class TextPurpose(IntEnum):
    """What a TEXT record's string is."""

    LOG = 0
    """A kernel log line, at its time."""
    DOMAIN_NAME = 1
    IRQ_NAME = 2
    """`<irq> <name>` of the domain in the first word."""
    SOURCE = 3
    """`<option> <file name>`: what was imported."""
    UNPARSED = 4
    """The first line of a kind that could not be parsed."""


class ChannelBits(IntFlag):
    """Third word of CHANNEL above the ECS state number in its low byte."""

    BITS_KNOWN = 0x100
    """The snapshot showed pending and masked (debug key e does, lsevtchn does not)."""
    PENDING = 0x200
    MASKED = 0x400
    LINKED = 0x800
    """FIFO: on a queue; 2-level: the selector bit of its word is set."""
    FIFO = 0x1000
    """The snapshot showed that the domain uses the FIFO form."""
    FORM_KNOWN = 0x2000
    XEN_CONSUMER = 0x4000
    """The hypervisor itself holds the port inside the domain."""
    PRIORITY_KNOWN = 0x8000
    """The snapshot showed the FIFO priority; else the word for it means nothing."""


KIND_WORDS: dict[Kind, tuple[str, ...]] = {
    Kind.CALL_ENTER: ("op_call", "arg0", "arg1", "arg2", "arg3", "arg4"),
    Kind.CALL_EXIT: ("op_call", "rc", "out0", "out1", "out2", "out3"),
    Kind.DOMAIN_CREATED: ("vcpus", "guest_type"),
    Kind.DOMAIN_DESTROYED: (),
    Kind.VIRQ_RAISED: ("virq",),
    Kind.PIRQ_RAISED: ("pirq",),
    Kind.UPCALL_ENTER: (),
    Kind.UPCALL_EXIT: (),
    Kind.HANDLER_ENTER: ("irq", "port"),
    Kind.HANDLER_EXIT: ("irq", "port", "handled"),
    Kind.IRQ_BOUND: ("irq", "port"),
    Kind.IRQ_UNBOUND: ("irq", "port"),
    Kind.MASK: ("port",),
    Kind.UNMASK: ("port",),
    Kind.CLEAR: ("port",),
    Kind.SET: ("port",),
    Kind.CONSUME: ("port",),
    Kind.EOI: ("port", "flags"),
    Kind.CHANNEL: ("port", "state_bits", "peer", "peer_port", "priority", "snapshot"),
    Kind.FACT: ("key", "value_lo", "value_hi", "value2_lo", "value2_hi"),
    Kind.COVERAGE: ("classes", "from_lo", "from_hi", "to_lo", "to_hi"),
    Kind.TEXT: ("header", "text0", "text1", "text2", "text3", "text4"),
}
"""Words after the vCPU word. `op_call` is op | call_id << 8. A CHANNEL's `peer` is the remote
domain, VIRQ or PIRQ by its state, `peer_port` the remote port or (PIRQ) the host's irq, and the
vcpu half of its first word the vCPU it notifies. TEXT's `header` is purpose | fragment << 8 |
length of the whole string in bytes << 16."""


def family_event(kind: Kind) -> int:
    """Give the 28-bit event number of `kind`."""
    return FAMILY_EVENT | kind


def pack_vcpu(dom: int, vcpu: int) -> int:
    """Pack a vCPU as runstate records do: vcpu in the low half, domain in the high half."""
    return dom << 16 | vcpu


def unpack_vcpu(word: int) -> tuple[int, int]:
    """Undo `pack_vcpu`: (domain, vcpu)."""
    return word >> 16, word & 0xFFFF
