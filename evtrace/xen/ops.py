"""Argument structs of event_channel_op (xen/include/public/event_channel.h, x86-64 layout).

A probe in a guest kernel sees a struct as 32-bit little-endian words; here the words become the
arguments and results of one operation, and the other way round.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from evtrace.xen.abi import EvtchnOp, PortStatus

_WORD_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Field:
    """One member of an argument struct: where it lies and whether Xen writes it."""

    name: str
    offset: int
    width: int
    is_output: bool = False

    @property
    def end(self) -> int:
        """Byte behind the member."""
        return self.offset + self.width


@dataclass(frozen=True, slots=True)
class OpSpec:
    """One EVTCHNOP: the name of its struct in Xen's header, and the members in order."""

    op: EvtchnOp
    struct: str
    fields: tuple[Field, ...]

    @property
    def inputs(self) -> tuple[Field, ...]:
        """Members that the guest fills in."""
        return tuple(field for field in self.fields if not field.is_output)

    @property
    def outputs(self) -> tuple[Field, ...]:
        """Members that Xen fills in, less the union of EVTCHNOP_status."""
        return tuple(field for field in self.fields if field.is_output)


def _in(name: str, offset: int, width: int = 4) -> Field:
    return Field(name, offset, width)


def _out(name: str, offset: int, width: int = 4) -> Field:
    return Field(name, offset, width, is_output=True)


OP_SPECS: Final[dict[EvtchnOp, OpSpec]] = {
    spec.op: spec
    for spec in (
        OpSpec(
            EvtchnOp.BIND_INTERDOMAIN,
            "evtchn_bind_interdomain",
            (_in("remote_dom", 0, 2), _in("remote_port", 4), _out("local_port", 8)),
        ),
        OpSpec(
            EvtchnOp.BIND_VIRQ,
            "evtchn_bind_virq",
            (_in("virq", 0), _in("vcpu", 4), _out("port", 8)),
        ),
        OpSpec(
            EvtchnOp.BIND_PIRQ,
            "evtchn_bind_pirq",
            (_in("pirq", 0), _in("flags", 4), _out("port", 8)),
        ),
        OpSpec(EvtchnOp.CLOSE, "evtchn_close", (_in("port", 0),)),
        OpSpec(EvtchnOp.SEND, "evtchn_send", (_in("port", 0),)),
        OpSpec(
            EvtchnOp.STATUS,
            "evtchn_status",
            (_in("dom", 0, 2), _in("port", 4), _out("status", 8), _out("vcpu", 12)),
        ),
        OpSpec(
            EvtchnOp.ALLOC_UNBOUND,
            "evtchn_alloc_unbound",
            (_in("dom", 0, 2), _in("remote_dom", 2, 2), _out("port", 4)),
        ),
        OpSpec(EvtchnOp.BIND_IPI, "evtchn_bind_ipi", (_in("vcpu", 0), _out("port", 4))),
        OpSpec(EvtchnOp.BIND_VCPU, "evtchn_bind_vcpu", (_in("port", 0), _in("vcpu", 4))),
        OpSpec(EvtchnOp.UNMASK, "evtchn_unmask", (_in("port", 0),)),
        OpSpec(EvtchnOp.RESET, "evtchn_reset", (_in("dom", 0, 2),)),
        OpSpec(
            EvtchnOp.INIT_CONTROL,
            "evtchn_init_control",
            (
                _in("control_gfn", 0, 8),
                _in("offset", 8),
                _in("vcpu", 12),
                _out("link_bits", 16, 1),
            ),
        ),
        OpSpec(EvtchnOp.EXPAND_ARRAY, "evtchn_expand_array", (_in("array_gfn", 0, 8),)),
        OpSpec(EvtchnOp.SET_PRIORITY, "evtchn_set_priority", (_in("port", 0), _in("priority", 4))),
        OpSpec(EvtchnOp.RESET_CONT, "evtchn_reset", (_in("dom", 0, 2),)),
    )
}

STATUS_UNION: Final[dict[int, tuple[Field, ...]]] = {
    PortStatus.CLOSED: (),
    PortStatus.UNBOUND: (_out("dom", 16, 2),),
    PortStatus.INTERDOMAIN: (_out("dom", 16, 2), _out("port", 20)),
    PortStatus.PIRQ: (_out("pirq", 16),),
    PortStatus.VIRQ: (_out("virq", 16),),
    PortStatus.IPI: (),
}
"""What EVTCHNOP_status writes behind `vcpu`, by status; the rest of the union stays as it was."""


def arg_names(op: EvtchnOp) -> tuple[str, ...]:
    """Name the arguments of `op`, in the struct's order."""
    return tuple(field.name for field in OP_SPECS[op].inputs)


def output_names(op: EvtchnOp, out: Sequence[int] = ()) -> tuple[str, ...]:
    """Name the results of `op`; for EVTCHNOP_status those that the answer `out` holds."""
    return tuple(field.name for field in _outputs(op, out[0] if out else PortStatus.CLOSED))


def words_needed(op: EvtchnOp) -> int:
    """Count the words that hold all arguments and results of `op`."""
    last = max(field.end for field in OP_SPECS[op].fields)
    if op == EvtchnOp.STATUS:
        last = max(field.end for union in STATUS_UNION.values() for field in union)
    return -(-last // _WORD_BYTES)


def decode_args(op: EvtchnOp, words: Sequence[int]) -> tuple[int, ...]:
    """Take the arguments of `op` from its words; ends early where the words do."""
    return _decode(OP_SPECS[op].inputs, words)


def decode_outputs(op: EvtchnOp, words: Sequence[int]) -> tuple[int, ...]:
    """Take the results of `op` from its words after the call; ends early where the words do."""
    fixed = _decode(OP_SPECS[op].outputs, words)
    if op != EvtchnOp.STATUS or not fixed or fixed[0] not in STATUS_UNION:
        return fixed
    return _decode(_outputs(op, fixed[0]), words)


def encode_args(op: EvtchnOp, args: Sequence[int], onto: Sequence[int] = ()) -> list[int]:
    """Lay the arguments of `op` out as the guest does; the rest is as in `onto`, or 0."""
    return _encode(op, OP_SPECS[op].inputs, args, onto)


def encode_outputs(op: EvtchnOp, out: Sequence[int], onto: Sequence[int] = ()) -> list[int]:
    """Lay the results of `op` out as Xen does; the rest is as in `onto`, or 0."""
    return _encode(op, _outputs(op, out[0] if out else PortStatus.CLOSED), out, onto)


def _outputs(op: EvtchnOp, status: int) -> tuple[Field, ...]:
    fixed = OP_SPECS[op].outputs
    return fixed + STATUS_UNION[status] if op == EvtchnOp.STATUS else fixed


def _decode(fields: Sequence[Field], words: Sequence[int]) -> tuple[int, ...]:
    raw = _bytes_of(words)
    values = []
    for field in fields:
        if field.end > len(raw):
            break
        values.append(int.from_bytes(raw[field.offset : field.end], "little"))
    return tuple(values)


def _encode(
    op: EvtchnOp, fields: Sequence[Field], values: Sequence[int], onto: Sequence[int]
) -> list[int]:
    raw = bytearray(_bytes_of(onto or [0] * words_needed(op)))
    for field, value in zip(fields, values, strict=True):
        raw[field.offset : field.end] = value.to_bytes(field.width, "little")
    return [
        int.from_bytes(raw[start : start + _WORD_BYTES], "little")
        for start in range(0, len(raw), _WORD_BYTES)
    ]


def _bytes_of(words: Sequence[int]) -> bytes:
    return b"".join((word & 0xFFFF_FFFF).to_bytes(_WORD_BYTES, "little") for word in words)
