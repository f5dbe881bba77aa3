"""Tables: what a report is made of. Every format shows the same ones."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a report."""

    name: str
    """Stable: its key in JSON, its name for `--table`, its anchor on the page."""
    title: str
    frame: pl.DataFrame
    """Units stand in the columns' names: `p50_ns`, `max_at_tsc`, `share`. Null: not observed."""
    note: str = ""
    """What to know before reading it, in a sentence or two."""
    hidden: tuple[str, ...] = ()
    """Columns that only JSON and CSV hold."""

    @property
    def shown(self) -> list[str]:
        """Columns that text and page show; one in which nothing was observed is left out."""
        return [
            name
            for name in self.frame.columns
            if name not in self.hidden and self.frame[name].null_count() < self.frame.height
        ]

    def headings(self) -> list[str]:
        """Give the headings of the columns shown: their names without the unit."""
        return [_heading(name) for name in self.shown]

    def cells(self) -> Iterable[Sequence[str]]:
        """Give the rows as text; what was not observed is `-`."""
        shows = [show_as(name) for name in self.shown]
        for row in self.frame.select(self.shown).iter_rows():
            yield [
                "-" if value is None else show(value)
                for show, value in zip(shows, row, strict=True)
            ]

    def is_number(self, name: str) -> bool:
        """Tell whether a column holds numbers, which stand to the right."""
        return self.frame.schema[name].is_numeric()


_UNITS = ("_ns", "_tsc")


def _heading(name: str) -> str:
    for unit in _UNITS:
        name = name.removesuffix(unit)
    return name.replace("_", " ")


def show_as(name: str) -> Callable[[object], str]:
    """Give the function that shows a value of a column, by the unit in the column's name."""
    if name.endswith("_ns"):
        return lambda value: duration(int(str(value)))
    if name == "share":
        return lambda value: f"{float(str(value)):.1%}"
    if name in {"tsc", "seq"} or name.endswith(("_tsc", "_seq")):
        return str
    return _plain


def _plain(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, (list, pl.Series)):
        return " ".join(map(str, value))
    return str(value)


def duration(nanoseconds: int) -> str:
    """Show a time with three or four digits and its unit: `340ns`, `5.80us`, `31.9ms`, `1.20s`."""
    value = float(nanoseconds)
    for unit in ("ns", "us", "ms"):
        if abs(value) < 999.5:
            return f"{value:.0f}{unit}" if unit == "ns" else f"{_three(value)}{unit}"
        value /= 1000
    return f"{value:,.2f}s"


def _three(value: float) -> str:
    places = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{places}f}"
