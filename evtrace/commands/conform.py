"""`evtrace conform`: the model against recorded answers of Xen's own code, or a running Xen."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evtrace.commands.options import Format
from evtrace.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from evtrace.replay.conform.judge import Difference, Verdict
    from evtrace.xen.dump import Json
    from evtrace.xen.profiles import Profile


@dataclass(slots=True)
class Tally:
    """What all programs together came to; verdicts are kept of those that failed."""

    passed: int = 0
    operations: int = 0
    seconds: float = 0.0
    failed: "list[Verdict]" = field(default_factory=list)

    @property
    def programs(self) -> int:
        """Programs judged."""
        return self.passed + len(self.failed)

    @property
    def operations_per_second(self) -> int:
        """Speed of the model, reading and comparing left out."""
        return round(self.operations / self.seconds) if self.seconds else 0

    def add(self, verdict: "Verdict") -> None:
        """Count a program."""
        self.operations += verdict.operations
        self.seconds += verdict.seconds
        if verdict.passed:
            self.passed += 1
        else:
            self.failed.append(verdict)


def conform(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH...", help="Vector files (.jsonl, .jsonl.gz) or folders."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Ask the Xen that runs this domain instead, as root.")
    ] = False,
    xen: Annotated[
        str | None,
        typer.Option(
            "--xen",
            metavar="PROFILE",
            help="Xen to be: HEAD, 4.17, qemu; --live takes that of the running Xen.",
        ),
    ] = None,
    operations: Annotated[
        int, typer.Option(min=1, help="Ask so many operations at least (--live).")
    ] = 10_000,
    seed: Annotated[int, typer.Option(help="The same seed asks the same (--live).")] = 0,
    output: Annotated[Format, typer.Option("--format", help="Text or JSON.")] = Format.TEXT,
    stop: Annotated[bool, typer.Option("-x", help="Stop at the first failure.")] = False,
) -> None:
    """Run programs against the reference model; exit 1 if an answer differs.

    Recorded ones of PATH, or with --live random ones on the running Xen: on ports of their own,
    which are closed again.
    """
    if live == bool(paths):
        message = "give either PATH or --live: recorded programs, or the running Xen"
        raise UsageError(message)
    if live:
        from evtrace.commands.live_conformance import conform_live  # noqa: PLC0415

        conform_live(xen, operations, seed, output, stop=stop)
    else:
        _conform_to_recordings(paths or [], xen or "HEAD", output, stop=stop)


def _conform_to_recordings(paths: list[Path], xen: str, output: Format, *, stop: bool) -> None:
    from evtrace.replay.conform.judge import judge_files  # noqa: PLC0415  loaded when the command runs
    from evtrace.xen.profiles import find_profile  # noqa: PLC0415

    profile = find_profile(xen)
    tally = tally_verdicts(judge_files(paths, profile), stop=stop)
    if output is Format.JSON:
        print(json.dumps(as_json(tally, profile), indent=2))  # noqa: T201
    else:
        print("\n".join(as_text(tally, profile)))  # noqa: T201
    if tally.failed:
        raise typer.Exit(ExitCode.FINDING)


def tally_verdicts(verdicts: "Iterable[Verdict]", *, stop: bool) -> Tally:
    """Count verdicts; with `stop`, up to the first failure."""
    tally = Tally()
    for verdict in verdicts:
        tally.add(verdict)
        if stop and tally.failed:
            break
    return tally


def as_json(tally: Tally, profile: "Profile") -> "dict[str, Json]":
    """Give the outcome by `schemas/conform.schema.json`."""
    return {
        "schema": "evtrace-conform/1",
        "xen": profile.name,
        "programs": tally.programs,
        "passed": tally.passed,
        "failed": len(tally.failed),
        "operations": tally.operations,
        "operations_per_second": tally.operations_per_second,
        "failures": [_failure_as_json(verdict) for verdict in tally.failed],
    }


def _failure_as_json(verdict: "Verdict") -> "dict[str, Json]":
    failure: dict[str, Json] = {
        "file": str(verdict.path),
        "line": verdict.number,
        "program": verdict.name,
    }
    if verdict.bad is not None:
        failure["malformed"] = {"line": verdict.bad.number, "reason": verdict.bad.reason}
    if verdict.difference is not None:
        failure["difference"] = _difference_as_json(verdict.difference)
    return failure


def _difference_as_json(difference: "Difference") -> "dict[str, Json]":
    where, expected, found = difference.divergence
    return {
        "line": difference.number,
        "aspect": difference.aspect.value,
        "where": where,
        "expected": expected,
        "found": found,
        "text": difference.text,
        "before": list(difference.before),
    }


def as_text(tally: Tally, profile: "Profile") -> list[str]:
    """Give the outcome as lines: each failure, then the sums."""
    lines = [line for verdict in tally.failed for line in _failure_as_text(verdict)]
    score = f"{tally.passed} of {tally.programs} programs passed, {len(tally.failed)} failed"
    speed = f"{tally.operations:,} operations, {tally.operations_per_second:,} per second"
    return [*lines, f"Xen {profile.name}: {score}", speed]


def _failure_as_text(verdict: "Verdict") -> "Iterator[str]":
    if verdict.bad is not None:
        yield f"{verdict.bad.path}:{verdict.bad.number}: malformed: {verdict.bad.reason}"
    if verdict.difference is not None:
        difference = verdict.difference
        where, expected, found = difference.divergence
        yield f"{verdict.path}:{difference.number}: {verdict.name}: {difference.aspect} differs"
        for text in difference.before:
            yield f"      {_shorten(text)}"
        yield f"    > {_shorten(difference.text)}"
        yield f"      at       {where or 'the whole'}"
        yield f"      expected {_shorten(json.dumps(expected))}"
        yield f"      found    {_shorten(json.dumps(found))}"
    yield ""


def _shorten(text: str, width: int = 160) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."
