"""Opens a trace file and gives its records in time order, what it states, and its damage."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Self

import polars as pl

from evtrace.errors import NotATraceError, UsageError
from evtrace.printable import printable
from evtrace.tracefile.coverage import CoverageMap
from evtrace.tracefile.damage import Damage
from evtrace.tracefile.facts import FactReader, Facts
from evtrace.tracefile.family import FACTS_STREAM, FAMILY_EVENT, FAMILY_MASK, HzSource
from evtrace.tracefile.load import WORDS, Load
from evtrace.tracefile.merge import BATCH_ROWS, Merge
from evtrace.tracefile.source import map_bytes
from evtrace.tracefile.survey import Lost, Survey
from evtrace.tracefile.windows import BIG_ENDIAN_MAGIC, Window, WindowIndex

__all__ = ["Lost", "TraceReader", "open_trace"]


class TraceReader:
    """One trace file. `windows` is its index; everything else is read when asked for."""

    def __init__(self, path: str | Path) -> None:
        """Index the windows. Raises `NotATraceError` if not one record can be read."""
        self.path = path
        self._data = map_bytes(path)
        index = WindowIndex(self._data)
        self.windows: list[Window] = index.windows
        self._damage = set(index.damage)
        if not any(self._has_record(window) for window in self.windows):
            raise self._not_a_trace()

    def __enter__(self) -> Self:
        """Give the reader itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        if not isinstance(self._data, bytes):
            self._data.close()

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be read any more."""
        return not isinstance(self._data, bytes) and self._data.closed

    @property
    def name(self) -> str:
        """Name of the file without its folder, inert."""
        return printable(Path(self.path).name)

    @property
    def size_bytes(self) -> int:
        """Size of the trace, decompressed."""
        return len(self._data)

    @property
    def damage(self) -> list[Damage]:
        """Damage found so far, in file order; complete after a full pass (`survey`, `batches`)."""
        return sorted(self._damage)

    @cached_property
    def stated(self) -> Facts:
        """What the trace itself states, read from its facts stream alone."""
        reader = FactReader()
        windows = [window for window in self.windows if window.stream == FACTS_STREAM]
        for records in self.records(windows):
            family = records.filter((pl.col("event") & FAMILY_MASK) == FAMILY_EVENT)
            words = family.select(pl.concat_list(WORDS).list.drop_nulls())
            reader.take(zip(family["event"], words.to_series().to_list(), strict=True))
        return reader.finish()

    @cached_property
    def facts(self) -> Facts:
        """What the trace states, and the TSC frequency calibrated where it states none."""
        facts = self.stated
        if facts.tsc_hz is None and (calibrated := self.survey.tsc_hz):
            facts.tsc_hz, facts.tsc_hz_source = calibrated, HzSource.CALIBRATED
        return facts

    @cached_property
    def survey(self) -> Survey:
        """Counts, extent, gaps and frequency: one pass that needs no order."""
        survey = Survey(self.stated)
        for records in self.records(self.windows):
            self._damage.update(survey.take(records))
        return survey

    @property
    def lost(self) -> list[Lost]:
        """Gaps where Xen dropped records for want of buffer."""
        return self.survey.lost

    @cached_property
    def coverage(self) -> CoverageMap:
        """Which record classes were captured, for whom and when."""
        survey = self.survey  # its pass finds the damage
        lost = [found for found in self.damage if not found.kind.kept]
        loss = f"{lost[0].kind.value} at byte {lost[0].offset} of the file" if lost else ""
        return CoverageMap(self.stated, survey, loss)

    def batches(self, max_rows: int = BATCH_ROWS) -> Iterator[pl.DataFrame]:
        """Yield all records in time order, by `evtrace.tracefile.merge.RAW_SCHEMA`."""
        self._require_open()
        merge = Merge(self._data, self.windows, self.stated)
        for batch in merge.batches(max_rows):
            self._damage.update(merge.damage)
            yield batch
        self._damage.update(merge.damage)

    def records(self, windows: list[Window]) -> Iterator[pl.DataFrame]:
        """Yield the records of `windows` without order, by the columns of `Load.frame`."""
        self._require_open()
        load = Load(self._data)
        for number, window in enumerate(windows, 1):
            load.add(window)
            if len(load) >= BATCH_ROWS or number == len(windows):
                self._damage.update(load.damage)
                yield load.frame()
                load = Load(self._data)

    def records_of(self, window: Window) -> pl.DataFrame:
        """Give the records of one window in their order, by the columns of `Load.frame`."""
        return next(self.records([window]))

    def bytes_between(self, start: int, end: int) -> bytes:
        """Give the bytes of the trace from `start` up to `end`."""
        return self._data[start:end]

    def _require_open(self) -> None:
        if self.is_closed:
            message = (
                f"{self.path}: the trace is closed; read what you need before, or open it anew"
            )
            raise UsageError(message)

    def _has_record(self, window: Window) -> bool:
        load = Load(self._data)
        load.add(window)
        return len(load) > 0

    def _not_a_trace(self) -> NotATraceError:
        found, hint = "no window of records", "give a file that xentrace or evtrace wrote"
        if not self._data:
            found, hint = "an empty file", "xentrace writes nothing until the first buffer fills"
        elif self._data[:4] == BIG_ENDIAN_MAGIC:
            found = "a window header in big-endian byte order"
            hint = "swap the bytes of every word; Xen hosts are little-endian"
        elif self.windows:
            found, hint = "not one whole record", "the file was cut before its first record ended"
        return NotATraceError(self.path, 0, "a xentrace window (03 f0 01 20)", found, hint)


def open_trace(path: str | Path) -> TraceReader:
    """Open the trace at `path`; `-` is standard input, `*.zst` is decompressed.

    Raises `NoInputError` if there is no such file, `NotATraceError` if nothing in it is readable.
    """
    return TraceReader(path)
