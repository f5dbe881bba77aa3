"""Names of events and fields: what a record is called and what its words say.

Words whose meaning depends on other words (a hypercall's arguments, a call's) are taken apart
here; everything else stands in `stock.py` and `family.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from evtrace.timeline import Kind
from evtrace.tracefile.family import (
    FAMILY_EVENT,
    FAMILY_MASK,
    KIND_WORDS,
    FactKey,
    family_event,
)
from evtrace.tracefile.layouts import (
    S32,
    S64,
    TEXT,
    U8,
    U16,
    U32,
    X32,
    Field,
    Layout,
    Member,
    layout,
)
from evtrace.tracefile.stock import STOCK
from evtrace.xen.abi import HYPERCALL_NAMES, EvtchnOp
from evtrace.xen.ops import arg_names, output_names

PV_HYPERCALLS = (0x20100D, 0x20200E)
"""TRC_PV_HYPERCALL_V2 and _SUBCALL: the upper bits of the first word say which arguments follow."""
VMMCALL = 0x82012
CALLS = (family_event(Kind.CALL_ENTER), family_event(Kind.CALL_EXIT))
FACT = family_event(Kind.FACT)

_CLASS_NAMES = {
    0x001: "GEN",
    0x002: "SCHED",
    0x004: "DOM0OP",
    0x008: "HVM",
    0x010: "MEM",
    0x020: "PV",
    0x040: "SHADOW",
    0x080: "HW",
    0x800: "GUEST",
}
_ARG_NAMES = {
    (1, 1): "count",
    (13, 1): "calls",
    (20, 0): "cmd",
    (20, 2): "count",
    (24, 0): "cmd",
    (24, 1): "vcpuid",
    (26, 1): "count",
    (29, 0): "cmd",
}
"""Arguments that Xen records: (hypercall, argument) -> name."""

_MEMBERS: dict[str, Member] = {
    "rc": S32,
    "irq": S32,
    "classes": X32,
    "flags": X32,
    "state_bits": X32,
    **dict.fromkeys(("value", "value2", "from", "to"), S64),
}


def _family() -> dict[int, Layout]:
    """Lay the words of each kind out; two halves `x_lo`, `x_hi` are one number `x`."""
    made = {}
    for kind, words in KIND_WORDS.items():
        names = [word.removesuffix("_lo") for word in words if not word.endswith("_hi")]
        members = {name: _MEMBERS.get(name, U32) for name in names}
        event = family_event(kind)
        made[event] = layout(event, f"EVTRACE_{kind.name}", vcpu=U16, dom=U16, **members)
    text: dict[str, Member] = {"purpose": U8, "fragment": U8, "length": U16, "text": TEXT}
    event = family_event(Kind.TEXT)
    return made | {event: layout(event, "EVTRACE_TEXT", vcpu=U16, dom=U16, **text)}


FAMILY: dict[int, Layout] = _family()
"""Layouts of evtrace's own records by event; `KIND_WORDS` names their words."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How records of one event, length and operation are shown."""

    name: str
    template: str
    """For `str.format`, one place for each of `fields`."""
    fields: tuple[Field, ...]


def event_name(event: int) -> str:
    """Name an event as Xen does (without TRC_); one that Xen does not have by class and number."""
    known = STOCK.get(event) or FAMILY.get(event)
    if known:
        return known.name
    if event & FAMILY_MASK == FAMILY_EVENT:
        return f"EVTRACE_UNKNOWN_KIND_{event & 0xFF:#04x}"
    return f"{_CLASS_NAMES.get(event >> 16, 'NO_CLASS')}_UNKNOWN_{event:#010x}"


def describe(event: int, words: Sequence[int]) -> str:
    """Say what the words of a record mean: `op=event_channel_op`, `dom=0 vcpu=1`."""
    shown = shape(event, len(words), detail(event, words))
    payload = b"".join(word.to_bytes(4, "little") for word in words)
    return shown.template.format(*(field.value(payload) for field in shown.fields))


def detail(event: int, words: Sequence[int]) -> int:
    """Give the word on which the meaning of the others depends; 0 where there is none."""
    if event in PV_HYPERCALLS or event == VMMCALL:
        return words[0] if words else 0
    if event in CALLS or event == FACT:
        return words[1] & 0xFF if len(words) > 1 else 0
    return 0


@lru_cache(maxsize=4096)
def shape(event: int, n_words: int, of: int) -> Shape:
    """Give how to show records of `event` with `n_words` words; `of` is their `detail`."""
    if n_words and (event in PV_HYPERCALLS or event == VMMCALL):
        return _hypercall(event, n_words, of)
    known = STOCK.get(event) or FAMILY.get(event)
    fields = known.fields if known else ()
    if event in CALLS:
        return _call(event, fields, n_words, of)
    if event == FACT and of in set(FactKey):
        made = _shape(event, [*fields[:2], *fields[3:]], n_words)
        template = made.template.replace("value=", f"key={FactKey(of).name.lower()} value=", 1)
        return Shape(made.name, template, made.fields)
    return _shape(event, fields, n_words)


def _shape(event: int, fields: Sequence[Field], n_words: int, start: str = "") -> Shape:
    """Show the fields that are there, and the words behind them as they are."""
    there = [field for field in fields if field.offset + field.size <= 4 * n_words]
    behind = max((field.offset + field.size for field in there), default=0)
    first = -(-behind // 4)
    there += [Field(f"w{k}", 4 * k, 4, is_hex=True) for k in range(first, n_words)]
    shown = [field for field in there if not (start and field.offset == 0)]
    template = " ".join(filter(None, [start, *(field.template for field in shown)]))
    return Shape(event_name(event), template, tuple(shown))


def _hypercall(event: int, n_words: int, word: int) -> Shape:
    """Name the operation, and the arguments that the upper bits of its word announce."""
    op = word & 0xFFFFF if event != VMMCALL else word
    name = HYPERCALL_NAMES.get(op, str(op))
    fields, offset = [Field("op", 0, 4)], 4
    for argument in range(6 if event != VMMCALL else 0):
        words = word >> 20 + 2 * argument & 3
        if words in {1, 2}:
            label = _ARG_NAMES.get((op, argument), f"a{argument}")
            fields.append(Field(label, offset, 4 * words, is_hex=words == 2))
            offset += 4 * words
    return _shape(event, fields, n_words, f"op={name}")


def _call(event: int, fields: Sequence[Field], n_words: int, op: int) -> Shape:
    """Name the operation of an event-channel call and its arguments or results."""
    if op not in set(EvtchnOp):
        return _shape(event, fields, n_words)
    of = EvtchnOp(op)
    names = arg_names(of) if event == CALLS[0] else ("rc", *output_names(of))
    who, (op_call, *rest) = fields[:2], fields[2:]
    named = [
        Field(name, field.offset, 4, field.is_signed, field.is_hex)
        for name, field in zip(names, rest, strict=False)
    ]
    call_id = Field("call", op_call.offset + 1, 3)
    made = _shape(event, [*who, call_id, *named, *rest[len(named) :]], n_words)
    template = made.template.replace("call={}", f"op={of.name.lower()} call={{}}", 1)
    return Shape(made.name, template, made.fields)
