"""Tables: what a report is made of. Every format shows the same ones."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

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
    labels: Mapping[str, str] = field(default_factory=dict)
    """Headings of columns that are not headed by their names."""
    listed: int = 20
    """Rows that a whole report shows; asked for by name, a table shows all."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return self.frame.is_empty() or not self.shown

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
        return [self.labels.get(name) or _heading(name) for name in self.shown]

    def cells(self) -> Iterable[Sequence[str]]:
        """Give the rows as text, `listed` of them; what was not observed is `-`."""
        shows = [show_as(name) for name in self.shown]
        for row in self.frame.select(self.shown).head(self.listed).iter_rows():
            yield [
                "-" if value is None else show(value)
                for show, value in zip(shows, row, strict=True)
            ]

    def is_number(self, name: str) -> bool:
        """Tell whether a column holds numbers, which stand to the right."""
        return self.frame.schema[name].is_numeric()

    @property
    def unlisted(self) -> int:
        """How many rows `cells` leaves out."""
        return max(0, self.frame.height - self.listed)

    def whole(self) -> "Table":
        """Give the same table with all its rows listed."""
        return replace(self, listed=self.frame.height)


_UNITS = ("_ns", "_tsc", "_hz", "_share")


def _heading(name: str) -> str:
    for unit in _UNITS:
        name = name.removesuffix(unit)
    return name.replace("_", " ")


def show_as(name: str) -> Callable[[object], str]:
    """Give the function that shows a value of a column, by the unit in the column's name."""
    if name.endswith("_ns"):
        return lambda value: duration(int(str(value)))
    if name.endswith("_hz"):
        return lambda value: f"{float(str(value)):,.0f}/s"
    if name == "share" or name.endswith("_share"):
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
