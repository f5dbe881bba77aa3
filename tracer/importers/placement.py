"""Placement: guest events go into the stream of the pCPU on which their vCPU ran at that time.

The stock records keep their windows, their order and their bytes; a guest record is put in front of
the first one that is later, never between a record with TSC and those without that follow it.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evtrace.tracefile.reader import TraceReader
from evtrace.tracefile.walk import LENGTHS
from evtrace.tracefile.windows import Window

CYCLES_BIT = 31


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

    def rest(self) -> bytes:
        """Take all that is left."""
        taken = b"".join(self.records[self.written :])
        self.written = len(self.records)
        return taken


def merged_windows(
    reader: TraceReader,
    placed: dict[int, Placed],
) -> Iterator[tuple[int, bytes]]:
    """Yield (stream, records) for each window of a stock capture, with guest records put in."""
    for window in reader.windows:
        records = reader.window_bytes(window)
        own = placed.get(window.stream)
        yield window.stream, _merge(reader, window, records, own) if own else records


def _merge(reader: TraceReader, window: Window, records: memoryview, own: Placed) -> bytes:
    words = records.cast("I")
    parts: list[bytes] = []
    copied = 0
    for start in reader.record_starts(window):
        if not words[start] >> CYCLES_BIT:
            continue
        tsc = words[start + 1] | words[start + 2] << 32
        before = own.up_to(tsc - 1)
        if before:
            parts += [bytes(records[copied * 4 : start * 4]), before]
            copied = start
    parts.append(bytes(records[copied * 4 :]))
    return b"".join(parts)


