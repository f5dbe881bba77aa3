"""The page's sections with pictures: the timeline, latencies, causes over time."""

import json
from collections.abc import Iterator

import polars as pl
from plotly.graph_objects import Figure

from evtrace.analysis.contents import TIMING_WORDS
from evtrace.analysis.latency import STAGES, latency_table
from evtrace.analysis.page import distributions
from evtrace.analysis.page.colours import CHANNEL_COLOURS, cause_legend
from evtrace.analysis.page.figures import (
    causes_figure,
    latency_histogram,
    percentile_figure,
)
from evtrace.analysis.page.markup import Html, element, joined
from evtrace.analysis.page.sections import Section
from evtrace.analysis.page.tracks import Tracks
from evtrace.analysis.report import Report

Figures = dict[str, dict[str, object]]
"""Figure -> what is chosen (a stage, or "") -> plotly's JSON."""

_BUTTONS = (
    ("story", "First unprovoked run", "The first run that nobody provoked, and what led to it"),
    ("before", "◀", "The unprovoked run before (p)"),
    ("after", "▶", "The next unprovoked run (n)"),
    ("in", "+", "Closer (+)"),
    ("out", "-", "Further away (-)"),
    ("whole", "Whole trace", "The whole trace (Home)"),
)
_HELP = (
    "Drag to move; Ctrl and the wheel (or the wheel alone, once you have clicked), + and - or two "
    "fingers to zoom; arrow keys move, Home shows the whole trace, n and p go to the next and the "
    "previous run that nobody provoked. In the strip, drag over a stretch to see it."
)
_WHOLE_WAY = "send→handler"
"""The stage that is shown first."""

_MARKS = (
    ("upcalls", "upcall", "upcall"),
    ("sends", "send", "send"),
    ("calls", "call", "other call"),
    ("logs", "log", "log line"),
)
"""What is drawn of it, its class, its name in the legend."""


def draw_figures(report: Report, first_tsc: int) -> Figures:
    """Draw the report's figures."""
    drawn: Figures = {}
    tsc_hz = report.source.facts.tsc_hz
    if tsc_hz:
        drawn |= _latency_figures(latency_table(report.stages, tsc_hz))
    if report.runs.height:
        over_time = distributions.causes_over_time(report.runs)
        drawn["causes"] = {"": _json(causes_figure(over_time, first_tsc, tsc_hz))}
    return drawn


def _latency_figures(times: pl.DataFrame) -> Figures:
    bins, curves = distributions.histogram(times), distributions.percentile_curve(times)
    drawn: Figures = {"histogram": {}, "percentiles": {}}
    for stage in sorted(STAGES, key=lambda stage: stage != _WHOLE_WAY):
        channels = distributions.busiest(times, stage, len(CHANNEL_COLOURS))
        counted, curve = (frame.filter(stage=stage) for frame in (bins, curves))
        if counted.height:
            drawn["histogram"][stage] = _json(latency_histogram(counted, channels))
            drawn["percentiles"][stage] = _json(percentile_figure(curve, channels))
    return drawn if drawn["histogram"] else {}


def _json(figure: Figure) -> object:
    return json.loads(figure.to_json())


def figure_sections(report: Report, drawn: Figures) -> Iterator[Section]:
    """Give the sections that hold the figures drawn."""
    if "histogram" in drawn:
        body = _latency_section(report, list(drawn["histogram"]))
        yield Section("distributions", "Latency distributions", body)
    if "causes" in drawn:
        figure = _figure("causes", "Handler runs by cause over time")
        body = element("section", element("h2", "Causes over time"), figure, id="over-time")
        yield Section("over-time", "Causes over time", body)


def _latency_section(report: Report, stages: list[str]) -> Html:
    options = [element("option", stage, value=stage) for stage in stages]
    choice = element("label", "Stage ", element("select", joined(options), id="stage"))
    words = (
        f"The {len(CHANNEL_COLOURS)} busiest channels are drawn, the table of latencies has all. "
        f"Times are on logarithmic axes. {TIMING_WORDS[report.source.facts.timing]}"
    )
    pair = (
        _figure("histogram", "Histogram of latencies of each channel"),
        _figure("percentiles", "Percentile curve of latencies of each channel"),
    )
    return element(
        "section",
        element("h2", "Latency distributions"),
        element("p", words, class_="note"),
        element("p", choice, class_="choice"),
        element("div", *pair, class_="pair"),
        id="distributions",
    )


def _figure(name: str, label: str) -> Html:
    silent = element("noscript", element("p", "The figure needs JavaScript.", class_="note"))
    return element("div", silent, class_="figure", data_figure=name, role="img", aria_label=label)


def timeline_section(report: Report, tracks: Tracks) -> Html:
    """Give the timeline's frame: its buttons, its legend, the canvas that `timeline.js` fills."""
    buttons = [
        element("button", text, type="button", data_do=name, title=title)
        for name, text, title in _BUTTONS
    ]
    view = element(
        "div",
        element("canvas", id="timeline-view", tabindex=0, role="img", aria_label=_about(tracks)),
        element("canvas", id="timeline-strip", aria_hidden="true"),
        element("div", id="timeline-tip", role="tooltip", hidden=True),
        id="timeline-canvases",
    )
    words = "The timeline needs JavaScript; what it shows stands in the tables below."
    return element(
        "section",
        element("h2", "Timeline"),
        element("div", joined(buttons), class_="buttons", hidden=True, id="timeline-buttons"),
        _legend(report, tracks),
        view,
        element("noscript", element("p", words, class_="note")),
        element("p", "", id="timeline-now", class_="note", aria_live="polite"),
        element(
            "details",
            element("summary", "Mouse, keys and fingers"),
            element("p", _HELP, class_="note"),
            class_="help note",
        ),
        *(element("p", text, class_="note") for text in _left_out(tracks)),
        id="timeline",
    )


def _about(tracks: Tracks) -> str:
    return f"Timeline of {tracks.lanes.height} vCPUs with {tracks.kept:,} slices, marks and arrows"


def _legend(report: Report, tracks: Tracks) -> Html:
    causes = [
        element(
            "li",
            Html(f'<i style="background:{entry["colour"]}"></i>'),
            f"{entry['name']} ",
            element("span", f"{entry['runs']:,}", class_="count"),
        )
        for entry in cause_legend(report.causes)
    ]
    drawn = [(name, words) for table, name, words in _MARKS if tracks.marks[table].height]
    if any(entry["flagged"] for entry in cause_legend(report.causes)):
        drawn.insert(0, ("flag", "provoked by nobody"))
    marks = [
        element("li", element("i", class_=f"mark {name}"), words, class_="aside")
        for name, words in drawn
    ]
    return element("ul", joined([*causes, *marks]), class_="legend")


def _left_out(tracks: Tracks) -> Iterator[str]:
    if tracks.kept < tracks.total:
        yield (
            f"The first {tracks.kept:,} of {tracks.total:,} slices, marks and arrows are drawn; "
            "--from and --to choose others, --dom and --port fewer."
        )
    if tracks.lanes_left_out:
        yield (
            f"{tracks.lanes_left_out:,} more vCPUs are not drawn, in which less happens; "
            "--dom chooses."
        )
