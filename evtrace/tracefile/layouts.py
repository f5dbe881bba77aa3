"""Layouts: what stands in each record, declared once, with construct.

They document the format, write and decode single records, and tell the dump which fields to print.
Names and fields are those of xen/include/public/trace.h and of the places in Xen that write the
records. The bulk path does not parse with them (evtrace/tracefile/walk.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from construct import (
    Array,
    BitStruct,
    Bit,
    BitsInteger,
    Computed,
    Const,
    Construct,
    GreedyRange,
    Hex,
    If,
    Int8ul,
    Int16ul,
    Int32sl,
    Int32ul,
    Int64sl,
    Int64ul,
    Struct,
    this,
)
