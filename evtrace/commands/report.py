"""`evtrace report`: why each handler ran, what became of each send, and what it cost."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evtrace.commands.options import (
    Doms,
    Format,
    From,
    Ports,
    To,
    TracePath,
    XenProfile,
    warn_of_damage,
)
from evtrace.errors import UsageError

if TYPE_CHECKING:
    from evtrace.analysis.report import Report
    from evtrace.api import Trace
    from evtrace.tracefile.selection import Selection

PAGE_SUFFIXES = (".html", ".htm")


def report(
    trace: TracePath,
    doms: Doms = None,
    ports: Ports = None,
    tsc_from: From = None,
    tsc_to: To = None,
    xen: XenProfile = None,
    form: Annotated[Format, typer.Option("--format", help="Text or JSON.")] = Format.TEXT,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE.html", help="Write it as a page instead."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output.")] = False,
) -> None:
    """Say why each handler ran, what became of each send, and how long it took.

    With -o it is one HTML file with timeline and figures that works offline.
    """
    from evtrace.analysis.report import Scope, make_report  # noqa: PLC0415  when the command runs
    from evtrace.analysis.text import render  # noqa: PLC0415
    from evtrace.api import Trace  # noqa: PLC0415
    from evtrace.tracefile.selection import make_selection  # noqa: PLC0415

    if output is not None:
        _refuse_output(output, force=force)
    with Trace(trace) as opened:
        selection = make_selection(opened.reader, doms, ports, None, tsc_from, tsc_to, None)
        results = opened.replay(xen)
        made = make_report(
            opened.reader.name,
            opened.profile(xen).name,
            opened.facts,
            opened.coverage,
            results,
            Scope(selection.doms, selection.ports, selection.tsc_from, selection.tsc_to),
        )
        if output is not None:
            _write_page(output, made, opened, selection, force=force)
        warn_of_damage(trace, opened.reader.damage)
    if output is not None:
        print(f"{output}: {made.verdict}")  # noqa: T201
    elif form is Format.JSON:
        print(json.dumps(as_json(made), indent=2))  # noqa: T201  a command prints
    else:
        print(render(made), end="")  # noqa: T201


def _refuse_output(output: Path, *, force: bool) -> None:
    """Refuse what cannot be written before the trace is replayed."""
    from evtrace.tracefile.partial import PartialFile  # noqa: PLC0415

    if output.suffix.lower() not in PAGE_SUFFIXES:
        message = (
            f"{output}: what is written is a page: end it with .html; text and JSON go to stdout"
        )
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
    with PartialFile(output, force=force) as target:
        target.refuse_as_source(opened.reader.path)
        with target.open() as file:
            write_page(file, made, lambda: (batch.filter(wanted) for batch in opened.timeline()))


def as_json(made: "Report") -> dict[str, object]:
    """Give the report by `schemas/report.schema.json`."""
    from evtrace.timeline import class_names  # noqa: PLC0415  when the command runs

    columns = ["seq", "dom", "vcpu", "port", "irq", "tsc", "tsc_hi", "exit_tsc", "upcall_tsc"]
    columns += [
        "cleared_tsc",
        "eoi_tsc",
        "unmask_tsc",
        "cause",
        "reason",
        "routes",
        "evidence",
        "work",
        "contributors",
    ]
    return {
        "schema": "evtrace-report/1",
        "trace": made.title,
        "xen": made.profile,
        "verdict": made.verdict,
        "level": made.level,
        "tsc_hz": made.facts.tsc_hz,
        "timing": made.facts.timing.name.lower(),
        "coverage": [
            {**entry, "classes": class_names(entry["classes"])}
            for entry in made.coverage.to_dicts()
        ],
        "runs": made.runs.select(columns).to_dicts(),
        "causes": made.causes,
        "sends": {
            "total": made.sends.height,
            "fates": made.fates,
            "list": made.sends.to_dicts(),
        },
        "spurious": {
            "L1": made.spurious.l1_empty_upcalls,
            "L2": made.spurious.l2_unprovoked_runs,
            "L3": made.spurious.l3_no_work,
        },
        "latencies": made.latencies.to_dicts(),
        "findings": [asdict(found) for found in made.findings],
        "divergences": [asdict(found) for found in made.divergences],
    }
