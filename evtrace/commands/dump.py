"""`evtrace dump`: every record of a trace in global time order."""

import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from evtrace.commands.options import (
    Around,
    Doms,
    From,
    Kinds,
    Ports,
    To,
    TracePath,
    warn_of_damage,
)

if TYPE_CHECKING:
    import polars as pl


class DumpFormat(StrEnum):
    """What `dump` prints: text, JSON lines or CSV."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"


class Style(StrEnum):
    """How a line of text looks."""

    EVTRACE = "evtrace"
    XENTRACE_FORMAT = "xentrace_format"


def dump(
    trace: TracePath,
    doms: Doms = None,
    ports: Ports = None,
    kinds: Kinds = None,
    tsc_from: From = None,
    tsc_to: To = None,
    around: Around = None,
    output: Annotated[
        DumpFormat, typer.Option("--format", help="Text, JSON lines or CSV.")
    ] = DumpFormat.TEXT,
    style: Annotated[Style, typer.Option(help="How a line of text looks.")] = Style.EVTRACE,
) -> None:
    """Print every record in time order, one a line, each by its name."""
    from evtrace.tracefile.reader import open_trace  # noqa: PLC0415  loaded when the command runs
    from evtrace.tracefile.rows import annotated  # noqa: PLC0415
    from evtrace.tracefile.selection import make_selection  # noqa: PLC0415

    with open_trace(trace) as reader:
        wanted = make_selection(reader, doms, ports, kinds, tsc_from, tsc_to, around)
        try:
            batches = (batch.filter(wanted.expr()) for batch in annotated(reader))
            for text in _printer(output, style)(batches):
                sys.stdout.write(text)
        finally:
            warn_of_damage(trace, reader.damage)


Printer = Callable[[Iterable["pl.DataFrame"]], Iterable[str]]


def _printer(output: DumpFormat, style: Style) -> Printer:
    """Choose what turns batches into text."""
    match output, style:
        case DumpFormat.TEXT, Style.EVTRACE:
            return _as_lines
        case DumpFormat.TEXT, Style.XENTRACE_FORMAT:
            return _as_xentrace_format
        case DumpFormat.JSON, _:
            return _as_json_lines
        case _:
            return _as_csv


def _as_lines(batches: Iterable["pl.DataFrame"]) -> Iterable[str]:
    from evtrace.tracefile.lines import evtrace_lines  # noqa: PLC0415  loads construct

    for batch in batches:
        yield "".join(f"{line}\n" for line in evtrace_lines(batch))


def _as_xentrace_format(batches: Iterable["pl.DataFrame"]) -> Iterable[str]:
    from evtrace.tracefile.lines import XentraceFormat  # noqa: PLC0415  loads construct

    style = XentraceFormat()
    for batch in batches:
        yield "".join(f"{line}\n" for line in style.lines(batch))


def _as_json_lines(batches: Iterable["pl.DataFrame"]) -> Iterable[str]:
    from evtrace.tracefile.tables import record_table  # noqa: PLC0415  loads construct

    for batch in batches:
        yield record_table(batch).write_ndjson()


def _as_csv(batches: Iterable["pl.DataFrame"]) -> Iterable[str]:
    from evtrace.tracefile.tables import record_table  # noqa: PLC0415  loads construct

    for number, batch in enumerate(batches):
        yield record_table(batch).write_csv(include_header=not number)
