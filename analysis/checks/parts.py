"""Parts of a trace that a rule can be about: all of it, a domain, a port, a channel."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum, unique
from functools import cached_property
from typing import Final

import polars as pl

from evtrace.analysis.channels import attributed, receiving
from evtrace.analysis.latency import GroupBy, group
from evtrace.analysis.report import Report
from evtrace.errors import UsageError

ARROW: Final = "→"


@unique
class Reach(StrEnum):
    """How large a part of a trace is."""

    TRACE = "trace"
    DOMAIN = "domain"
    PORT = "port"
    CHANNEL = "channel"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a trace, by the name that the report gives it: `d0`, `d0:33`, `d1:8→d0:33`."""

    reach: Reach
    name: str = ""

    @property
    def dom(self) -> int | None:
        """The domain that it is about, or whose port it is; None: several."""
        match = re.match(r"d(\d+)", self.name)
        return int(match[1]) if match and self.reach in {Reach.DOMAIN, Reach.PORT} else None

    @property
    def port(self) -> int | None:
        """The port that it is about; None: several."""
        return int(self.name.partition(":")[2]) if self.reach is Reach.PORT else None


WHOLE: Final = Part(Reach.TRACE)


def with_arrow(text: str) -> str:
    """Take `->` for the arrow that names have."""
    return text.replace("->", ARROW)


def read_part(text: str) -> Part:
    """Read what a rule is `on`; raises `UsageError` for what names no part."""
    name = with_arrow(text).replace(" ", "")
    if name in {"", "all"}:
        return WHOLE
    if re.fullmatch(r"d\d+", name):
        return Part(Reach.DOMAIN, name)
    if re.fullmatch(r"d\d+:\d+", name):
        return Part(Reach.PORT, name)
    if re.fullmatch(rf"[a-z_\d:?]+{ARROW}d[\d?]+:[\d?]+", name):
        return Part(Reach.CHANNEL, name)
    message = f"on = {text!r}: expected d0, d0:33, d1:8→d0:33 or all"
    raise UsageError(message)


class Measured:
    """The tables of a report, with the names of the parts that each row belongs to."""

    def __init__(self, report: Report) -> None:
        """Keep the report; its tables are made when they are asked for."""
        self.report = report

    @cached_property
    def _runs(self) -> pl.DataFrame:
        return attributed(self.report.runs).with_columns(group(GroupBy.CHANNEL))

    @cached_property
    def _sends(self) -> pl.DataFrame:
        return receiving(self.report.sends, self.report.runs).with_columns(group(GroupBy.CHANNEL))

    @cached_property
    def _stages(self) -> pl.DataFrame:
        return self.report.stages.with_columns(group(GroupBy.CHANNEL))

    def runs(self, part: Part) -> pl.DataFrame:
        """Give the runs of a part, those of `Report.runs`."""
        return self._runs.filter(_within(part))

    def sends(self, part: Part) -> pl.DataFrame:
        """Give the sends of a part: of a domain or port, what it sent and what it was sent."""
        return self._sends.filter(_within(part) | _within(part, "from_"))

    def stages(self, part: Part) -> pl.DataFrame:
        """Give the measured stages of the runs of a part."""
        return self._stages.filter(_within(part))

    def each(self, reach: Reach) -> Iterator[Part]:
        """Name the parts of one kind that have a run, a send or a measured stage."""
        if reach is Reach.TRACE:
            yield WHOLE
            return
        names = {
            name
            for frame in (self._runs, self._sends, self._stages)
            for name in frame.select(_NAMES[reach]).to_series().drop_nulls().unique()
        }
        yield from (Part(reach, name) for name in sorted(names))

    def holds(self, part: Part) -> bool:
        """Whether the trace has anything of a part."""
        return part.reach is Reach.TRACE or any(
            not frame.is_empty() for frame in (self.runs(part), self.sends(part), self.stages(part))
        )


_NAMES: Final = {
    Reach.DOMAIN: pl.format("d{}", "dom"),
    Reach.PORT: pl.format("d{}:{}", "dom", "port"),
    Reach.CHANNEL: pl.col("group"),
}


def _within(part: Part, end: str = "") -> pl.Expr:
    """Give the filter of a part, by one end of what the rows are about."""
    match part.reach:
        case Reach.TRACE:
            wanted = pl.lit(value=True)
        case Reach.DOMAIN:
            wanted = pl.col(f"{end}dom") == part.dom
        case Reach.PORT:
            wanted = (pl.col(f"{end}dom") == part.dom) & (pl.col(f"{end}port") == part.port)
        case Reach.CHANNEL:
            wanted = pl.col("group") == part.name
    return wanted.fill_null(value=False)
