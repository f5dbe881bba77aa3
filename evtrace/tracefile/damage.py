"""Damage: what of a file could not be read, where, and how much of it."""

from dataclasses import dataclass
from enum import StrEnum, unique


@unique
class DamageKind(StrEnum):
    """What is wrong at a place of a file."""

    CUT_RECORD = "cut record"
    """The file ends inside a record."""
    CUT_HEADER = "cut window header"
    SHORT_WINDOW = "window past the end"
    """A window is said to be longer than what is left of the file."""
    EMPTY_WINDOW = "empty window"
    ODD_WINDOW = "window of odd size"
    """A window's size is not a multiple of 4."""
    NO_WINDOW = "no window header"
    """Bytes between windows that belong to none."""
    BROKEN_RECORDS = "broken records"
    """Words inside a window that are no records."""
    UNKNOWN_CLASS = "unknown class"
    """Records whose event belongs to no class or to several; they are kept."""
    TSC_BACKWARDS = "TSC going backwards"
    """Records earlier than the one before on the same pCPU; they are kept in their place."""
    BAD_LOST_RECORDS = "malformed LOST_RECORDS"


@dataclass(frozen=True, slots=True)
class Damage:
    """One kind of damage at a byte offset; `count` is in bytes or records, as `message` says."""

    kind: DamageKind
    offset: int
    count: int
    message: str

    def __str__(self) -> str:
        """Give it as one line."""
        return f"byte {self.offset}: {self.kind}: {self.message}"
