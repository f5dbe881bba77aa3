"""`evtrace report`: why each handler ran, what became of each send, and what it cost."""

from dataclasses import replace
from difflib import get_close_matches
from enum import StrEnum, unique
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evtrace.commands.options import (
    Around,
    Doms,
    From,
    Ports,
    To,
    TracePath,
    XenProfile,
    warn_of_damage,
)
from evtrace.commands.progress import open_trace
from evtrace.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evtrace.analysis.report import Report
    from evtrace.analysis.tables import Table
    from evtrace.api import Trace
    from evtrace.replay.results import Results
    from evtrace.tracefile.selection import Selection


PAGE_SUFFIXES = (".html", ".htm")


@unique
class View(StrEnum):
    """What a report looks like."""

    TABLES = "tables"
    INTERLEAVING = "interleaving"


@unique
class ReportFormat(StrEnum):
    """What a report is printed as."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"
    CSV = "csv"


@unique
class Group(StrEnum):
    """What channels and latencies are summed up by; `analysis.latency.GroupBy`."""

    CHANNEL = "channel"
    PORT = "port"
    DOM = "dom"
    VCPU = "vcpu"
    DEVICE = "device"


def report(
    trace: TracePath,
    doms: Doms = None,
    ports: Ports = None,
    tsc_from: From = None,
    tsc_to: To = None,
    around: Around = None,
    view: Annotated[
        View, typer.Option("--as", help="Tables, or what vCPUs did side by side.")
    ] = View.TABLES,
    over: Annotated[
        str | None,
        typer.Option("--over", metavar="TIME", help="Explain what took longer: 1ms, 500us."),
    ] = None,
    group_by: Annotated[
        Group, typer.Option("--group-by", help="Sum up channels and latencies by this.")
    ] = Group.CHANNEL,
    tables: Annotated[
        list[str] | None,
        typer.Option("--table", metavar="NAME", help="Only this table, whole; repeat for more."),
    ] = None,
    stock: Annotated[
        bool,
        typer.Option(
            "--stock", help="Add what Xen's own records tell; always if there are no others."
        ),
    ] = False,
    xen: XenProfile = None,
    form: Annotated[
        ReportFormat, typer.Option("--format", help="What to print it as.")
    ] = ReportFormat.TEXT,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE.html", help="Write it as a page instead."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output.")] = False,
) -> None:
    """Say why each handler ran, what became of each send, and how long it took.

    With -o it is one HTML file, with timeline and figures, that works offline.
    """
    from evtrace.analysis.latency import GroupBy  # noqa: PLC0415  loaded when the command runs
    from evtrace.analysis.report import Wanted  # noqa: PLC0415
    from evtrace.analysis.scope import Scope  # noqa: PLC0415
    from evtrace.tracefile.selection import make_selection, parse_duration  # noqa: PLC0415

    if view is View.INTERLEAVING and form is not ReportFormat.TEXT:
        message = f"--as interleaving is text; --format {form.value} gives the tables"
        raise UsageError(message)
    if output is not None:
        _refuse_output(output, view, form, tables, force=force)
    with open_trace(trace, "replaying") as opened:
        selection = make_selection(opened.reader, doms, ports, None, tsc_from, tsc_to, around)
        if view is View.INTERLEAVING:
            print_interleaving(opened, selection, opened.replay(xen))
            warn_of_damage(trace, opened.reader.damage)
            return
        over_ns = parse_duration("--over", over) if over else _longest(opened, output)
        wanted = Wanted(Scope.of(selection), GroupBy(group_by), over_ns)
        made = opened.report(xen, wanted, stock=stock)
        if output is not None:
            _write_page(output, made, opened, selection, force=force)
        warn_of_damage(trace, opened.reader.damage)
    said = f"{output}: {made.verdict}" if output else _as_text(made, tables, form)
    print(said.removesuffix("\n"))  # noqa: T201  a command prints


def _longest(opened: "Trace", output: Path | None) -> int | None:
    """Give the time over which ways are explained, unless it was said: a page has the longest."""
    return None if output is None or opened.hz is None else 0


def _refuse_output(
    output: Path, view: View, form: ReportFormat, tables: list[str] | None, *, force: bool
) -> None:
    """Refuse what cannot be written, before the trace is replayed."""
    from evtrace.tracefile.partial import PartialFile  # noqa: PLC0415  when the command runs

    if output.suffix.lower() not in PAGE_SUFFIXES:
        message = f"{output}: what -o writes is a page: end its name with .html"
        raise UsageError(message)
    if view is not View.TABLES or form is not ReportFormat.TEXT or tables:
        message = f"{output}: a page holds the whole report: no --as, --format or --table with -o"
        raise UsageError(message)
    PartialFile(output, force=force)


def _write_page(
    output: Path, made: "Report", opened: "Trace", selection: "Selection", *, force: bool
) -> None:
    """Write the page; who ran on a pCPU is drawn whatever domain or port is selected."""
    import polars as pl  # noqa: PLC0415  when the command runs

    from evtrace.analysis.page.page import write_page  # noqa: PLC0415
    from evtrace.timeline import Kind  # noqa: PLC0415
    from evtrace.tracefile.partial import PartialFile  # noqa: PLC0415

    anyone = replace(selection, doms=frozenset(), ports=frozenset()).expr()
    wanted = selection.expr() | (anyone & (pl.col("kind") == Kind.RUNSTATE))

    def rows() -> "Iterator[pl.DataFrame]":
        return (batch.filter(wanted) for batch in opened.batches())

    with PartialFile(output, force=force) as target:
        target.refuse_as_source(opened.reader.path)
        with target.open() as file:
            write_page(file, made, rows)


def print_interleaving(opened: "Trace", selection: "Selection", results: "Results") -> None:
    """Print what vCPUs did side by side."""
    from evtrace.analysis.interleaving.picture import interleaving  # noqa: PLC0415  when it is asked for

    lines = interleaving(opened.batches, selection, results, opened.facts, opened.coverage)
    print("\n".join(lines))  # noqa: T201  a command prints


def _as_text(made: "Report", names: list[str] | None, form: ReportFormat) -> str:
    """Give the whole report, or the tables called `names`, in a format."""
    from evtrace.analysis.forms import machine, text  # noqa: PLC0415  when the command runs

    wanted = [_find(made, name).whole() for name in names or ()]
    match form:
        case ReportFormat.TEXT:
            return text.render_tables(wanted) if names else text.render(made)
        case ReportFormat.MARKDOWN:
            return machine.tables_as_markdown(wanted) if names else machine.as_markdown(made)
        case ReportFormat.JSON:
            return machine.tables_as_json(wanted) if names else machine.as_json(made)
        case ReportFormat.CSV:
            return machine.tables_as_csv(wanted or [t for t in made.tables if t.listed])


def _find(made: "Report", name: str) -> "Table":
    try:
        return made.table(name)
    except KeyError:
        known = [table.name for table in made.tables]
        near = get_close_matches(name, known, n=1, cutoff=0)
        message = f"--table {name}: there is no such table; the nearest is {near[0]}; "
        message += f"all: {', '.join(known)}"
        raise UsageError(message) from None
