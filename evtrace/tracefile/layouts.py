"""Layouts: how records are framed and what stands in them, declared once, with construct.

They document the format, write and decode single records, and tell a dump which fields to print.
The framing is xen/include/public/trace.h's; the payloads are in `stock.py` and in `family.py`. The
bulk path does not parse with them (`walk.py`); a test holds the two equal.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import construct as c

from evtrace.tracefile.family import TEXT_BYTES
from evtrace.tracefile.walk import WINDOW_HEADER

U8, U16, U32, U64 = c.Int8ul, c.Int16ul, c.Int32ul, c.Int64ul
S32, S64 = c.Int32sl, c.Int64sl
X8, X16, X32, X64 = c.Hex(U8), c.Hex(U16), c.Hex(U32), c.Hex(U64)
"""Numbers that are printed in hexadecimal: addresses, masks, error codes."""

SIGNED = (S32, S64)

TEXT = c.Bytes(TEXT_BYTES)
"""A fragment of a string in UTF-8, filled up with zeros."""

Member: TypeAlias = "c.Construct[int, int] | c.Construct[bytes, bytes]"
"""The type of a member of a payload: a number, or the fragment of a string."""

HEADER = c.ByteSwapped(
    c.BitStruct("cycles" / c.Flag, "n_extra" / c.BitsInteger(3), "event" / c.BitsInteger(28)),
)
"""First word of a record."""

RECORD = c.Struct(
    "header" / HEADER,
    "tsc" / c.If(c.this.header.cycles, U64),
    "words" / c.Array(c.this.header.n_extra, U32),
)
"""Any record; without the cycles flag its time lies between those of its neighbours."""

WINDOW_START = c.Struct("header" / c.Const(WINDOW_HEADER, X32), "cpu" / S32, "window_size" / U32)
"""What xentrace writes before the records of one CPU; `window_size` is theirs, in bytes."""

WINDOW = c.Struct(
    "start" / WINDOW_START,
    "records" / c.FixedSized(c.this.start.window_size, c.GreedyRange(RECORD)),
)
"""A window with its records."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a payload: where it stands, in bytes, and how it is shown."""

    name: str
    offset: int
    size: int
    is_signed: bool = False
    is_hex: bool = False
    is_text: bool = False

    def value(self, payload: bytes) -> int | str:
        """Take the field's value from the bytes of a payload."""
        raw = payload[self.offset : self.offset + self.size]
        if self.is_text:
            return repr(raw.rstrip(b"\0").decode(errors="replace"))
        return int.from_bytes(raw, "little", signed=self.is_signed)

    @property
    def template(self) -> str:
        """Give the field's part of a line for `str.format`."""
        return f"{self.name}={{:#x}}" if self.is_hex else f"{self.name}={{}}"


@dataclass(frozen=True)
class Layout:
    """One kind of record: the event's number, its name without TRC_, and its payload."""

    event: int
    name: str
    members: tuple[tuple[str, Member], ...]

    @cached_property
    def payload(self) -> "c.Construct[c.Container[object], dict[str, object]]":
        """Give what reads and writes the words after header and TSC."""
        return c.Struct(*(name / kind for name, kind in self.members))

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """Give the fields of the payload in order."""
        fields, offset = list[Field](), 0
        for name, kind in self.members:
            is_hex, is_text = isinstance(kind, c.Hex), kind is TEXT
            fields.append(Field(name, offset, kind.sizeof(), kind in SIGNED, is_hex, is_text))
            offset += kind.sizeof()
        return tuple(fields)


def layout(event: int, name: str, **members: Member) -> Layout:
    """Declare a record by the members of its payload, in order."""
    return Layout(event, name, tuple(members.items()))
