"""Checks of well-framed records: TSCs that go back, LOST_RECORDS that Xen would not write."""

import polars as pl

from evtrace.tracefile.clocks import LOST_RECORDS
from evtrace.tracefile.damage import Damage, DamageKind


class RecordChecks:
    """Checks frames of records (`Load.frame`) as they come, each stream in its own order."""

    def __init__(self) -> None:
        """Start before the first record."""
        self._last_tsc: dict[int, int] = {}

    def take(self, records: pl.DataFrame) -> list[Damage]:
        """Give what is wrong with `records`."""
        return [*self._backward_steps(records), *_odd_gaps(records.filter(event=LOST_RECORDS))]

    def _backward_steps(self, records: pl.DataFrame) -> list[Damage]:
        timed = records.filter(pl.col("tsc").is_not_null())
        carried = pl.col("pcpu").replace_strict(self._last_tsc, default=None, return_dtype=pl.Int64)
        before = pl.col("tsc").shift(1).over("pcpu").fill_null(carried)
        steps = timed.with_columns(before=before).filter(pl.col("tsc") < pl.col("before"))
        self._last_tsc |= dict(timed.group_by("pcpu").agg(pl.col("tsc").last()).iter_rows())
        back = steps.select("file_offset", pl.col("before") - pl.col("tsc"), "pcpu")
        return [
            Damage(offset, DamageKind.TSC_BACKWARDS, 1, f"TSC goes back by {by} on stream {pcpu}")
            for offset, by, pcpu in back.iter_rows()
        ]


def _odd_gaps(lost: pl.DataFrame) -> list[Damage]:
    columns = lost.select("file_offset", "n_words", "tsc", "w2", "w3")
    found = (
        (offset, _wrong_with(n_words, tsc, None if n_words < 4 else low | high << 32))
        for offset, n_words, tsc, low, high in columns.iter_rows()
    )
    return [
        Damage(offset, DamageKind.LOST_RECORDS, 1, f"LOST_RECORDS {wrong}")
        for offset, wrong in found
        if wrong
    ]


def _wrong_with(n_words: int, tsc: int | None, first: int | None) -> str:
    """Say how a LOST_RECORDS record differs from what Xen writes; empty if it does not."""
    if n_words != 4:
        return f"has {n_words} words, not 4"
    if tsc is None:
        return "carries no TSC"
    if first is not None and first > tsc:
        return f"begins {first - tsc} cycles after it ends"
    return ""
