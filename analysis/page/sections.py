"""The page's sections as HTML: words and tables, which can be read without any script."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from evtrace.analysis.contents import TIMING_WORDS
from evtrace.analysis.page.markup import Html, element, joined, void
from evtrace.analysis.report import Report
from evtrace.analysis.sentence import count_of
from evtrace.analysis.tables import Table, duration

LISTED_ROWS = 200
"""Rows of a table that the page holds; more would make it slow, and nobody reads them there."""

WORDY = 30
"""A column is given room in which a text is so long."""

FILTER_FROM = 12
"""A table with so many rows has a box to filter them."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page: its anchor, its name in the list of sections, itself."""

    name: str
    title: str
    body: Html


def short(title: str) -> str:
    """Give what stands in a title before it goes into details."""
    return title.partition(",")[0].partition(":")[0]


def span(nanoseconds: float) -> str:
    """Show a time as tables do, with the letter that a page has for micro."""
    return _micro(duration(round(nanoseconds)))


def _micro(text: str) -> str:
    return text.replace("us", "µs")


def verdict_section(report: Report, length_cycles: int) -> Html:
    """Give the verdict in words, and below it what the trace is."""
    facts = [
        element("div", element("dt", name), element("dd", text))
        for name, text in _facts(report, length_cycles)
    ]
    return element(
        "section",
        element("h1", report.verdict),
        element("dl", joined(facts), class_="facts"),
        element("p", _captured(report.table("coverage").frame), class_="note"),
        element("p", _times(report), class_="note"),
        id="verdict",
    )


def _facts(report: Report, length_cycles: int) -> Iterator[tuple[str, str]]:
    source = report.source
    yield "Trace", source.title
    yield "Level", report.level
    yield "Xen", source.profile
    if source.facts.tsc_hz:
        yield "Length", span(length_cycles * 1_000_000_000 / source.facts.tsc_hz)
    yield "Handler runs", f"{report.runs.height:,}"
    yield "Sends", f"{report.sends.height:,}"
    yield "Divergences", f"{len(source.results.divergences):,}"
    yield "Findings", f"{len(source.results.findings):,}"


def _captured(coverage: pl.DataFrame) -> Html:
    """Say what was captured of whom; when, and what else, the table says."""
    alike: dict[str, list[str]] = {}
    for who, classes in coverage.select("who", "captured").iter_rows():
        alike.setdefault(" ".join(classes), []).append("the host" if who == "all" else who)
    words = [f"{', '.join(dict.fromkeys(whom))}: {classes}" for classes, whom in alike.items()]
    link = element("a", "Captured", href="#coverage")
    return joined([link, f" of {'; of '.join(words)}."]) if words else Html("")


def _times(report: Report) -> str:
    """Say where times come from, and how well clocks are joined."""
    facts = report.source.facts
    sentences = [TIMING_WORDS[facts.timing]]
    if facts.tsc_hz:
        source = facts.tsc_hz_source.name.lower()
        sentences.append(f"The TSC runs at {facts.tsc_hz / 1e6:,.3f} MHz ({source}).")
    else:
        sentences.append("The TSC's frequency is not known: times are in its cycles.")
    for dom, (lo, hi) in sorted(facts.clock_offsets.items()):
        half = (hi - lo + 1) // 2
        wide = f"{half:,} cycles"
        if facts.tsc_hz:
            wide = span(half * 1_000_000_000 / facts.tsc_hz)
        sentences.append(f"d{dom} has a clock of its own, joined to the host's to within ±{wide}.")
    return " ".join(sentences)


def table_section(table: Table) -> Html:
    """Give a table under its heading; of a long one the first rows, and how to get the others."""
    table = replace(table, listed=LISTED_ROWS)
    height = table.frame.height
    shown = min(height, LISTED_ROWS)
    title = element("h2", table.title, id=f"{table.name}-title")
    summary = element("summary", title, element("span", count_of(height, "row"), class_="count"))
    parts = [summary]
    if table.note:
        parts.append(element("p", table.note, class_="note"))
    if shown >= FILTER_FROM:
        label = f"Filter {table.title.lower()}"
        parts.append(
            void("input", type="search", class_="filter", placeholder="filter", aria_label=label)
        )
    parts.append(_scrolled(table))
    if height > shown:
        command = f"evtrace report TRACE --table {table.name} --format csv"
        more = f"These are the first {shown:,} of {height:,} rows. All of them: "
        parts.append(element("p", more, element("code", command), class_="note"))
    details = element("details", joined(parts), open=True)
    return element("section", details, id=table.name, class_="table")


def _scrolled(table: Table) -> Html:
    headings = [
        element("th", heading, scope="col", class_=_class(table, name))
        for name, heading in zip(table.shown, table.headings(), strict=True)
    ]
    rows = [_row(table, cells) for cells in table.cells()]
    grid = element(
        "table",
        element("caption", table.title),
        element("thead", element("tr", joined(headings))),
        element("tbody", joined(rows, Html("\n"))),
    )
    labelled = f"{table.name}-title"
    return element(
        "div", grid, class_="scroll", tabindex=0, role="region", aria_labelledby=labelled
    )


def _row(table: Table, cells: Sequence[str]) -> Html:
    shown = [_cell(name, cell) for name, cell in zip(table.shown, cells, strict=True)]
    classes = [_class(table, name) for name in table.shown]
    head = element("th", shown[0], scope="row", class_=classes[0])
    pairs = zip(shown[1:], classes[1:], strict=True)
    return element("tr", head, *(element("td", cell, class_=kind) for cell, kind in pairs))


def _cell(name: str, text: str) -> str:
    """Give a cell's content; a time leads to its place on the timeline."""
    if _is_time(name) and text != "-":
        return element("a", text, href="#timeline", data_tsc=text)
    return _micro(text) if name.endswith("_ns") else text


def _is_time(name: str) -> bool:
    return name == "tsc" or name.endswith("_tsc")


def _class(table: Table, name: str) -> str | bool:
    """Tell numbers, which stand to the right, and words that want room."""
    if table.is_number(name):
        return "number"
    column = table.frame[name].head(LISTED_ROWS)
    wordy = column.dtype == pl.String and (column.str.len_chars() > WORDY).any()
    return "wordy" if wordy else False
