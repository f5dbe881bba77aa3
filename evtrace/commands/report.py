"""`evtrace report`: why each handler ran, what became of each send, and what it cost."""

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evtrace.commands.options import (
    Around,
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
    from evtrace.replay.results import Results
    from evtrace.tracefile.selection import Selection


class View(StrEnum):
    """What a report looks like."""

    TABLES = "tables"
    INTERLEAVING = "interleaving"


def report(
    trace: TracePath,
    doms: Doms = None,
    ports: Ports = None,
    tsc_from: From = None,
    tsc_to: To = None,
    around: Around = None,
    view: Annotated[
        View, typer.Option("--as", help="Tables, or vCPUs side by side around a record.")
    ] = View.TABLES,
    xen: XenProfile = None,
    output: Annotated[Format, typer.Option("--format", help="Text or JSON.")] = Format.TEXT,
) -> None:
    """Say why each handler ran, what became of each send, and how long it took."""
    from evtrace.analysis.report import Scope, make_report  # noqa: PLC0415  when the command runs
    from evtrace.analysis.text import render  # noqa: PLC0415
    from evtrace.api import Trace  # noqa: PLC0415
    from evtrace.tracefile.selection import make_selection  # noqa: PLC0415

    if view is View.INTERLEAVING and output is not Format.TEXT:
        message = "--as interleaving is text; --format json gives the tables"
        raise UsageError(message)
    if around is not None and view is not View.INTERLEAVING:
        message = "--around goes with --as interleaving"
        raise UsageError(message)
    with Trace(trace) as opened:
        selection = make_selection(opened.reader, doms, ports, None, tsc_from, tsc_to, around)
        results = opened.replay(xen)
        if view is View.INTERLEAVING:
            print_interleaving(opened, selection, results)
            warn_of_damage(trace, opened.reader.damage)
            return
        made = make_report(
            Path(trace).name,
            opened.profile(xen).name,
            opened.facts,
            opened.coverage,
            results,
            Scope(selection.doms, selection.ports, selection.tsc_from, selection.tsc_to),
        )
        warn_of_damage(trace, opened.reader.damage)
    if output is Format.JSON:
        print(json.dumps(as_json(made), indent=2))  # noqa: T201  a command prints
    else:
        print(render(made), end="")  # noqa: T201


def print_interleaving(opened: "Trace", selection: "Selection", results: "Results") -> None:
    """Print what vCPUs did side by side."""
    from evtrace.analysis.interleaving import interleaving  # noqa: PLC0415  when it is asked for

    lines = interleaving(opened.timeline, selection, results, opened.facts, opened.coverage)
    print("\n".join(lines))  # noqa: T201  a command prints


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
