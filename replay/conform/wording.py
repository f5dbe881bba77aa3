"""Answers of a running Xen, in words."""

from collections.abc import Iterable
from typing import Final

from evtrace.replay.conform.fence import NO_COMMAND, Reply
from evtrace.xen.abi import Errno, EvtchnOp, PortStatus
from evtrace.xen.ops import output_names

_ERRNO_NAMES: Final = {errno.value: errno.name for errno in Errno}
_STATUS_NAMES: Final = {status.value: status.name for status in PortStatus}


def name_command(command: int) -> str:
    """Name an operation as recorded programs do."""
    return "unknown_op" if command >= NO_COMMAND else EvtchnOp(command).name.lower()


def name_result(ret: int) -> str:
    """Name a result: the number, or the errno."""
    if ret >= 0:
        return str(ret)
    return _ERRNO_NAMES.get(-ret, f"errno {-ret}")


def show_reply(reply: Reply) -> str:
    """Write an answer: result and outputs."""
    result = name_result(reply.ret)
    return f"{result} {show_out(reply.command, reply.out)}" if reply.out else result


def show_out(command: int, out: tuple[int, ...]) -> str:
    """Write outputs by name."""
    if not out:
        return ""
    op = EvtchnOp(command)
    values = [str(value) for value in out]
    if op == EvtchnOp.STATUS:
        values[0] = _STATUS_NAMES.get(out[0], values[0])
    names = (
        output_names(op, out)
        if out[0] in _STATUS_NAMES or op != EvtchnOp.STATUS
        else ("status", "vcpu")
    )
    return " ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))


def show_words(words: Iterable[int]) -> str:
    """Write a struct as the words that it is made of."""
    return " ".join(f"{word:08x}" for word in words)
