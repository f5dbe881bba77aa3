"""Strings of a trace: TEXT records put together, names for facts, log lines at their times."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import polars as pl

from evtrace.printable import printable
from evtrace.timeline import Kind
from evtrace.tracefile.family import TextPurpose

LOG_SCHEMA = pl.Schema(
    {"seq": pl.UInt64, "tsc": pl.Int64, "dom": pl.UInt16, "vcpu": pl.UInt16, "text": pl.String},
)
_HEADER_AND_TEXT = ["a0", "a1", "a2", "a3", "a4", "a5"]


class Text:
    """One string in the making; the fragments of one string follow each other."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._bytes = b""
        self._length = 0

    def take(self, values: Sequence[int]) -> bool:
        """Take one fragment, a TEXT's header and words; True if it completes the string."""
        header, *rest = values
        if not header >> 8 & 0xFF:
            self._bytes = b""
        self._length = header >> 16
        self._bytes += b"".join(word.to_bytes(4, "little") for word in rest)
        return len(self._bytes) >= self._length

    def string(self) -> str:
        """Give the string, inert: whoever reads it may print it."""
        return printable(self._bytes[: self._length].decode(errors="replace"))


def log_lines(rows: pl.DataFrame) -> pl.DataFrame:
    """Give the lines of the guests' kernel logs that rows of the timeline hold (`LOG_SCHEMA`)."""
    is_log = (pl.col("kind") == Kind.TEXT) & ((pl.col("a0") & 0xFF) == TextPurpose.LOG)
    fragments = rows.filter(is_log).select("seq", "tsc_lo", "dom", "vcpu", *_HEADER_AND_TEXT)
    return pl.DataFrame(_joined(fragments.iter_rows()), LOG_SCHEMA, orient="row")


def _joined(fragments: Iterable[Sequence[int | None]]) -> list[tuple[object, ...]]:
    texts: dict[tuple[int | None, int | None], Text] = defaultdict(Text)
    lines = list[tuple[object, ...]]()
    for seq, tsc, dom, vcpu, *words in fragments:
        text = texts[dom, vcpu]
        if text.take([word for word in words if word is not None]):
            lines.append((seq, tsc, dom, vcpu, text.string()))
    return lines
