"""One stream of records: the windows of one pCPU, in file order, as chunks of columns."""

import struct
from array import array
from collections.abc import Iterator, Sequence

import polars as pl

from evtrace.tracefile.damage import Damage, DamageKind
from evtrace.tracefile.walk import CLASS_MASK, CLASS_SHIFT, EVENT_MASK, walk
from evtrace.tracefile.windows import Window

WORD_COLUMNS = tuple(f"w{place}" for place in range(7))
LOST_RECORDS = 0x1F001
PADDING = bytes(4 * 10)
"""Behind the words of a chunk, so that a gather past a short last record stays inside."""


def chunk_windows(windows: Sequence[Window], chunk_bytes: int) -> Iterator[list[Window]]:
    """Put neighbouring windows together to chunks of at least `chunk_bytes`, the last apart."""
    chunk: list[Window] = []
    size = 0
    for window in windows:
        chunk.append(window)
        size += window.size
        if size >= chunk_bytes:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def read_records(data: memoryview, windows: Sequence[Window], damage: list[Damage]) -> pl.DataFrame:
    """Walk windows of one stream; give a row a record, in file order.

    Columns: `event`, `has_tsc`, `tsc` (null without), `n_words`, `w0`..`w6` (null where absent),
    `file_offset`.
    """
    words = array("I")
    starts = array("I")
    offsets = []
    for window in windows:
        view = data[window.offset : window.offset + window.size].cast("I")
        walked = walk(view, whole=window.whole)
        for skipped in walked.skipped:
            damage.append(_skipped(window, skipped.first * 4, skipped.words * 4))
        first = len(words)
        words.frombytes(view.tobytes())
        places = pl.Series("start", walked.starts, pl.UInt32)
        offsets.append(places.cast(pl.UInt64) * 4 + window.offset)
        starts.extend((places + first).to_list() if first else walked.starts)
    words.frombytes(PADDING)
    frame = _columns(pl.Series(words, dtype=pl.UInt32), pl.Series(starts, dtype=pl.UInt32))
    return frame.with_columns(file_offset=pl.concat(offsets))


def _columns(words: pl.Series, starts: pl.Series) -> pl.DataFrame:
    header = words.gather(starts)
    has_tsc = header >= 1 << 31
    count = header // (1 << 28) % 8
    body = starts + 1 + has_tsc.cast(pl.UInt32) * 2
    tsc = _join(words.gather(starts + 1), words.gather(starts + 2))
    columns = {
        "event": header & EVENT_MASK,
        "has_tsc": has_tsc,
        "tsc": tsc.set(~has_tsc, None),
        "n_words": count.cast(pl.UInt8),
    }
    for place, name in enumerate(WORD_COLUMNS):
        columns[name] = words.gather(body + place).set(count <= place, None)
    return pl.DataFrame(columns)


def _join(lo: pl.Series, hi: pl.Series) -> pl.Series:
    return lo.cast(pl.Int64) + hi.cast(pl.Int64) * (1 << 32)


def _skipped(window: Window, first: int, count: int) -> Damage:
    offset = window.offset + first
    if window.whole:
        message = f"{count} bytes inside a window are no records"
        return Damage(DamageKind.BROKEN_RECORDS, offset, count, message)
    message = f"the file ends {count} bytes into a record"
    return Damage(DamageKind.CUT_RECORD, offset, count, message)


class Stream:
    """Reads the windows of one stream chunk by chunk, and gives every record its time.

    A record without TSC lies between its neighbours on the same pCPU: those that end a chunk wait
    for the next one.
    """

    def __init__(
        self,
        data: memoryview,
        number: int,
        windows: Sequence[Window],
        chunk_bytes: int,
        offset: tuple[int, int] | None,
        clock: int,
    ) -> None:
        """Read `windows`; `offset` is the interval of a clock that is not the host's."""
        self.number = number
        self.damage: list[Damage] = []
        self.reached: int | None = None
        """Sort key of the last record read; None at the end of the stream."""
        self._data = data
        self._chunks = chunk_windows(windows, chunk_bytes)
        self._offset = offset or (0, 0)
        self._clock = clock
        self._waiting: pl.DataFrame | None = None
        self._last_tsc: int | None = None
        self._highest: int | None = None
        self._backwards = [0, 0]  # how many, offset of the first
        self._strange = [0, 0]

    def chunks(self) -> Iterator[pl.DataFrame]:
        """Yield the records with `tsc_lo`, `tsc_hi`, `key`, `clock` and `pcpu`."""
        for windows in self._chunks:
            records = read_records(self._data, windows, self.damage)
            self._count_strange(records)
            if self._waiting is not None:
                records = pl.concat([self._waiting, records])
            ready = self._hold_back(records)
            if ready.height:
                yield self._timed(ready)
        if self._waiting is not None and self._waiting.height:
            yield self._timed(self._waiting)
        self.reached = None
        self._report()

    def _hold_back(self, records: pl.DataFrame) -> pl.DataFrame:
        """Keep what follows the last TSC for the next chunk."""
        timed = records["has_tsc"].arg_true()
        ready = int(timed[-1]) + 1 if timed.len() else 0
        self._waiting = records[ready:]
        return records[:ready]

    def _timed(self, records: pl.DataFrame) -> pl.DataFrame:
        tsc = pl.col("tsc")
        before = tsc.forward_fill().fill_null(pl.lit(self._last_tsc, pl.Int64))
        after = tsc.backward_fill()
        records = records.with_columns(
            before=before.fill_null(after).fill_null(0),
            after=after.fill_null(before).fill_null(0),
        )
        self._count_backwards(records)
        first = pl.col("w2").cast(pl.Int64) + pl.col("w3").cast(pl.Int64) * (1 << 32)
        is_lost = (pl.col("event") == LOST_RECORDS) & pl.col("has_tsc") & pl.col("w3").is_not_null()
        lo, hi = self._offset
        middle = (lo + hi) // 2
        highest = self._highest
        key = pl.col("before").cum_max()
        timed = records.select(
            key=(key if highest is None else pl.max_horizontal(key, highest)) + middle,
            tsc_lo=pl.when(is_lost & (first < pl.col("before")))
            .then(first)
            .otherwise("before")
            + lo,
            tsc_hi=pl.when(pl.col("has_tsc")).then("before").otherwise("after") + hi,
            clock=pl.lit(self._clock, pl.Int32),
            pcpu=pl.lit(self.number, pl.Int32),
            event="event",
            has_tsc="has_tsc",
            n_words="n_words",
            **{name: name for name in WORD_COLUMNS},
            file_offset="file_offset",
        )
        self._last_tsc = records["before"][-1]
        self.reached = timed["key"][-1]
        self._highest = self.reached - middle if self.reached is not None else None
        return timed

    def _count_strange(self, records: pl.DataFrame) -> None:
        classes = pl.col("event") // (1 << CLASS_SHIFT) & CLASS_MASK
        one_hot = [1 << bit for bit in range(12)]
        strange = records.filter(~classes.is_in(one_hot))
        if strange.height:
            self._strange[1] = self._strange[1] or strange["file_offset"][0]
            self._strange[0] += strange.height

    def _count_backwards(self, records: pl.DataFrame) -> None:
        timed = records.filter(pl.col("has_tsc"))
        previous = pl.col("tsc").shift(1, fill_value=self._last_tsc)
        back = timed.filter(pl.col("tsc") < previous)
        if back.height:
            self._backwards[1] = self._backwards[1] or back["file_offset"][0]
            self._backwards[0] += back.height

    def _report(self) -> None:
        count, offset = self._backwards
        if count:
            message = f"{count} records on cpu {self.number} are earlier than the one before"
            self.damage.append(Damage(DamageKind.TSC_BACKWARDS, offset, count, message))
        count, offset = self._strange
        if count:
            message = f"{count} records on cpu {self.number} belong to no single class"
            self.damage.append(Damage(DamageKind.UNKNOWN_CLASS, offset, count, message))


def raw_words(data: memoryview, start: int) -> tuple[int, int | None, tuple[int, ...]]:
    """Give event, TSC and words of the single record at byte `start`."""
    (header,) = struct.unpack_from("<I", data, start)
    count = header >> 28 & 7
    tsc = struct.unpack_from("<Q", data, start + 4)[0] if header >> 31 else None
    words = struct.unpack_from(f"<{count}I", data, start + (12 if header >> 31 else 4))
    return header & EVENT_MASK, tsc, words
