"""`evtrace conform --live`: the model against the Xen that runs this domain."""

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from evtrace.commands.interruption import held_signals
from evtrace.commands.options import Format
from evtrace.commands.progress import progress_bar
from evtrace.errors import ExitCode

if TYPE_CHECKING:
    from evtrace.replay.conform.live import LiveDifference, LiveReport
    from evtrace.xen.dump import Json


def conform_live(
    xen: str | None, operations: int, seed: int, output: Format, *, stop: bool
) -> None:
    """Ask the running Xen and print what it came to; `CannotRecordError` where there is none."""
    from evtrace.replay.conform.live import judge_live  # noqa: PLC0415  loaded when the command runs
    from evtrace.tracer.host.privcmd import PrivCmd  # noqa: PLC0415
    from evtrace.xen.profiles import find_profile, profile_for_version  # noqa: PLC0415

    # a signal that came while Xen opens a port would leave that open
    with PrivCmd() as door, held_signals() as heard, progress_bar("asking Xen") as progress:

        def keep_on(done: float) -> bool:
            progress(done)
            return not heard.is_set()

        version = door.version
        profile = find_profile(xen) if xen else profile_for_version(version.major, version.minor)
        report = judge_live(
            door,
            profile,
            running=os.sched_getaffinity(0),
            operations=operations,
            seed=seed,
            keep_on=keep_on,
            stop=stop,
        )
    if output is Format.JSON:
        print(json.dumps(as_json(report, str(version)), indent=2))  # noqa: T201
    else:
        print("\n".join(as_text(report, str(version))))  # noqa: T201
    if report.interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)
    if not report.passed:
        raise typer.Exit(ExitCode.FINDING)


def as_json(report: "LiveReport", version: str) -> "dict[str, Json]":
    """Give the outcome by `schemas/conform-live.schema.json`."""
    place = report.place
    answers: dict[str, Json] = {
        name: {result: report.answers[name, result] for result in results}
        for name, results in _results_by_name(report).items()
    }
    return {
        "schema": "evtrace-conform-live/1",
        "xen": version,
        "profile": report.profile.name,
        "domain": {
            "domid": place.domid,
            "form": place.form.value,
            "vcpus": place.vcpus,
            "used_vcpus": list(place.usable_vcpus),
            "open_ports": place.open_ports,
        },
        "seed": report.seed,
        "programs": report.programs,
        "operations": report.operations,
        "calls": report.calls,
        "answers": answers,
        "ports": {
            "opened": report.opened,
            "taken_by_others": report.taken,
            "left": list(report.left),
        },
        "interrupted": report.interrupted,
        "differences": [_difference_as_json(difference) for difference in report.differences],
    }


def _difference_as_json(difference: "LiveDifference") -> "dict[str, Json]":
    return {
        "seed": difference.seed,
        "operation": difference.number,
        "aspect": difference.aspect.value,
        "asked": difference.text,
        "expected": difference.expected,
        "found": difference.found,
        "before": list(difference.before),
    }


def as_text(report: "LiveReport", version: str) -> Iterator[str]:
    """Give the outcome as lines: each difference, how Xen answered, then the sums."""
    for difference in report.differences:
        yield from _difference_as_text(difference)
    yield from _table(report)
    place = report.place
    yield ""
    yield (
        f"Xen {version} against profile {report.profile.name}, in domain {place.domid} "
        f"({place.form.value}, {_count(place.vcpus, 'vCPU')})"
    )
    stopped = ", interrupted" if report.interrupted else ""
    yield (
        f"{_count(report.operations, 'operation')} in {_count(report.programs, 'program')} "
        f"from seed {report.seed}: {_count(len(report.differences), 'difference')}{stopped}"
    )
    yield _ports_line(report)


def _difference_as_text(difference: "LiveDifference") -> Iterator[str]:
    yield f"seed {difference.seed}, operation {difference.number}: {difference.aspect} differs"
    yield from (f"      {text}" for text in difference.before)
    yield f"    > {difference.text}"
    yield f"      expected {difference.expected}"
    yield f"      found    {difference.found}"
    yield ""


def _table(report: "LiveReport") -> Iterator[str]:
    """Show how often each operation was answered how."""
    by_name = _results_by_name(report)
    results = sorted({result for found in by_name.values() for result in found})
    widths = [max(len(result) + 2, 7) for result in results]
    yield _row("operation", results, widths)
    for name in by_name:
        counts = (report.answers.get((name, result)) for result in results)
        yield _row(name, [str(count or "-") for count in counts], widths)


def _row(name: str, cells: list[str], widths: list[int]) -> str:
    shown = (f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"{name:16}" + "".join(shown)


def _results_by_name(report: "LiveReport") -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name, result in sorted(report.answers):
        names.setdefault(name, []).append(result)
    return names


def _ports_line(report: "LiveReport") -> str:
    left = ", ".join(map(str, report.left))
    end = f"these may still be open: {left}" if left else "all closed again"
    return f"{_count(report.opened, 'port')} opened, {end}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
