"""How far a command is, on a terminal; nothing anywhere else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from evtrace.api import Trace

STEPS = 1_000


@contextmanager
def progress_bar(
    label: str, item: Callable[[], str] | None = None
) -> Iterator[Callable[[float], None]]:
    """Show a bar on stderr; what is given moves it to a share of the whole, never back.

    `item` says what is done now, beside the bar.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    show = None if item is None else lambda _: item()
    bar: Any = typer.progressbar(length=STEPS, label=label, file=sys.stderr, item_show_func=show)
    with bar:
        yield lambda share: bar.update(max(0, int(STEPS * min(share, 1.0)) - bar.pos))


@contextmanager
def open_trace(path: str, label: str) -> Iterator["Trace"]:
    """Open a trace whose reading is shown as it goes on."""
    from evtrace.api import Trace  # noqa: PLC0415  loaded when a command runs

    with progress_bar(label) as progress, Trace(path, progress) as trace:
        yield trace
