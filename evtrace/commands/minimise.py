"""`evtrace minimise`: the shortest trace that still shows what is to be kept."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from evtrace.commands.interruption import interruptible
from evtrace.commands.options import Format, TracePath, XenProfile, warn_of_damage
from evtrace.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from evtrace.replay.minimise.showing import Fact
    from evtrace.replay.results import Results


def minimise(
    trace: TracePath,
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="divergence, cause=X, fate=X, finding=X, spurious=L1..L3, …; "
            "without: the first thing that is wrong.",
        ),
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", metavar="dDOM:PORT", help="Only on this port.")
    ] = None,
    at: Annotated[
        int | None, typer.Option("--at", metavar="SEQ", help="Only at this record.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The trace to write.")] = Path(
        "minimal.bin"
    ),
    scenario: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The scenario to write; without: beside the trace, .scenario.toml."
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.0, help="Stop then, with the best so far."),
    ] = None,
    xen: XenProfile = None,
    form: Annotated[Format, typer.Option("--format", help="Text or JSON.")] = Format.TEXT,
    force: Annotated[bool, typer.Option("--force", help="Replace the outputs.")] = False,
) -> None:
    """Find the fewest operations of a trace that still show a divergence, a cause, a fate.

    They are printed, written as a trace, and as a scenario that does the same on the emulator.
    Ctrl-C stops with the best so far.
    """
    from evtrace.commands.minimised import Told  # noqa: PLC0415  when it runs
    from evtrace.commands.minimising import Watch, opened, search, write  # noqa: PLC0415
    from evtrace.commands.reproducing import reproduce  # noqa: PLC0415
    from evtrace.tracefile.partial import PartialFile  # noqa: PLC0415

    script = scenario or output.with_name(f"{_stem(output)}.scenario.toml")
    for path in (output, script):
        PartialFile(path, force=force).refuse_existing()
    wanted = read_wanted(keep, on, at)
    watch = Watch(seconds)
    with interruptible(watch.interrupt), opened(trace) as source:
        whole = source.replay(xen)
        warn_of_damage(trace, source.trace.reader.damage)
        fact, name = find_fact(whole.results, wanted, trace)
        with TemporaryDirectory() as folder:
            found = search(whole, fact, watch, Path(folder))
            records = write(found, output, wanted.text, force=force)
            played = reproduce(found, name, script, Path(folder), force=force)
        told = Told(found, name, watch, output, records, played)
        print(told.json() if form is Format.JSON else told.text())  # noqa: T201  a command prints
    if watch.interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)


def _stem(output: Path) -> str:
    """Give the name of the output without what a trace's name ends in."""
    return output.name.removesuffix(".zst").removesuffix(".bin")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which fact is to be kept."""

    names: tuple[str, ...]
    """The first that the trace shows; `divergence`, `cause.SEND`."""
    port: tuple[int, int] | None
    seq: int | None
    text: str

    def fits(self, fact: "Fact", name: str) -> bool:
        """Tell whether it is one of those."""
        named = name in fact.names or (name == "finding" and fact.kind == "finding")
        there = self.port is None or self.port in fact.channels
        return named and there and self.seq in {None, fact.seq}


def read_wanted(keep: str | None, on: str | None, at: int | None) -> Wanted:
    """Read the options; raises `UsageError` with the nearest name for one that there is not."""
    from evtrace.tracefile.selection import parse_port  # noqa: PLC0415

    port = None if on is None else parse_port(on)
    text = keep or "the first thing that is wrong"
    text += f" on {on}" if on else ""
    text += f" at record {at}" if at is not None else ""
    names = ("divergence", "finding", "spurious.L2") if keep is None else (_read_name(keep),)
    return Wanted(names, port, at, text)


def _read_name(keep: str) -> str:
    from evtrace.analysis.checks.quantities import (  # noqa: PLC0415
        find_named,
        find_quantity,
        quantities,
    )
    from evtrace.verdicts import FindingCode  # noqa: PLC0415
    from evtrace.xen.abi import EvtchnOp  # noqa: PLC0415

    which, _, member = keep.strip().replace("=", ".", 1).partition(".")
    if which in {"divergence", "divergences"}:
        if not member:
            return "divergence"
        ops = {name: name for name in (*(op.name.lower() for op in EvtchnOp), "handler")}
        complaint = f"--keep {keep}: there is no operation {member}"
        return f"divergence.{find_named(member, ops, complaint)}"
    if which == "finding" and not member:
        return which
    sets = sorted({name.partition(".")[0] for name in quantities() if "." in name})
    if which not in sets or not member:
        known = ", ".join(["divergence", *(f"{one}=X" for one in sets)])
        message = f"--keep {keep}: expected one of {known}"
        raise UsageError(message)
    name = find_quantity(f"{which}.{member}").name
    _, _, member = name.partition(".")
    is_code = which == "finding" and member in {code.value for code in FindingCode}
    return f"finding.{FindingCode(member).name}" if is_code else name


def find_fact(results: "Results", wanted: Wanted, trace: str) -> "tuple[Fact, str]":
    """Give the first fact that is wanted, and its name; raises `NotShownError`."""
    from evtrace.commands.minimising import NotShownError  # noqa: PLC0415
    from evtrace.replay.minimise.showing import facts  # noqa: PLC0415

    found = list(facts(results))
    for name in wanted.names:
        fact = next((fact for fact in found if wanted.fits(fact, name)), None)
        if fact is not None:
            return fact, name
    message = f"{trace}: does not show {wanted.text}; nothing is written"
    raise NotShownError(message)
