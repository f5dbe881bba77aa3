"""`evtrace convert`: a trace in the form that other tools read."""

from enum import StrEnum
from pathlib import Path
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
    XenProfile,
    warn_of_damage,
)
from evtrace.commands.progress import open_trace
from evtrace.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl

    from evtrace.api import Trace
    from evtrace.tracefile.selection import Selection
    from evtrace.tracefile.stripping import Stripped
    from evtrace.tracefile.tables import Table

PERFETTO_SUFFIX = ".pftrace"


class TableName(StrEnum):
    """What a table holds a row for."""

    TIMELINE = "timeline"
    RUNS = "runs"
    SENDS = "sends"
    LATENCIES = "latencies"
    RECORDS = "records"


def convert(
    trace: TracePath,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="The file to write; .parquet, .arrow, .csv, .jsonl or .pftrace is the format.",
        ),
    ],
    table: Annotated[
        TableName, typer.Option(help="A row for each of what the table holds.")
    ] = TableName.TIMELINE,
    stock: Annotated[
        bool, typer.Option("--stock", help="Leave out evtrace's own records: for xenalyze.")
    ] = False,
    doms: Doms = None,
    ports: Ports = None,
    kinds: Kinds = None,
    tsc_from: From = None,
    tsc_to: To = None,
    around: Around = None,
    xen: XenProfile = None,
    hz: Annotated[
        int | None,
        typer.Option(metavar="HZ", min=1, help="TSC frequency, if the trace tells none."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output.")] = False,
) -> None:
    """Write a trace for other tools: as a table, for Perfetto, or with --stock for xenalyze.

    A table holds the timeline, the handler runs, their latencies or the sends with their verdicts,
    or all records.
    With --stock Xen's own records keep their bytes and windows; *.zst is compressed.
    """
    from evtrace.tracefile.selection import make_selection  # noqa: PLC0415
    from evtrace.tracefile.stripping import write_stock  # noqa: PLC0415

    narrowing = (doms, ports, kinds, tsc_from, tsc_to, around)
    _refuse_format(output, stock=stock, narrowed=any(option is not None for option in narrowing))
    with open_trace(trace, "converting") as opened:
        if stock:
            done = write_stock(opened.reader, output, force=force)
            said, damage = summary(done), done.damage
        else:
            wanted = make_selection(opened.reader, *narrowing)
            if output.suffix == PERFETTO_SUFFIX:
                said = _write_perfetto(opened, output, wanted, xen, hz, force=force)
            else:
                said = _write_table(opened, output, table, wanted, xen, force=force)
            damage = opened.reader.damage
        warn_of_damage(trace, damage)
    print(f"{output}: {said}")  # noqa: T201  a command prints


def _refuse_format(output: Path, *, stock: bool, narrowed: bool) -> None:
    """Refuse an output whose name tells no format, and a stock trace of a part."""
    from evtrace.tracefile.tables import TABLE_SUFFIXES  # noqa: PLC0415

    known = (*TABLE_SUFFIXES, PERFETTO_SUFFIX)
    if stock and narrowed:
        message = "--stock converts the whole trace; cut a slice of it first (evtrace cut)"
        raise UsageError(message)
    if not stock and output.suffix not in known:
        message = f"{output}: no format is named so: end it with {', '.join(known)}; or --stock"
        raise UsageError(message)


def summary(done: "Stripped") -> str:
    """Say how many records were kept and how many were not."""
    strays = f" and {done.strays:,} that xentrace never writes" if done.strays else ""
    return f"{done.kept:,} records kept, {done.family:,} of evtrace's family{strays} left out"


def _write_table(
    opened: "Trace",
    output: Path,
    name: TableName,
    wanted: "Selection",
    xen: str | None,
    *,
    force: bool,
) -> str:
    from evtrace.tracefile.partial import PartialFile  # noqa: PLC0415
    from evtrace.tracefile.tables import write_table  # noqa: PLC0415

    PartialFile(output, force=force).refuse_as_source(opened.reader.path)
    if name not in {TableName.TIMELINE, TableName.RECORDS} and wanted.kinds:
        message = f"--kind selects rows of the timeline; {name} have none"
        raise UsageError(message)
    table = _table(opened, name, wanted, xen)
    write_table(table, output, force=force)
    return f"{name}, {table.rows:,} rows"


def _table(opened: "Trace", name: TableName, wanted: "Selection", xen: str | None) -> "Table":
    from evtrace.tracefile.rows import annotated  # noqa: PLC0415
    from evtrace.tracefile.tables import (  # noqa: PLC0415
        RECORD_TABLE,
        TIMELINE_TABLE,
        Table,
        record_table,
        timeline_table,
    )

    about = _about(opened, name)
    frames: Iterable[pl.DataFrame]
    match name:
        case TableName.TIMELINE:
            frames = (timeline_table(batch.filter(wanted.expr())) for batch in opened.batches())
            return Table(TIMELINE_TABLE, frames, about)
        case TableName.RECORDS:
            batches = annotated(opened.reader)
            frames = (record_table(batch.filter(wanted.expr())) for batch in batches)
            return Table(RECORD_TABLE, frames, about)
    table = _verdicts(opened, name, wanted, xen)
    return Table(table.schema, [table], about)


def _verdicts(
    opened: "Trace", name: TableName, wanted: "Selection", xen: str | None
) -> "pl.DataFrame":
    """Give the table of runs, their latencies, or of sends; of a send, either end may be selected.

    A latency is selected by its run.
    """
    from evtrace.analysis.scope import Scope  # noqa: PLC0415

    scope = Scope.of(wanted)
    if name is TableName.SENDS:
        return opened.sends(xen).filter(scope.of_sends()).collect()
    runs = opened.runs(xen).filter(scope.of_runs()).collect()
    if name is TableName.RUNS:
        return runs
    return opened.latencies(xen).join(runs.lazy(), on="seq", how="semi").collect()


def _about(opened: "Trace", name: TableName) -> dict[str, str]:
    """Say in words what the table is of, for a format that has room for it."""
    from evtrace.version import __version__  # noqa: PLC0415

    facts = opened.facts
    return {
        "evtrace": __version__,
        "table": name.value,
        "trace": opened.reader.name,
        "tsc_hz": str(facts.tsc_hz or ""),
        "timing": facts.timing.name.lower(),
    }


def _write_perfetto(
    opened: "Trace",
    output: Path,
    wanted: "Selection",
    xen: str | None,
    hz: int | None,
    *,
    force: bool,
) -> str:
    from evtrace.analysis.perfetto.drawing import draw  # noqa: PLC0415
    from evtrace.analysis.perfetto.file import require_package  # noqa: PLC0415
    from evtrace.tracefile.partial import PartialFile  # noqa: PLC0415

    require_package()
    tsc_hz = opened.facts.tsc_hz or hz
    if tsc_hz is None:
        message = "the trace does not tell its TSC frequency, Perfetto wants nanoseconds: give --hz"
        raise UsageError(message)
    with PartialFile(output, force=force) as target:
        target.refuse_as_source(opened.reader.path)
        with target.open() as file:
            drawn = draw(
                file, opened.batches, opened.facts, opened.replay(xen), tsc_hz, wanted.expr()
            )
    return f"{drawn.slices:,} slices, {drawn.flows:,} flows, {drawn.tracks:,} tracks"
