"""What is wrong with a trace file, each finding with its place: reported, never fatal."""

from dataclasses import dataclass
from enum import StrEnum


class DamageKind(StrEnum):
    """Kinds of damage; `kept` tells those that cost no record."""

    GARBAGE = "garbage"
    """Bytes between windows that belong to none."""
    HEADER_CUT = "header_cut"
    """The file ends inside a window's header."""
    HEADER_BROKEN = "header_broken"
    """A window's header names no window, yet what follows it is one."""
    WINDOW_EMPTY = "window_empty"
    """A window of size 0, which xentrace never writes."""
    WINDOW_SIZE = "window_size"
    """A window's size does not lead to the next window."""
    WINDOW_CUT = "window_cut"
    """The file ends inside a window."""
    RECORD_CUT = "record_cut"
    """A record is longer than what is left of its window."""
    GARBLED = "garbled"
    """Words inside a window that do not form records."""
    UNKNOWN_CLASS = "unknown_class"
    """A well-framed record of a class that Xen does not have."""
    STRAY_HEADER = "stray_header"
    """A window's header among the records of another window."""
    TSC_BACKWARDS = "tsc_backwards"
    """A TSC lower than the one before it on the same CPU."""
    LOST_RECORDS = "lost_records"
    """A LOST_RECORDS record that is not as Xen writes it."""

    @property
    def kept(self) -> bool:
        """Whether the record is kept: `Damage.count` then counts records, else bytes."""
        return self in _KEPT


_KEPT = {
    DamageKind.UNKNOWN_CLASS,
    DamageKind.STRAY_HEADER,
    DamageKind.TSC_BACKWARDS,
    DamageKind.LOST_RECORDS,
}


@dataclass(frozen=True, slots=True, order=True)
class Damage:
    """One damaged place."""

    offset: int
    """Bytes from the start of the file (of what was decompressed, for `.zst`)."""
    kind: DamageKind
    count: int
    """Bytes skipped or missing; for kinds that are `kept`, records."""
    message: str

    def __str__(self) -> str:
        """Say where and what."""
        return f"byte {self.offset}: {self.message}"
