"""From windows to columns: the walk finds the records, polars gathers their words.

The unit is the window; several are loaded together, because a gather costs the same for one
record as for thousands.
"""

import mmap
from array import array

import polars as pl

from evtrace.tracefile.damage import Damage, DamageKind
from evtrace.tracefile.family import MAX_WORDS
from evtrace.tracefile.records import CYCLES, EVENT_MASK
from evtrace.tracefile.walk import LENGTHS, WINDOW_HEADER, mend, walk
from evtrace.tracefile.windows import Window

WORDS = tuple(f"w{k}" for k in range(MAX_WORDS))
"""Columns of a record's payload."""


class Load:
    """The records of some windows, in file order within each stream."""

    def __init__(self, data: mmap.mmap | bytes) -> None:
        """Start with no window of `data`."""
        self._data = data
        self._words = array("I")
        self.starts = array("I")
        """Word at which each record starts, counted from the first window's first."""
        self._streams: list[int] = []
        self._records: list[int] = []
        self._origins: list[int] = []
        self.damage: list[Damage] = []

    def __len__(self) -> int:
        """Count the records."""
        return len(self.starts)

    def add(self, window: Window) -> int | None:
        """Walk one more window; give the last TSC in it, None if no record carries one."""
        words, begin, first = self._words, len(self._words), len(self.starts)
        words.frombytes(self._data[window.start : window.start + (window.size & ~3)])
        odd = list[int]()
        if walk(words, self.starts, odd, begin) < len(words) or odd or window.size % 4:
            self._mend(window, begin, first)
        if self._data.find(_STRAY, window.start, window.end) >= 0:
            self._drop_headers(first, window.start - 4 * begin)
        self._streams.append(window.stream)
        self._records.append(len(self.starts) - first)
        self._origins.append(window.start - 4 * begin)
        return self._last_tsc(first)

    def _mend(self, window: Window, begin: int, first: int) -> None:
        """Walk a damaged window once more, with care, and report what is no record in it."""
        words, origin = self._words, window.start - 4 * begin
        starts, odd, gaps = mend(words, begin)
        del self.starts[first:]
        self.starts.extend(starts)
        for at in odd:
            self._report(DamageKind.UNKNOWN_CLASS, origin + 4 * at, 1, words[at])
        cut_at = len(words)
        if gaps and gaps[-1].cut:
            cut_at = gaps.pop().at
        for gap in gaps:
            self._report(DamageKind.GARBLED, origin + 4 * gap.at, 4 * gap.words)
        cut_offset = origin + 4 * cut_at
        if cut_offset < window.end:
            self._report(DamageKind.RECORD_CUT, cut_offset, window.end - cut_offset)

    def _drop_headers(self, first: int, origin: int) -> None:
        """Take window headers out of the records from number `first` on."""
        for number in range(len(self.starts) - 1, first - 1, -1):
            at = self.starts[number]
            if self._words[at] == WINDOW_HEADER:
                del self.starts[number]
                self._report(DamageKind.STRAY_HEADER, origin + 4 * at, 1)

    def _last_tsc(self, first: int) -> int | None:
        """Give the last TSC among the records from number `first` on."""
        words, starts = self._words, self.starts
        for number in range(len(starts) - 1, first - 1, -1):
            at = starts[number]
            if words[at] & CYCLES:
                tsc = words[at + 1] | words[at + 2] << 32
                return tsc - (1 << 64) if tsc >> 63 else tsc
        return None

    def _report(self, kind: DamageKind, offset: int, count: int, header: int = 0) -> None:
        message = _MESSAGES[kind].format(count=count, event=header & EVENT_MASK)
        self.damage.append(Damage(offset, kind, count, message))

    def frame(self) -> pl.DataFrame:
        """Gather the columns of all records, window after window in the order of `add`.

        `pcpu i32, event u32, n_words u8, tsc i64 (null without cycles), w0..w6 u32, file_offset`.
        """
        padded = self._words + array("I", bytes(4 * max(LENGTHS)))
        words = pl.Series(padded, dtype=pl.UInt32)
        at = pl.Series(self.starts, dtype=pl.UInt32)
        header = words.gather(at)
        timed = (header & CYCLES) != 0
        columns = pl.DataFrame(
            {
                "pcpu": self._per_record(self._streams, pl.Int32),
                "event": header & EVENT_MASK,
                "n_words": ((header // (1 << 28)) & 7).cast(pl.UInt8),
                "timed": timed,
                "tsc": _tsc(words.gather(at + 1), words.gather(at + 2)),
                "file_offset": self._per_record(self._origins, pl.Int64) + at.cast(pl.Int64) * 4,
            },
        )
        payload = at + 1 + timed.cast(pl.UInt32) * 2
        gathered = [words.gather(payload + k).alias(name) for k, name in enumerate(WORDS)]
        return columns.with_columns(gathered).select(
            "pcpu",
            "event",
            "n_words",
            pl.when("timed").then("tsc").alias("tsc"),
            *(
                pl.when(pl.col("n_words") > k).then(name).alias(name)
                for k, name in enumerate(WORDS)
            ),
            pl.col("file_offset").cast(pl.UInt64),
        )

    def _per_record(self, values: list[int], dtype: type[pl.DataType]) -> pl.Series:
        """Repeat a value of each window for each of its records."""
        windows = pl.DataFrame(
            {"value": values, "records": self._records},
            {"value": dtype, "records": pl.UInt32},
        )
        occupied = windows.filter(pl.col("records") > 0)
        return occupied.select(pl.col("value").repeat_by("records").explode())["value"]


_STRAY = WINDOW_HEADER.to_bytes(4, "little")

_MESSAGES = {
    DamageKind.RECORD_CUT: "record cut short, {count} bytes skipped",
    DamageKind.GARBLED: "words that are no records, {count} bytes skipped",
    DamageKind.UNKNOWN_CLASS: "record of no known class, event {event:#010x}",
    DamageKind.STRAY_HEADER: "window header among the records of a window, dropped",
}


def _tsc(low: pl.Series, high: pl.Series) -> pl.Series:
    """Join two halves as the signed number that polars' time arithmetic wants."""
    return (high.cast(pl.UInt64) * (1 << 32) + low.cast(pl.UInt64)).reinterpret(signed=True)
