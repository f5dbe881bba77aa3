"""`evtrace convert`: a trace in the form that other tools read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evtrace.commands.options import TracePath, warn_of_damage
from evtrace.errors import UsageError

if TYPE_CHECKING:
    from evtrace.tracefile.stripping import Stripped


def convert(
    trace: TracePath,
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")],
    stock: Annotated[
        bool, typer.Option("--stock", help="Leave out evtrace's own records: for xenalyze.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the output.")] = False,
) -> None:
    """Write the same capture for another tool: with --stock, as xentrace would have written it.

    Xen's own records keep their bytes and windows. An output named *.zst is compressed.
    """
    from evtrace.tracefile.reader import open_trace  # noqa: PLC0415  loaded when the command runs
    from evtrace.tracefile.stripping import write_stock  # noqa: PLC0415

    if not stock:
        message = "--stock is the only conversion so far: give it"
        raise UsageError(message)
    with open_trace(trace) as reader:
        done = write_stock(reader, output, force=force)
    warn_of_damage(trace, done.damage)
    print(f"{output}: {summary(done)}")  # noqa: T201  a command prints


def summary(done: "Stripped") -> str:
    """Say how many records were kept and how many were not."""
    strays = f" and {done.strays:,} that xentrace never writes" if done.strays else ""
    return f"{done.kept:,} records kept, {done.family:,} of evtrace's family{strays} left out"
