"""`evtrace doctor`: which ports of a snapshot are stuck or half-open."""

import json
import sys
import textwrap
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evtrace.commands.options import Format
from evtrace.errors import ExitCode
from evtrace.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evtrace.replay.doctor.examination import Diagnosis
    from evtrace.replay.doctor.findings import Finding
    from evtrace.snapshot import Snapshot

WIDTH = 80
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Source:
    """One snapshot and the file that held it."""

    name: str
    snapshot: "Snapshot"

    @property
    def state(self) -> str:
        """Say how much of what it should show is there."""
        extent = self.snapshot.extent
        if extent.is_cut:
            return "damaged"
        ended = extent.to_end or extent.ended >= self.snapshot.domains.keys()
        return "whole" if ended else "its end not shown"


def doctor(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="[DOM=]FILE...",
            help="Debug key e, lsevtchn or xen-event-list output; - is standard input.",
        ),
    ],
    output: Annotated[Format, typer.Option("--format", help="Text or JSON.")] = Format.TEXT,
) -> None:
    """Find stuck and half-open ports in snapshots; exit 1 if there is one.

    What a file holds is told by its content. Several of one kind are taken in order of time: what
    is alike in all is stuck. DOM= says whose ports lsevtchn or QEMU list.
    """
    from evtrace.replay.doctor.examination import examine  # noqa: PLC0415  when it runs

    sources = [source for given in files for source in read_sources(given)]
    for source in sources:
        for remark in _damage(source):
            print(f"evtrace: {source.name}: {remark}", file=sys.stderr)  # noqa: T201
    diagnosis = examine(source.snapshot for source in sources)
    if output is Format.JSON:
        print(json.dumps(as_json(diagnosis, sources), indent=2))  # noqa: T201  a command prints
    else:
        print("\n".join(as_text(diagnosis, sources)))  # noqa: T201
    if diagnosis.has_trouble:
        raise typer.Exit(ExitCode.FINDING)


# --- input -------------------------------------------------------------------------------------


def read_sources(given: str) -> list[Source]:
    """Read the snapshots of one argument."""
    from evtrace.tracer.importers.recognition import read_snapshots  # noqa: PLC0415
    from evtrace.tracer.importers.texts import open_text  # noqa: PLC0415

    dom, name = _split(given)
    if name == STDIN:
        text = sys.stdin.buffer.read().decode("utf-8", errors="replace")
        name = "standard input"
    else:
        with open_text(Path(name)) as stream:
            text = stream.read()
    return [Source(printable(name), snapshot) for snapshot in read_snapshots(name, text, dom)]


def _split(given: str) -> tuple[int | None, str]:
    """Split DOM=FILE; an = that is part of the file's name is left there."""
    dom, equals, name = given.partition("=")
    number = dom.removeprefix("dom").removeprefix("d")
    if not equals or not number.isdecimal() or Path(given).exists():
        return None, given
    return int(number), name


def _damage(source: Source) -> "Iterator[str]":
    extent = source.snapshot.extent
    if extent.unread:
        count = len(extent.unread)
        lines = "1 line" if count == 1 else f"{count} lines"
        example = textwrap.shorten(extent.unread[0], WIDTH, placeholder="...")
        yield f"{lines} of {source.snapshot.kind} could not be read, such as {example!r}"
    if extent.headless:
        yield "the line that says whose ports follow is missing for some: they are left out"
    elif not extent.from_start:
        yield "the dump's start is missing"


# --- text --------------------------------------------------------------------------------------


def as_text(diagnosis: "Diagnosis", sources: "Sequence[Source]") -> list[str]:
    """Give the diagnosis as lines that fit 80 columns."""
    from evtrace.verdicts import Severity  # noqa: PLC0415  when it runs

    lines = [*textwrap.wrap(diagnosis.verdict, WIDTH), ""]
    for source in sources:
        lines += _wrapped(f"{source.name}: {_about(source)}", "  ")
    for finding in diagnosis.findings:
        if finding.severity is not Severity.NORMAL:
            lines += ["", *_finding_lines(finding)]
    normal = [one for one in diagnosis.findings if one.severity is Severity.NORMAL]
    return [*lines, *_normal_lines(normal)]


def _about(source: Source) -> str:
    snapshot = source.snapshot
    doms = ", ".join(f"d{dom}{_form(snapshot.fifo.get(dom))}" for dom in sorted(snapshot.domains))
    return f"{snapshot.kind}, {snapshot.channel_count} channels of {doms}; {source.state}"


def _form(fifo: bool | None) -> str:
    return {True: " (FIFO)", False: " (2-level)", None: ""}[fifo]


def _finding_lines(finding: "Finding") -> "Iterator[str]":
    peer = f" (peer {finding.peer})" if finding.peer else ""
    head = f"{finding.severity.value:8} {finding.code.value} {finding.where}{peer}: "
    yield from _wrapped(head + finding.reason, "  ")
    if finding.look:
        yield from _wrapped(f"  next: {finding.look}", "        ")


def _normal_lines(findings: "Sequence[Finding]") -> "Iterator[str]":
    """Name ports that look odd and are not, those of one reason together."""
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in findings:
        alike[one.code.value, one.reason].append(one.where)
    if alike:
        yield from ("", "Normal, neither stuck nor half-open:")
    for (code, reason), names in alike.items():
        yield from _wrapped(f"  {code} {', '.join(names)}: {reason}", "    ")


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


# --- JSON --------------------------------------------------------------------------------------


def as_json(diagnosis: "Diagnosis", sources: "Sequence[Source]") -> dict[str, object]:
    """Give the diagnosis by `schemas/doctor.schema.json`."""
    return {
        "schema": "evtrace-doctor/1",
        "verdict": diagnosis.verdict,
        "sources": [
            {
                "file": source.name,
                "kind": source.snapshot.kind.value,
                "domains": sorted(source.snapshot.domains),
                "channels": source.snapshot.channel_count,
                "state": source.state,
                "unread_lines": len(source.snapshot.extent.unread),
            }
            for source in sources
        ],
        "findings": [
            {
                "severity": finding.severity.value,
                "code": finding.code.value,
                "name": finding.code.name,
                "where": finding.where,
                "peer": finding.peer,
                "reason": finding.reason,
                "next": finding.look or None,
            }
            for finding in diagnosis.findings
        ],
    }
