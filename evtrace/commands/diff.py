"""`evtrace diff`: two traces of the same work, and what changed from the first to the second."""

import json
import re
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Annotated

import typer

from evtrace.commands.options import XenProfile, warn_of_damage
from evtrace.commands.progress import open_trace
from evtrace.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evtrace.analysis.diff.comparison import Asked, Diff
    from evtrace.analysis.diff.failing import Failure


@unique
class DiffFormat(StrEnum):
    """What a comparison is printed as."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="The trace before the change.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The trace after it.")],
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="A=B", help="d1=d3, d1:8=d3:12: what has another number in B; repeat."
        ),
    ] = None,
    ignore: Annotated[
        str, typer.Option("--ignore", metavar="PERCENT", help="Tell no change below this.")
    ] = "5%",
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-on",
            metavar="WHAT",
            help="Exit 1 on: any, worse, faults, lost, answers, spurious, slower, faster, sends, "
            "runs, channels, load; spurious.L3, p99(send→handler) > 1.5x; repeat.",
        ),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--all", help="List everything that was compared.")
    ] = False,
    xen: XenProfile = None,
    form: Annotated[
        DiffFormat, typer.Option("--format", help="What to print it as.")
    ] = DiffFormat.TEXT,
) -> None:
    """Say what changed from trace A to trace B beyond noise, and how sure that is.

    Both should be recordings of the same work. Domains and ports may have other numbers in B.
    With --fail-on exit 1 if something of that kind changed.
    """
    from evtrace.analysis.diff.failing import failures, read_condition  # noqa: PLC0415  when it runs

    if a == b == "-":
        message = "only one of the two traces can be standard input"
        raise UsageError(message)
    conditions = [read_condition(text) for text in fail_on or []]
    asked = _asked(maps or [], ignore)
    with open_trace(a, "replaying A") as one, open_trace(b, "replaying B") as other:
        found = one.diff(other, asked, xen)
        warn_of_damage(a, one.reader.damage)
        warn_of_damage(b, other.reader.damage)
    failed = failures(found, conditions)
    print(_render(found, failed, form, whole=whole).removesuffix("\n"))  # noqa: T201  a command prints
    if failed:
        raise typer.Exit(ExitCode.FINDING)


def _asked(maps: "Sequence[str]", ignore: str) -> "Asked":
    from evtrace.analysis.diff.comparison import Asked  # noqa: PLC0415  when it runs
    from evtrace.analysis.diff.mapping import read_mapping  # noqa: PLC0415

    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%?\s*", ignore)
    if match is None:
        message = f"--ignore {ignore}: expected a percentage such as 5%"
        raise UsageError(message)
    return Asked(read_mapping(maps), float(match[1]) / 100)


def _render(found: "Diff", failed: "Sequence[Failure]", form: DiffFormat, *, whole: bool) -> str:
    from evtrace.analysis.diff.forms import as_json, as_markdown, as_text  # noqa: PLC0415  when it runs

    match form:
        case DiffFormat.TEXT:
            return as_text(found, failed, whole=whole)
        case DiffFormat.MARKDOWN:
            return as_markdown(found, failed, whole=whole)
        case DiffFormat.JSON:
            return json.dumps(as_json(found, failed), indent=2)
