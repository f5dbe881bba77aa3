"""Tiny kernels: functions assembled by hand, with a hypercall entry that they call."""

import struct

from evtrace.tracer.host.code import Code, Function, Text

BASE = 0xFFFFFFFF81000000
ENTRY = BASE + 0x10000
"""A static call's trampoline: any hypercall."""
PAGE_ENTRY = BASE + 0x20400
"""event_channel_op in a hypercall page."""

MOV_EDI_SEND = b"\xbf\x04\0\0\0"
MOV_EAX_EVTCHN = b"\xb8\x20\0\0\0"
MOV_EAX_SCHED = b"\xb8\x1d\0\0\0"
MOV_RSI_RSP = b"\x48\x89\xe6"
LEA_RSI_RSP_8 = b"\x48\x8d\x74\x24\x08"
MOV_RSI_GLOBAL = b"\x48\xc7\xc6\0\0\0\x82"
STORE_EBX_AT_RSP_4 = b"\x89\x5c\x24\x04"
STORE_BP_AT_RSP_10 = b"\x66\x89\x6c\x24\x0a"
STORE_AL_AT_R12 = b"\x41\x88\x04\x24"
RET = b"\xc3"
NOP = b"\x90"
CALL = b"CALL"
CALL_PAGE = b"PAGE"


def assembled(*parts, address=BASE):
    """Join instructions; `CALL` and `CALL_PAGE` become calls of the entries."""
    code = b""
    for part in parts:
        target = {CALL: ENTRY, CALL_PAGE: PAGE_ENTRY}.get(part)
        behind = address + len(code) + 5
        code += part if target is None else b"\xe8" + struct.pack("<i", target - behind)
    return code


def kernel(*parts, name="notify", module="", is_unique=True):
    """A kernel of one function."""
    content = assembled(*parts)
    function = Function(name, module, BASE, len(content), is_unique)
    return Code(
        [Text(module, BASE, content)],
        [function],
        frozenset({ENTRY}),
        frozenset({PAGE_ENTRY}),
        origin=BASE - 0x1000,
    )
