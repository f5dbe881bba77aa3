"""Puts the page together: one file of HTML with its style, its scripts and its data inside.

Nothing is fetched, and the page's own policy forbids it: a script runs only if its hash is named at
the top, so that nothing out of a trace can.
"""

from collections.abc import Callable, Iterable
from functools import cache
from importlib.resources import files
from typing import IO

import polars as pl
from plotly.offline import get_plotlyjs

from evtrace.analysis.page.colours import cause_legend
from evtrace.analysis.page.markup import (
    Html,
    data_block,
    element,
    joined,
    script,
    script_hash,
    void,
)
from evtrace.analysis.page.packing import Packed
from evtrace.analysis.page.pictures import draw_figures, figure_sections, timeline_section
from evtrace.analysis.page.sections import Section, short, table_section, verdict_section
from evtrace.analysis.page.tracks import Tracks, make_tracks, story
from evtrace.analysis.report import Report
from evtrace.version import __version__

_SCRIPTS = ("unpack.js", "numbers.js", "drawing.js", "timeline.js", "page.js")
"""Run at once; plotly is long, and is read after the timeline is drawn."""

_ABOVE = ("findings", "divergences", "channels")
"""Tables that are worth seeing before the timeline."""


def write_page(
    file: IO[bytes], report: Report, timeline: Callable[[], Iterable[pl.DataFrame]]
) -> None:
    """Write a report as a page; `timeline` gives the rows that its timeline may draw."""
    tracks = make_tracks(report, timeline)
    drawn = draw_figures(report, tracks.first_tsc)
    first_tables, other_tables = _tables(report)
    sections = [
        Section("verdict", "Verdict", verdict_section(report, tracks.length)),
        *first_tables,
        Section("timeline", "Timeline", timeline_section(report, tracks)),
        *figure_sections(report, drawn),
        *other_tables,
    ]
    first, plotly, last = "\n".join(map(_source, _SCRIPTS)), get_plotlyjs(), _source("figures.js")
    parts = [
        Html('<!DOCTYPE html>\n<html lang="en">\n'),
        _head(report.source.title, [first, plotly, last]),
        Html("\n<body>\n"),
        _top(sections),
        element("main", joined((section.body for section in sections), Html("\n"))),
        _foot(report),
        _timeline_data(report, tracks),
        script(first),
        data_block("figures-data", drawn),
        script(plotly),
        script(last),
        Html("\n</body>\n</html>\n"),
    ]
    for part in parts:
        file.write(part.encode())


def _tables(report: Report) -> tuple[list[Section], list[Section]]:
    """Give the tables that a whole report lists: those above the timeline, and those below it."""
    shown = [table for table in report.tables if table.listed and not table.is_empty]
    above = [table for table in shown if table.name in _ABOVE]
    below = [table for table in shown if table.name not in _ABOVE]
    first, others = (
        [Section(table.name, short(table.title), table_section(table)) for table in tables]
        for tables in (above, below)
    )
    return first, others


def _head(title: str, scripts: Iterable[str]) -> Html:
    """Give the head; its policy lets the page's own scripts run and nothing be fetched."""
    hashes = " ".join(map(script_hash, scripts))
    rules = [
        "default-src 'none'",
        f"script-src {hashes}",
        "style-src 'unsafe-inline'",  # plotly makes its own rules; they can do no harm
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return element(
        "head",
        void("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(rules)}">'),
        void("meta", name="viewport", content="width=device-width, initial-scale=1"),
        void("meta", name="color-scheme", content="light dark"),
        void("meta", name="referrer", content="no-referrer"),
        element("title", f"evtrace: {title}"),
        Html(f"<style>{_source('page.css')}</style>"),
    )


def _top(sections: Iterable[Section]) -> Html:
    links = [element("a", section.title, href=f"#{section.name}") for section in sections]
    return element(
        "header",
        element("a", "evtrace", href="#verdict", class_="brand"),
        element("nav", joined(links), aria_label="Sections"),
        element("button", "◐", type="button", id="theme", title="Light or dark", hidden=True),
        class_="top",
    )


def _foot(report: Report) -> Html:
    made = f"Made by evtrace {__version__} from {report.source.title}. "
    alone = "This file is whole: it fetches nothing and sends nothing."
    return element("footer", element("p", made, alone))


def _timeline_data(report: Report, tracks: Tracks) -> Html:
    """Give what `timeline.js` draws: marks packed, and what they mean."""
    packed = Packed()
    for name, frame in tracks.marks.items():
        packed.add(name, frame)
    about = {
        "firstTsc": str(tracks.first_tsc),
        "length": tracks.length,
        "tscHz": report.source.facts.tsc_hz,
        "lanes": tracks.lanes.to_dicts(),
        "pcpus": tracks.pcpus,
        "causes": cause_legend(report.causes),
        "story": story(tracks),
        "tables": packed.index,
    }
    data = Html(f'<script type="text/plain" id="timeline-marks">{packed.text()}</script>')
    return joined([data_block("timeline-data", about), data, Html("\n")])


@cache
def _source(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
