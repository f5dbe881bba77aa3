"""Options that several commands share, and how damage is reported."""

import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from evtrace.printable import printable

if TYPE_CHECKING:
    from evtrace.tracefile.damage import Damage


class Format(StrEnum):
    """What a command prints."""

    TEXT = "text"
    JSON = "json"


TracePath = Annotated[
    str,
    typer.Argument(metavar="TRACE", help="A trace; - is standard input, *.zst is decompressed."),
]
Doms = Annotated[
    list[str] | None,
    typer.Option("--dom", metavar="DOM", help="Only this domain; repeat for more."),
]
Ports = Annotated[
    list[str] | None,
    typer.Option("--port", metavar="dDOM:PORT", help="Only this port; repeat for more."),
]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", metavar="KIND", help="Only rows of this kind; repeat for more."),
]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="T", help="From this TSC, or +SECONDS after the first record."),
]
To = Annotated[
    str | None,
    typer.Option("--to", metavar="T", help="Up to this TSC, or +SECONDS after the first record."),
]
Around = Annotated[
    str | None,
    typer.Option("--around", metavar="SEQ[:N]", help="Record SEQ and N on either side (10)."),
]
XenProfile = Annotated[
    str | None,
    typer.Option("--xen", metavar="PROFILE", help="Xen to replay against: 4.17, head, qemu."),
]


def warn_of_damage(trace: str, damage: Iterable["Damage"]) -> None:
    """Say on stderr what is wrong with a trace that could be read all the same."""
    for found in damage:
        print(f"evtrace: {printable(f'{trace}: {found}')}", file=sys.stderr)  # noqa: T201  a command's remark
