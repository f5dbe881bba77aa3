"""`evtrace replay`: re-execute a trace and say where Xen answered otherwise than the model."""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from evtrace.commands.options import Format, TracePath, XenProfile
from evtrace.errors import ExitCode

if TYPE_CHECKING:
    from evtrace.replay.results import Results


def replay(
    trace: TracePath,
    xen: XenProfile = None,
    output: Annotated[Format, typer.Option("--format", help="Text or JSON.")] = Format.TEXT,
) -> None:
    """Re-execute a trace against the reference model; exit 1 if Xen answered otherwise."""
    from evtrace.api import Trace  # noqa: PLC0415  loaded when the command runs

    with Trace(trace) as opened:
        results = opened.replay(xen)
        profile = opened.profile(xen).name
        for damage in opened.reader.damage:
            print(f"evtrace: {trace}: {damage}", file=sys.stderr)  # noqa: T201
    if output is Format.JSON:
        print(json.dumps(as_json(results, profile), indent=2))  # noqa: T201
    else:
        print(as_text(results, profile))  # noqa: T201
    if results.divergences:
        raise typer.Exit(ExitCode.FINDING)


def as_json(results: "Results", profile: str) -> dict[str, object]:
    """Give the replay's outcome by `schemas/replay.schema.json`."""
    return {
        "schema": "evtrace-replay/1",
        "xen": profile,
        "hypercalls": results.hypercalls,
        "compared": results.compared,
        "adopted": results.adopted,
        "adoptions": results.adoptions,
        "unknown": results.unknown,
        "uncovered": results.uncovered,
        "with_record": results.with_record,
        "divergences": [asdict(found) for found in results.divergences],
        "snapshots": [asdict(check) for check in results.snapshot_checks],
    }


def as_text(results: "Results", profile: str) -> str:
    """Give the replay's outcome as text."""
    from evtrace.analysis.text import divergence_lines, replay_lines  # noqa: PLC0415

    return "\n".join([*replay_lines(results, profile), *divergence_lines(results.divergences)])
