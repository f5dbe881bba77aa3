"""Lost windows: times in which Xen dropped records, so that what reaches into them is not told."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping

import polars as pl

from evtrace.tracefile.survey import Lost


class Gaps:
    """When records were lost on any pCPU; what spans such a time is excluded and counted."""

    def __init__(self, lost: Iterable[Lost], last_tscs: Mapping[int, int]) -> None:
        """Take the gaps that the survey of a trace found, and each pCPU's last TSC."""
        self._last_tscs = last_tscs
        self.lost = sorted(lost, key=lambda gap: (gap.first_tsc, gap.tsc))
        self._starts: list[int] = []
        self._ends: list[int] = []
        for gap in self.lost:
            first, last = min(gap.first_tsc, gap.tsc), max(gap.first_tsc, gap.tsc)
            if self._ends and first <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], last)
            else:
                self._starts.append(first)
                self._ends.append(last)

    def touch(self, start: int, end: int) -> bool:
        """Tell whether records were lost on any pCPU between two times, ends included."""
        before = bisect_right(self._starts, end)
        return before > 0 and self._ends[before - 1] >= start

    def ended(self, pcpus: Iterable[int], tsc: int) -> bool:
        """Tell whether one of some pCPUs has no records from `tsc` on.

        What Xen drops at the end of a capture, it does not report: the pCPU may have been idle.
        """
        return any(self._last_tscs.get(pcpu, tsc) < tsc for pcpu in pcpus)

    def frame(self, extent: tuple[int, int] | None) -> pl.DataFrame:
        """Give `pcpu`, `windows`, `records` lost, `from_tsc`, `to_tsc`, `lost_cycles`, `share`.

        The share is that of the trace's `extent`; windows of one pCPU do not overlap.
        """
        span = None if extent is None else max(extent[1] - extent[0], 1)
        rows = [(gap.pcpu, gap.count, min(gap.first_tsc, gap.tsc), gap.tsc) for gap in self.lost]
        schema = {"pcpu": pl.Int32, "count": pl.Int64, "from": pl.Int64, "to": pl.Int64}
        lost = (pl.col("to") - pl.col("from")).sum()
        return (
            pl.DataFrame(rows, schema, orient="row")
            .group_by("pcpu")
            .agg(
                windows=pl.len(),
                records=pl.col("count").sum(),
                from_tsc=pl.col("from").min(),
                to_tsc=pl.col("to").max(),
                lost_cycles=lost,
                share=lost / pl.lit(span, pl.Float64),
            )
            .sort("pcpu")
        )
