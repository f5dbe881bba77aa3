"""`evtrace report`: why each handler ran, what became of each send, and what it cost."""

import json
from dataclasses import asdict
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

if TYPE_CHECKING:
    from evtrace.analysis.report import Report


def report(
    trace: TracePath,
    doms: Doms = None,
    ports: Ports = None,
    tsc_from: From = None,
    tsc_to: To = None,
    xen: XenProfile = None,
    output: Annotated[Format, typer.Option("--format", help="Text or JSON.")] = Format.TEXT,
) -> None:
    """Say why each handler ran, what became of each send, and how long it took."""
    from evtrace.analysis.report import Scope, make_report  # noqa: PLC0415  when the command runs
    from evtrace.analysis.text import render  # noqa: PLC0415
    from evtrace.api import Trace  # noqa: PLC0415
    from evtrace.tracefile.selection import make_selection  # noqa: PLC0415

    with Trace(trace) as opened:
        selection = make_selection(opened.reader, doms, ports, None, tsc_from, tsc_to, None)
        results = opened.replay(xen)
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
        "findings": [found.as_json() for found in made.findings],
        "divergences": [asdict(found) for found in made.divergences],
    }
