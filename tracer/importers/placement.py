"""Placement: guest records go into the stream of the pCPU on which their vCPU ran at that time.

The stock records keep their windows, their order and their bytes; a guest record is put in front of
the first one that is later, never between a record with TSC and those without that follow it.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from evtrace.tracefile.reader import TraceReader


@dataclass(slots=True)
class Placed:
    """Encoded guest records for one stream, in time order."""

    tscs: "array[int]"
    records: list[bytes]
    written: int = 0

    @classmethod
    def of(cls, pairs: Sequence[tuple[int, bytes]]) -> "Placed":
        """Sort (TSC, record) pairs by time; records of one TSC keep their order."""
        ordered = sorted(pairs, key=lambda pair: pair[0])
        return cls(array("q", (tsc for tsc, _ in ordered)), [record for _, record in ordered])

    def up_to(self, tsc: int) -> bytes:
        """Take the records not after `tsc` that were not taken yet."""
        end = bisect_right(self.tscs, tsc, self.written)
        taken = b"".join(self.records[self.written : end])
        self.written = max(self.written, end)
        return taken

    def is_due(self, tsc: object) -> bool:
        """Tell whether a record not after `tsc` was not taken yet; None is before everything."""
        left = self.written < len(self.tscs)
        return left and isinstance(tsc, int) and self.tscs[self.written] <= tsc

    def rest(self) -> list[bytes]:
        """Take all that is left."""
        left = self.records[self.written :]
        self.written = len(self.records)
        return left


def merged_windows(
    reader: TraceReader,
    placed: dict[int, Placed],
) -> Iterator[tuple[int, bytes]]:
    """Yield (stream, records) for each window of a stock capture, with guest records put in.

    Bytes inside a window that are no records are left out; the reader reports them as damage.
    """
    for window in reader.windows:
        records = reader.records_of(window)
        own = placed.get(window.stream)
        yield window.stream, b"".join(_pieces(reader, records, own))


def _pieces(reader: TraceReader, records: pl.DataFrame, own: Placed | None) -> Iterator[bytes]:
    """Yield runs of neighbouring stock records, and guest records between them."""
    rows = records.select("file_offset", (pl.col("file_offset") + _size()).alias("end"), "tsc")
    if own is None or not own.is_due(rows["tsc"].max()):
        rows = _seams(rows)
    run_start = run_end = 0
    for offset, end, tsc in rows.iter_rows():
        due = own.up_to(tsc - 1) if own and tsc is not None else b""
        if due or offset != run_end:
            yield reader.bytes_between(run_start, run_end)
            yield due
            run_start = offset
        run_end = end
    yield reader.bytes_between(run_start, run_end)


def _seams(rows: pl.DataFrame) -> pl.DataFrame:
    """Join records that lie behind each other in the file into one row."""
    starts = pl.col("file_offset") != pl.col("end").shift(1)
    number = starts.fill_null(value=True).cum_sum().alias("run")
    runs = rows.group_by(number, maintain_order=True)
    joined = runs.agg(pl.col("file_offset").first(), pl.col("end").last())
    return joined.select("file_offset", "end", tsc=pl.lit(None, pl.Int64))


def _size() -> pl.Expr:
    """Give the length of a record in bytes (xentrace's record header)."""
    words = pl.col("n_words").cast(pl.UInt64)
    return 4 + 8 * pl.col("tsc").is_not_null().cast(pl.UInt64) + 4 * words
