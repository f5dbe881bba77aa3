"""Tables of all that was compared."""

from math import isfinite

import polars as pl

from evtrace.analysis.diff.compared import Scale
from evtrace.analysis.diff.comparison import Diff
from evtrace.analysis.tables import Table


def tables(diff: Diff) -> list[Table]:
    """Give all that was compared, and what only one trace has, as tables."""
    return [
        Table("times", "Times", _times(diff), labels=_LABELS, listed=1 << 30),
        Table("shares", "Shares", _shares(diff), labels=_LABELS, listed=1 << 30),
        Table("channels", "Channels in one trace only", _channels(diff), listed=1 << 30),
    ]


_LABELS = {"a_ns": "A", "b_ns": "B", "a_share": "A", "b_share": "B", "seen_from": "seen from"}


def _times(diff: Diff) -> pl.DataFrame:
    rows = [
        (
            *(one.part, one.quantity, one.count_a, one.count_b),
            *(round(one.a), round(one.b)),
            *(finite(end) for end in (one.change.value, one.change.low, one.change.high)),
            *(finite(one.seen_from), "*" if one.is_told else ""),
        )
        for one in diff.compared
        if one.scale is Scale.TIME
    ]
    numbers = dict.fromkeys(("ratio", "low", "high", "seen_from"), pl.Float64)
    counts = dict.fromkeys(("count_a", "count_b", "a_ns", "b_ns"), pl.Int64)
    schema = {"channel": pl.String, "time": pl.String, **counts, **numbers, "told": pl.String}
    return pl.DataFrame(rows, schema, orient="row")


def _shares(diff: Diff) -> pl.DataFrame:
    rows = [
        (
            *(one.part, one.quantity, one.count_a, one.count_b, one.a, one.b),
            *(one.change.value, one.change.low, one.change.high, one.seen_from),
            "*" if one.is_told else "",
        )
        for one in diff.compared
        if one.scale is Scale.SHARE
    ]
    names = "a_share", "b_share", "change_share", "low_share", "high_share", "seen_from_share"
    counts = dict.fromkeys(("count_a", "count_b"), pl.Int64)
    numbers = dict.fromkeys(names, pl.Float64)
    schema = {"channel": pl.String, "share_of": pl.String, **counts, **numbers, "told": pl.String}
    return pl.DataFrame(rows, schema, orient="row")


def _channels(diff: Diff) -> pl.DataFrame:
    rows = [
        (one.channel, "B" if one.is_in_b else "A", one.sends, one.runs, "*" if one.is_told else "")
        for one in diff.channels
    ]
    counts = {"sends": pl.Int64, "runs": pl.Int64}
    schema = {"channel": pl.String, "only_in": pl.String, **counts, "told": pl.String}
    return pl.DataFrame(rows, schema, orient="row")


def finite(value: float) -> float | None:
    """Give a number for JSON, which has no infinite ones."""
    return value if isfinite(value) else None
