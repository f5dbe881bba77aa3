"""What the model answered against what Xen answered, and both in words."""

from evtrace.replay.calls import Call, inputs
from evtrace.timeline import Kind, Row
from evtrace.xen import ops
from evtrace.xen.abi import Errno, EvtchnOp
from evtrace.xen.machine import Answer

_OP_NAMES: dict[int, str] = {op: op.name.lower() for op in EvtchnOp}
_ERRNO_NAMES: dict[int, str] = {errno: errno.name for errno in Errno}


def matches(call: Call, answer: Answer) -> bool:
    """Tell whether the observed result and every observed output are the model's."""
    if call.rc != answer.ret:
        return False
    if answer.ret < 0:
        return True  # the argument struct is not written back
    return all(seen == expected for seen, expected in zip(call.outputs, answer.out, strict=False))


def describe_call(call: Call) -> str:
    """Give the call as text, e.g. `bind_interdomain(remote_dom=1, remote_port=8)`."""
    names = tuple(field.name for field in inputs(call.op))
    return f"{_op_name(call.op)}({_fields(names, call.args or ())})"


def describe_answer(op: int, ret: int | None, out: tuple[int, ...]) -> str:
    """Give an answer as text, e.g. `0 local_port=33` or `-EINVAL`."""
    if ret is None:
        return "no result seen"
    if ret < 0:
        return f"-{_ERRNO_NAMES[-ret]}" if -ret in _ERRNO_NAMES else str(ret)
    names = ops.output_names(EvtchnOp(op), out) if op in _OP_NAMES else ()
    return f"{ret} {_fields(names, out)}".rstrip()


def describe_item(item: Row | Call) -> str:
    """Give one line of a trace: time, vCPU and what happened."""
    if isinstance(item, Call):
        answer = describe_answer(item.op, item.rc, item.outputs)
        return f"{_where(item.enter)} {describe_call(item)} = {answer}"
    words = [Kind(item.kind).name]
    if item.port is not None:
        words.append(f"port={item.port}")
    if item.irq is not None:
        words.append(f"irq={item.irq}")
    return f"{_where(item)} {' '.join(words)}"


def _where(row: Row) -> str:
    vcpu = "d?v?" if row.dom is None else f"d{row.dom}v{row.vcpu}"
    return f"{row.tsc_lo:>16} {vcpu:<6} #{row.seq}"


def _op_name(op: int) -> str:
    return _OP_NAMES.get(op, f"evtchn_op_{op}")


def _fields(names: tuple[str, ...], values: tuple[int, ...]) -> str:
    return ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=False))
