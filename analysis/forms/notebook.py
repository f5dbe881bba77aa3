"""A report in a notebook: a sentence and its tables as HTML without script or style sheet."""

from collections.abc import Iterable, Iterator
from html import escape

from evtrace.analysis.tables import Table

_RIGHT = ' style="text-align: right"'
_LEFT = ' style="text-align: left"'


def as_html(sentence: str, tables: Iterable[Table]) -> str:
    """Give what `Report._repr_html_` returns: the verdict, then each table that has rows."""
    shown = (table_html(table) for table in tables if not table.is_empty)
    return "\n".join([f"<p><strong>{escape(sentence)}</strong></p>", *shown])


def table_html(table: Table) -> str:
    """Give a table with its title, note and listed rows; all text is escaped."""
    return "\n".join(_lines(table))


def _lines(table: Table) -> Iterator[str]:
    sides = [_RIGHT if table.is_number(name) else _LEFT for name in table.shown]
    yield "<table>"
    yield f"<caption{_LEFT}>{escape(table.title)}</caption>"
    heads = [f' scope="col"{side}' for side in sides]
    yield f"<thead>{_row('th', heads, table.headings())}</thead>"
    yield "<tbody>"
    for cells in table.cells():
        yield _row("td", sides, cells)
    yield "</tbody>"
    yield "</table>"
    notes = [escape(table.note)] if table.note else []
    notes += [f"{table.unlisted:,} more rows"] if table.unlisted else []
    if notes:
        yield f"<p><small>{' '.join(notes)}</small></p>"


def _row(tag: str, attributes: Iterable[str], cells: Iterable[str]) -> str:
    marked = (
        f"<{tag}{attribute}>{escape(cell)}</{tag}>"
        for attribute, cell in zip(attributes, cells, strict=True)
    )
    return f"<tr>{''.join(marked)}</tr>"
