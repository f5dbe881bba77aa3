"""Time order: the streams of all CPUs merged into batches, holding little more than a batch.

Windows are loaded from the stream that is furthest behind; rows are given out once no stream can
still bring an earlier one.
"""

import heapq
import mmap
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import polars as pl

from evtrace.timeline import HOST_CLOCK
from evtrace.tracefile.checks import RecordChecks
from evtrace.tracefile.clocks import LOST_RECORDS
from evtrace.tracefile.damage import Damage
from evtrace.tracefile.facts import Facts
from evtrace.tracefile.load import WORDS, Load
from evtrace.tracefile.windows import Window

BATCH_ROWS = 1 << 17

RAW_SCHEMA = pl.Schema(
    {
        "seq": pl.UInt64,
        "tsc_lo": pl.Int64,
        "tsc_hi": pl.Int64,
        "clock": pl.Int32,
        "pcpu": pl.Int32,
        "event": pl.UInt32,
        "has_tsc": pl.Boolean,
        "n_words": pl.UInt8,
        **dict.fromkeys(WORDS, pl.UInt32),
        "file_offset": pl.UInt64,
    },
)
"""Raw records in time order; `pcpu` is the stream's number. Payload words absent are null."""


@dataclass(slots=True)
class _Stream:
    """How far one stream has been loaded."""

    number: int
    windows: list[Window]
    offset: tuple[int, int]
    """What to add to its TSCs for host time, as an interval."""
    tsc: int
    """Last TSC loaded; before the first, the first."""
    key: int
    """Highest time among the records placed so far."""
    reached: int
    """A time before which nothing more can come."""
    loaded: int = 0

    @property
    def middle(self) -> int:
        return sum(self.offset) // 2


@dataclass(slots=True)
class Merge:
    """One pass over a trace in time order; `damage` is complete when it has ended."""

    data: mmap.mmap | bytes
    windows: list[Window]
    facts: Facts
    damage: list[Damage] = field(default_factory=list)
    _streams: dict[int, _Stream] = field(default_factory=dict)
    _checks: RecordChecks = field(default_factory=RecordChecks)

    def batches(self, max_rows: int = BATCH_ROWS) -> Iterator[pl.DataFrame]:
        """Yield frames by `RAW_SCHEMA` of at most `max_rows`; `seq` does not depend on it."""
        self._streams = {stream.number: stream for stream in self._open()}
        behind = [(stream.reached, number) for number, stream in self._streams.items()]
        heapq.heapify(behind)
        pending: pl.DataFrame | None = None
        seq = 0
        while behind:
            loaded = self._load(behind, max_rows)
            pending = loaded if pending is None else pl.concat([pending, loaded])
            ready, pending = self._split(pending, behind[0][0] if behind else None)
            for frame in ready.iter_slices(max_rows):
                yield self._finish(frame, seq)
                seq += frame.height

    def _open(self) -> Iterable[_Stream]:
        windows = defaultdict[int, list[Window]](list)
        for window in self.windows:
            windows[window.stream].append(window)
        for number, own in windows.items():
            offset = self._offset(number)
            first = self._first_tsc(own)
            key = first + sum(offset) // 2
            yield _Stream(number, own, offset, first, key, key)

    def _offset(self, number: int) -> tuple[int, int]:
        stream = self.facts.streams.get(number)
        if stream is None or stream.clock is None:
            return 0, 0
        return self.facts.clock_offsets.get(stream.clock, (0, 0))

    def _first_tsc(self, windows: list[Window]) -> int:
        for window in windows:
            load = Load(self.data)
            if load.add(window) is not None:
                return int(load.frame()["tsc"].drop_nulls()[0])
        return 0

    def _load(self, behind: list[tuple[int, int]], rows: int) -> pl.DataFrame:
        """Load at least one window and about `rows` records from the streams furthest behind."""
        load = Load(self.data)
        while behind and (len(load) < rows or not len(load)):
            _, number = heapq.heappop(behind)
            stream = self._streams[number]
            last = load.add(stream.windows[stream.loaded])
            stream.loaded += 1
            if last is not None:
                stream.reached = max(stream.reached, last + stream.middle)
            if stream.loaded < len(stream.windows):
                heapq.heappush(behind, (stream.reached, number))
        records = load.frame()
        self.damage += [*load.damage, *self._checks.take(records)]
        return self._place(records)

    def _place(self, records: pl.DataFrame) -> pl.DataFrame:
        """Add to loaded records the time before them (`before`) and the key of their order."""
        tsc_before = {number: stream.tsc for number, stream in self._streams.items()}
        key_before = {number: stream.key for number, stream in self._streams.items()}
        middle = {number: stream.middle for number, stream in self._streams.items()}
        known = pl.col("tsc").forward_fill().over("pcpu")
        placed = records.with_columns(
            before=known.fill_null(_by_stream(tsc_before)),
        ).with_columns(
            key=pl.max_horizontal(
                (pl.col("before") + _by_stream(middle)).cum_max().over("pcpu"),
                _by_stream(key_before),
            ),
        )
        ends = placed.group_by("pcpu").agg(pl.col("before").last(), pl.col("key").last())
        for number, tsc, key in ends.iter_rows():
            self._streams[number].tsc, self._streams[number].key = tsc, key
        return placed

    def _split(
        self, records: pl.DataFrame, horizon: int | None
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Sort, and part what nothing yet to be loaded can precede from the rest."""
        ordered = records.sort("key", "pcpu", "file_offset").with_columns(
            after=pl.coalesce(pl.col("tsc").backward_fill().over("pcpu"), "before"),
        )
        if horizon is None:
            return ordered, ordered.clear()
        ready = ordered["key"].search_sorted(horizon, side="left")
        return ordered[:ready], ordered[ready:].drop("after")

    def _finish(self, records: pl.DataFrame, seq: int) -> pl.DataFrame:
        """Give the records their `seq`, and their times as intervals of the host's TSC."""
        low = {number: stream.offset[0] for number, stream in self._streams.items()}
        high = {number: stream.offset[1] for number, stream in self._streams.items()}
        clock = {number: self._clock(number) for number in self._streams}
        first_lost = pl.col("w2").cast(pl.Int64) + pl.col("w3").cast(pl.Int64) * (1 << 32)
        lowest = pl.when(event=LOST_RECORDS).then(pl.min_horizontal(first_lost, "before"))
        return records.select(
            seq=pl.int_range(seq, seq + pl.len(), dtype=pl.UInt64),
            tsc_lo=pl.coalesce(lowest, "before") + _by_stream(low),
            tsc_hi=pl.col("after") + _by_stream(high),
            clock=_by_stream(clock).cast(pl.Int32),
            pcpu="pcpu",
            event="event",
            has_tsc=pl.col("tsc").is_not_null(),
            n_words="n_words",
            **{name: pl.col(name) for name in WORDS},
            file_offset="file_offset",
        )

    def _clock(self, number: int) -> int:
        stream = self.facts.streams.get(number)
        return HOST_CLOCK if stream is None or stream.clock is None else stream.clock


def _by_stream(values: dict[int, int]) -> pl.Expr:
    """Give each record the value of its stream."""
    return pl.col("pcpu").replace_strict(list(values), list(values.values()), return_dtype=pl.Int64)
