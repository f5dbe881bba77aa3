"""Expectations rewritten to what a trace comes to now; comments, order and choices are kept."""

from collections.abc import Iterable, Iterator, MutableMapping
from difflib import unified_diff
from pathlib import Path
from typing import Any, Final, TypeAlias

import polars as pl
import tomlkit

from evtrace.analysis.channels import WAY
from evtrace.analysis.checks.expectations import (
    Expectations,
    Tolerance,
    members,
    read_time,
    verdict_sets,
)
from evtrace.analysis.checks.judgement import Evidence
from evtrace.analysis.checks.parts import WHOLE, Part, read_part
from evtrace.analysis.checks.quantities import find_quantity, quantile
from evtrace.analysis.latency import STAGES, GroupBy, group
from evtrace.analysis.tables import duration
from evtrace.tracefile.events import event_name
from evtrace.tracefile.partial import PartialFile

Table: TypeAlias = MutableMapping[str, Any]
"""A table of a TOML document; tomlkit types what is in it as anything."""

TOTALS: Final = (
    *("divergences", "hypercalls", "compared", "adopted", "unknown", "uncovered"),
    *("runs", "sends"),
)
SETS: Final = ("cause", "fate", "spurious", "finding")
"""Sets of verdicts that new expectations have."""

CHANNELS: Final = 3
"""Channels whose latencies new expectations have: the busiest."""

TIMES: Final = ("count", "min", "p50", "p99", "max")
"""What new expectations say of a stage."""

RECORDS: Final = 3
"""Events that new expectations of a capture without runs and sends name: the most frequent."""


def update_expectations(path: Path, expected: Expectations, evidence: Evidence) -> str:
    """Rewrite the expectations at `path`, or write new ones; give the difference."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    document = tomlkit.parse(before)
    if not before:
        document.update({"about": "", "recorded": ""})
    _rewrite(document, expected, evidence, is_new="expect" not in document)
    after = tomlkit.dumps(document)
    if after == before:
        return ""
    with PartialFile(path, force=True) as target, target.open() as file:
        file.write(after.encode())
    lines = before.splitlines(keepends=True), after.splitlines(keepends=True)
    return "".join(unified_diff(*lines, f"{path} (before)", f"{path} (now)", n=1))


def _rewrite(document: Table, expected: Expectations, evidence: Evidence, *, is_new: bool) -> None:
    wanted = _table(document, "expect")
    results = evidence.report.source.results
    _set_if(wanted, "damaged", bool(evidence.reader.damage))
    _set_if(wanted, "lost_records", sum(gap.count for gap in evidence.reader.lost))
    _set_if(wanted, "divergences", len(results.divergences))
    for name in TOTALS:
        if is_new or name in wanted:
            _set(wanted, name, find_quantity(name).value(evidence.measured, WHOLE))
    if is_new or "level" in wanted:
        _levels(_table(wanted, "level"), evidence)
    for which in SETS if is_new else verdict_sets():
        if is_new or which in wanted or (which == "finding" and results.findings):
            _verdicts(wanted, which, evidence)
    if is_new:
        _add_tables(wanted, "latency", _new_latencies(evidence))
        _add_tables(wanted, "token", _new_tokens(evidence))
    else:
        _latencies(wanted, expected, evidence)


def _table(parent: Table, key: str) -> Table:
    """Give a table of this name, made if there is none."""
    if key not in parent:
        parent[key] = tomlkit.table()
    return parent[key]  # type: ignore[no-any-return]


def _set(table: Table, key: str, value: float | str | None) -> None:
    """Set a key to a value if it has another; take it away if there is none."""
    if value is None:
        table.pop(key, None)
        return
    new = int(value) if isinstance(value, float) else value
    if table.get(key) != new:
        table[key] = new


def _set_if(table: Table, key: str, value: float) -> None:
    """Set a key that is not there only to what is not its default."""
    if key in table or value:
        _set(table, key, value)


def _levels(levels: Table, evidence: Evidence) -> None:
    """Set how complete the capture is, as a whole and of each domain."""
    coverage = evidence.report.source.coverage
    _set(levels, "trace", evidence.report.level)
    for dom in sorted({one.dom for one in coverage.intervals if one.dom is not None}):
        _set(levels, f"d{dom}", coverage.level(dom))


def _verdicts(wanted: Table, which: str, evidence: Evidence) -> None:
    """Set the counts of one set of verdicts; of those that are not there, what there is."""
    table = _table(wanted, which)
    for name in members(which):
        key = name.partition(".")[2]
        count = find_quantity(name).value(evidence.measured, WHOLE)
        if key in table or count or (count is not None and which == "spurious"):
            _set(table, key, count)
    if not table:
        wanted.pop(which)


def _latencies(wanted: Table, expected: Expectations, evidence: Evidence) -> None:
    """Set the times that are further off than they may be."""
    for entry, want in zip(wanted.get("latency", ()), expected.latencies, strict=True):
        for function, value in want.values.items():
            found = quantile(evidence.measured, want.part, function, want.stage)
            if function == "count":
                _set(entry, function, found)
            elif found is not None and not want.tolerance.allows(value, found):
                _set(entry, function, _written(round(found), want.tolerance))


def _written(time_ns: int, tolerance: Tolerance) -> str:
    """Write a time with three digits, or with all of them where these are too few."""
    text = duration(time_ns).replace(",", "")
    return text if tolerance.allows(read_time("time", text), time_ns) else f"{time_ns}ns"


# --- new ones ----------------------------------------------------------------------------------


def _add_tables(wanted: Table, key: str, entries: Iterable[dict[str, object]]) -> None:
    """Add an array of tables."""
    array = tomlkit.aot()
    for entry in entries:
        table = tomlkit.table()
        table.update(entry)
        array.append(table)
    if array:
        wanted[key] = array


def _new_latencies(evidence: Evidence) -> Iterator[dict[str, object]]:
    """Give each stage of the whole trace, and the whole way of the busiest channels."""
    stages = evidence.report.stages
    if evidence.report.source.facts.tsc_hz is None:
        return
    measured = set(stages["stage"])
    for stage in (stage for stage in STAGES if stage in measured):
        yield {"stage": stage, **_times(evidence, WHOLE, stage)}
    ways = stages.filter(pl.col("stage") == WAY)
    counts = ways.group_by(group(GroupBy.CHANNEL)).len()
    busiest = counts.sort("len", "group", descending=[True, False]).head(CHANNELS)
    for channel in busiest["group"]:
        yield {"on": channel, "stage": WAY, **_times(evidence, read_part(channel), WAY)}


def _times(evidence: Evidence, part: Part, stage: str) -> dict[str, object]:
    """Give how often a stage was measured in a part, and what it took."""
    values = {name: quantile(evidence.measured, part, name, stage) or 0 for name in TIMES}
    return {
        name: int(value) if name == "count" else _written(round(value), Tolerance())
        for name, value in values.items()
    }


def _new_tokens(evidence: Evidence) -> Iterator[dict[str, object]]:
    """Give the first run of each cause and the first send of each fate, else some records."""
    found = False
    for kind, which, frame in (
        ("run", "cause", evidence.report.runs),
        ("send", "fate", evidence.report.sends),
    ):
        named = frame.filter(pl.col(which) != "UNKNOWN", pl.col("port").is_not_null())
        found |= not named.is_empty()
        for row in named.unique(which, keep="first", maintain_order=True).iter_rows(named=True):
            token = {kind: f"d{row['dom']}:{row['port']}", which: row[which]}
            yield token | ({"routes": row["routes"]} if row["routes"] else {})
    if not found:
        for event, count in evidence.reader.survey.records_by_event.most_common(RECORDS):
            yield {"record": event_name(event), "at_least": count}
