"""`evtrace replay`: re-execute a trace and say where Xen answered otherwise than the model."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from evtrace.commands.options import Format, TracePath, XenProfile, warn_of_damage
from evtrace.commands.progress import open_trace
from evtrace.errors import ExitCode

if TYPE_CHECKING:
    from evtrace.api import Trace
    from evtrace.replay.results import Results


def replay(
    trace: TracePath,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="T", help="Print the state at this TSC, or +SECONDS."),
    ] = None,
    who: Annotated[
        str | None,
        typer.Option("--who", metavar="dDOM:PORT", help="Print what set this port pending."),
    ] = None,
    xen: XenProfile = None,
    output: Annotated[Format, typer.Option("--format", help="Text or JSON.")] = Format.TEXT,
) -> None:
    """Re-execute a trace against the reference model; exit 1 if Xen or a guest did otherwise.

    --at prints the channels then, in the layout of Xen's debug key e. --who prints what set a
    port's pending bit: at the time given by --at, else at the end.
    """
    with open_trace(trace, "replaying") as opened:
        if at is not None or who is not None:
            print("\n".join(state_lines(opened, at, who, xen)))  # noqa: T201  a command prints
            return
        results = opened.replay(xen)
        profile = opened.profile(xen).name
        warn_of_damage(trace, opened.reader.damage)
    if output is Format.JSON:
        print(json.dumps(as_json(results, profile), indent=2))  # noqa: T201
    else:
        print(as_text(results, profile))  # noqa: T201
    if results.divergences or results.has_fault:
        raise typer.Exit(ExitCode.FINDING)


def state_lines(opened: "Trace", at: str | None, who: str | None, xen: str | None) -> list[str]:
    """Give the state at a time: one port's token if `who` names it, else all channels."""
    from evtrace.replay.state import describe_token, dump_domain  # noqa: PLC0415
    from evtrace.tracefile.selection import parse_port, parse_time  # noqa: PLC0415

    until = 1 << 62 if at is None else parse_time("--at", at, opened.reader)
    follow = opened.replay_until(until, xen)
    if who is not None:
        channel = parse_port(who)
        return list(describe_token(channel, follow.pending_token(channel)))
    belief = follow.belief
    domains = sorted(belief.machine.domains.items())
    return [line for _, domain in domains for line in dump_domain(domain, belief.host_irqs)]


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
        "findings": [found.as_json() for found in results.findings],
        "snapshots": [asdict(check) for check in results.snapshot_checks],
    }


def as_text(results: "Results", profile: str) -> str:
    """Give the replay's outcome as text."""
    from evtrace.analysis.forms.text import (  # noqa: PLC0415
        divergence_lines,
        finding_lines,
        replay_lines,
    )

    lines = [*replay_lines(results, profile), *finding_lines(results.findings)]
    return "\n".join([*lines, *divergence_lines(results.divergences)])
