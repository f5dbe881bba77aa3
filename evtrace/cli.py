"""The command `evtrace`: gathers the subcommands and turns what goes wrong into exit codes.

Importing this loads no part of evtrace: each command imports what it needs when it is called.
"""

import functools
import os
import sys
from collections.abc import Callable
from typing import Annotated, ParamSpec

import typer

from evtrace.commands.check import check
from evtrace.commands.conform import conform
from evtrace.commands.convert import convert
from evtrace.commands.cut import cut
from evtrace.commands.diff import diff
from evtrace.commands.doctor import doctor
from evtrace.commands.dump import dump
from evtrace.commands.explain import explain
from evtrace.commands.import_ import import_
from evtrace.commands.info import info
from evtrace.commands.minimise import minimise
from evtrace.commands.record import record
from evtrace.commands.replay import replay
from evtrace.commands.report import report
from evtrace.errors import EvtraceError, ExitCode
from evtrace.printable import printable_lines
from evtrace.version import __version__

P = ParamSpec("P")

app = typer.Typer(
    name="evtrace",
    help="Why did this Xen event-channel handler run, or not run, and what did it cost?",
    epilog="Exit codes: 0 fine, 1 divergence or finding, 2 usage, 65 not a trace, "
    "66 no such input, 69 cannot record here, 73 output exists, 74 cannot write, "
    "130 interrupted.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"evtrace {__version__}")  # noqa: T201  a command prints
        raise typer.Exit


@app.callback()
def _evtrace(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    del version


def _guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Let no traceback reach the user: known errors become a message and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except BrokenPipeError:  # `| head` has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(ExitCode.OK) from None
        except EvtraceError as error:
            print(f"evtrace: {printable_lines(str(error))}", file=sys.stderr)  # noqa: T201
            raise typer.Exit(error.exit_code) from None

    return run


_COMMANDS: dict[str, Callable[..., None]] = {
    "record": record,
    "import": import_,
    "info": info,
    "dump": dump,
    "convert": convert,
    "cut": cut,
    "replay": replay,
    "report": report,
    "explain": explain,
    "doctor": doctor,
    "check": check,
    "diff": diff,
    "minimise": minimise,
    "conform": conform,
}

for _name, _command in _COMMANDS.items():
    app.command(_name)(_guarded(_command))


def main() -> None:
    """Run the command line of `evtrace` and exit."""
    app()
