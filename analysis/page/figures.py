"""The page's plotly figures, drawn from frames of `distributions.py`.

Colours of ground, grid and text are the page's own and change with it; `figures.js` sets them.
"""

from collections.abc import Sequence
from math import log10

import polars as pl
from plotly.graph_objects import Figure

from evtrace.analysis.page.colours import CAUSE_COLOURS, CHANNEL_COLOURS
from evtrace.analysis.page.sections import span
from evtrace.verdicts import Cause

_HEIGHT = 340
_MARGIN = {"l": 62, "r": 16, "t": 12, "b": 48}
_LEGEND = {"orientation": "h", "y": -0.24, "yanchor": "top", "x": 0, "font": {"size": 12}}


def latency_histogram(frame: pl.DataFrame, channels: Sequence[str]) -> Figure:
    """Draw a stage's histogram of each channel, on a logarithmic axis of time."""
    figure = _figure("latency", "handler runs")
    for channel, colour in zip(channels, CHANNEL_COLOURS, strict=False):
        own = frame.filter(pl.col("channel") == channel)
        edges = [*own["from_ns"], *own["to_ns"].tail(1)]
        counts = [0, *own["count"], 0]
        figure.add_scatter(
            x=[*edges[:1], *edges],
            y=counts,
            name=channel,
            mode="lines",
            line={"shape": "hv", "color": colour, "width": 1.6},
            fill="tozeroy",
            fillcolor=f"{colour}30",
            hovertemplate="from %{x:.3s}ns: %{y:,}<extra>%{fullData.name}</extra>",
        )
    figure.update_xaxes(type="log", **_time_ticks(frame["from_ns"], frame["to_ns"]))
    figure.update_yaxes(rangemode="tozero", **_whole_numbers(frame["count"].max()))
    return figure


def percentile_figure(frame: pl.DataFrame, channels: Sequence[str]) -> Figure:
    """Draw a stage's percentile curve of each channel: ever rarer to the right."""
    figure = _figure("percentile", "latency")
    for channel, colour in zip(channels, CHANNEL_COLOURS, strict=False):
        own = frame.filter((pl.col("channel") == channel) & (pl.col("latency_ns") > 0))
        shown = [span(ns) for ns in own["latency_ns"]]
        figure.add_scatter(
            x=own["one_in"].to_list(),
            y=own["latency_ns"].to_list(),
            name=channel,
            mode="lines+markers",
            line={"color": colour, "width": 1.6},
            marker={"size": 4},
            customdata=[
                [text, _percent(one_in)] for text, one_in in zip(shown, own["one_in"], strict=True)
            ],
            hovertemplate="%{customdata[1]}: %{customdata[0]}<extra>%{fullData.name}</extra>",
        )
    ticks = [1.0, 2.0, *(10.0**power for power in range(1, 8))]
    decades = log10(max(10.0, float(str(frame["one_in"].max()))))
    figure.update_xaxes(
        type="log",
        range=[-0.03, decades + 0.05],
        tickvals=ticks,
        ticktext=list(map(_percent, ticks)),
    )
    figure.update_yaxes(type="log", **_time_ticks(frame["latency_ns"], frame["latency_ns"]))
    return figure


def causes_figure(frame: pl.DataFrame, first_tsc: int, tsc_hz: int | None) -> Figure:
    """Draw how many runs had which cause, over time since `first_tsc`."""
    scale, unit = _time_scale(frame, first_tsc, tsc_hz)
    figure = _figure(f"time, {unit}", "handler runs")
    for cause in frame.group_by("cause").agg(pl.col("runs").sum()).sort("runs")["cause"][::-1]:
        own = frame.filter(pl.col("cause") == cause)
        middle = pl.col("from_tsc") - first_tsc + pl.col("cycles") / 2
        figure.add_bar(
            x=own.select(middle / scale).to_series().to_list(),
            y=own["runs"].to_list(),
            width=own.select(pl.col("cycles") / scale).to_series().to_list(),
            name=cause,
            marker={"color": CAUSE_COLOURS[Cause(cause)], "line": {"width": 0}},
            hovertemplate=f"%{{x:.4~g}} {unit}: %{{y:,}}<extra>{cause}</extra>",
        )
    figure.update_layout(barmode="stack", bargap=0)
    figure.update_xaxes(type="linear")
    highest = frame.group_by("from_tsc").agg(pl.col("runs").sum())["runs"].max()
    figure.update_yaxes(**_whole_numbers(highest))
    return figure


def _figure(x_title: str, y_title: str) -> Figure:
    figure = Figure()
    figure.update_layout(
        template={},
        height=_HEIGHT,
        margin=_MARGIN,
        legend=_LEGEND,
        showlegend=True,
        hovermode="closest",
    )
    figure.update_xaxes(title={"text": x_title, "standoff": 8})
    figure.update_yaxes(title={"text": y_title, "standoff": 8})
    return figure


def _time_ticks(low: pl.Series, high: pl.Series) -> dict[str, object]:
    """Label powers of ten as times, from the lowest to the highest; of few, their parts too."""
    least, most = (float(str(value)) for value in (low.min() or 1, high.max() or 1))
    steps = (1, 2, 5) if most < 50 * least else (1,)
    ticks = [step * 10**power for power in range(13) for step in steps]
    shown = [tick for tick in ticks if least / 10 <= tick <= most * 10]
    names = [span(tick).replace(".00", "").replace(".0", "") for tick in shown]
    return {"tickvals": shown, "ticktext": names}


def _whole_numbers(most: object) -> dict[str, object]:
    """Let an axis of counts name no half."""
    return {"dtick": 1} if isinstance(most, int) and most < 5 else {"tickformat": ",d"}


def _percent(one_in: float) -> str:
    """Name a percentile: `99.9%`."""
    return f"{100 - 100 / one_in:.7g}%"


def _time_scale(frame: pl.DataFrame, first_tsc: int, tsc_hz: int | None) -> tuple[float, str]:
    """Choose a unit in which the last time is a number that reads well."""
    last = frame.select((pl.col("from_tsc") + pl.col("cycles")).max()).item() or first_tsc
    if tsc_hz is None:
        return 1.0, "TSC cycles"
    seconds = (last - first_tsc) / tsc_hz
    for unit, length in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= length:
            return tsc_hz * length, unit
    return tsc_hz * 1e-6, "µs"
