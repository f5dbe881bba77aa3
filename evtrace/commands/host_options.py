"""Options of `evtrace record` that speak of a real host, and which go together."""

from pathlib import Path
from typing import Annotated

import typer

from evtrace.errors import UsageError

Host = Annotated[bool, typer.Option("--host", help="Record this Xen host, in dom0.")]
Guest = Annotated[bool, typer.Option("--guest", help="Record this domU: probes only.")]
Script = Annotated[bool, typer.Option("--script", help="Write a shell script that records a domU.")]
Check = Annotated[
    bool, typer.Option("--check", help="With --host or --guest: what can be recorded here.")
]
Clean = Annotated[
    bool, typer.Option("--clean", help="With --host: take down what a killed recorder left.")
]
Dom = Annotated[
    list[int] | None,
    typer.Option(metavar="D", help="List channels of these domains only, and of dom0; repeat."),
]
NoXentrace = Annotated[bool, typer.Option("--no-xentrace", help="Record without xentrace.")]
NoProbes = Annotated[bool, typer.Option("--no-probes", help="Record without kernel probes.")]
Buffer = Annotated[
    int, typer.Option(min=64, metavar="KIB", help="Ring of each CPU for the probes.")
]
Keep = Annotated[
    bool, typer.Option("--keep", help="Keep what was recorded beside the trace, for import.")
]
Kernel = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="With --script: the domU's vmlinux or vmlinuz."),
]
Modules = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="With --script --kernel: its modules."),
]
Running = Annotated[bool, typer.Option("--running", help="With --script: for this kernel.")]

_SHARED = {"output", "force"}
_RECORDING = _SHARED | {"check", "clean", "buffer", "time"}
TAKEN_BY = {
    "host": _RECORDING | {"host", "dom", "no_xentrace", "no_probes", "timing", "keep"},
    "guest": _RECORDING | {"guest"},
    "script": _SHARED | {"script", "kernel", "modules", "running", "buffer"},
}
"""What is recorded -> the options that it takes; all others are the emulator's."""

_OWN = set().union(*TAKEN_BY.values()) - _SHARED - {"time", "timing"}


def find_mode(given: set[str]) -> str | None:
    """Tell by the options that were given what is recorded; None is the emulator.

    Raises `UsageError` if they do not go together.
    """
    modes = [mode for mode in TAKEN_BY if mode in given]
    if len(modes) > 1:
        message = f"{_flag(modes[0])} and {_flag(modes[1])} are two ways to record: choose one"
        raise UsageError(message)
    if not modes:
        lonely = sorted(given & _OWN)
        if lonely:
            takers = [_flag(mode) for mode, taken in TAKEN_BY.items() if lonely[0] in taken]
            message = f"{_flag(lonely[0])} goes with {' or '.join(takers)}"
            raise UsageError(message)
        return None
    strange = sorted(given - TAKEN_BY[modes[0]])
    if strange:
        message = f"{_flag(strange[0])} does not go with {_flag(modes[0])}"
        raise UsageError(message)
    return modes[0]


def _flag(name: str) -> str:
    return "--" + {"show_list": "list", "settings": "set"}.get(name, name).replace("_", "-")
