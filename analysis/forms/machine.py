"""The report as JSON, Markdown and CSV: the same tables as in its text."""

import json
from collections.abc import Iterable, Sequence

from evtrace.analysis.report import Report
from evtrace.analysis.tables import Table
from evtrace.tracefile.tables import flat


def as_json(report: Report) -> str:
    """Give the report by `schemas/report.schema.json`."""
    source, spurious = report.source, report.spurious
    tables = {table.name: table.frame.to_dicts() for table in report.tables}
    found = {
        "schema": "evtrace-report/1",
        "trace": source.title,
        "xen": source.profile,
        "verdict": report.verdict,
        "level": report.level,
        "tsc_hz": source.facts.tsc_hz,
        "timing": source.facts.timing.name.lower(),
        "causes": report.causes,
        "fates": report.fates,
        **tables,
        "spurious": {
            "L1": spurious.l1_empty_upcalls,
            "L2": spurious.l2_unprovoked_runs,
            "L3": spurious.l3_no_work,
        },
    }
    return json.dumps(found, indent=2)


def tables_as_json(tables: Iterable[Table]) -> str:
    """Give some tables as one JSON object, a list of rows each."""
    return json.dumps({table.name: table.frame.to_dicts() for table in tables}, indent=2)


def as_markdown(report: Report) -> str:
    """Give the report as Markdown, for an issue tracker."""
    source = report.source
    head = f"**{plain(report.verdict)}**\n\n{plain(source.title)}, level {report.level}"
    if source.facts.tsc_hz:
        head += f", TSC {source.facts.tsc_hz / 1e6:,.3f} MHz"
    shown = [table for table in report.tables if table.listed]
    return head + "\n\n" + tables_as_markdown(shown)


def tables_as_markdown(tables: Sequence[Table]) -> str:
    """Give some tables as Markdown; nothing of those without rows."""
    return "\n\n".join(_section(table) for table in tables if not table.is_empty) + "\n"


def _section(table: Table) -> str:
    rule = ["---:" if table.is_number(name) else "---" for name in table.shown]
    rows = [table.headings(), rule, *(map(plain, cells) for cells in table.cells())]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    if table.unlisted:
        lines += ["", f"... and {table.unlisted:,} more"]
    if table.note:
        lines += ["", table.note]
    return f"### {table.title}\n\n" + "\n".join(lines)


_MARKS = str.maketrans({mark: "\\" + mark for mark in "\\`*_[]<>|#"} | {"\n": " "})


def plain(text: str) -> str:
    """Take from a text what Markdown would read as more than text."""
    return text.translate(_MARKS)


def tables_as_csv(tables: Sequence[Table]) -> str:
    """Give tables as CSV; of several, each below a line with its name."""
    texts = [flat(table.frame).write_csv() for table in tables]
    if len(texts) == 1:
        return texts[0]
    return "\n".join(f"# {table.name}\n{text}" for table, text in zip(tables, texts, strict=True))
