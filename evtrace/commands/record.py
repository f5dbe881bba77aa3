"""`evtrace record`: run a scenario on the built-in emulator and record it, or a real host."""

from collections.abc import Iterator
from enum import StrEnum
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evtrace.commands import host_options as real
from evtrace.commands.interruption import interruptible
from evtrace.commands.progress import progress_bar
from evtrace.errors import ExitCode
from evtrace.printable import printable

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab
    from evtrace.tracer.emulator.session import Recorded


class GuestKind(StrEnum):
    """How domUs run."""

    PV = "pv"
    PVH = "pvh"


class Form(StrEnum):
    """Form of the guests that can choose."""

    TWO_LEVEL = "2l"
    FIFO = "fifo"


class CaptureLevel(StrEnum):
    """How much is recorded."""

    STOCK = "stock"
    PROBES = "probes"
    FULL = "full"


def record(
    context: typer.Context,
    output: Annotated[Path, typer.Option("-o", "--output", help="The trace to write.")] = Path(
        "trace.bin"
    ),
    scenario: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="What happens (demo); your own: FILE.py:FUNCTION, FILE.toml."
        ),
    ] = None,
    show_list: Annotated[
        bool, typer.Option("--list", help="List scenarios, timings and faults; or one scenario.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the scenario; repeat."),
    ] = None,
    form: Annotated[Form, typer.Option(help="Event channels of the guests.")] = Form.FIFO,
    kind: Annotated[GuestKind, typer.Option(help="How domUs run.")] = GuestKind.PV,
    timing: Annotated[str, typer.Option(metavar="PROFILE", help="Timing profile.")] = "pinned-x86",
    xen: Annotated[
        str, typer.Option(metavar="PROFILE", help="Xen to emulate: head, 4.17, qemu.")
    ] = "head",
    fault: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[@T]", help="Inject a fault, from second T on; repeat."),
    ] = None,
    capture: Annotated[CaptureLevel, typer.Option(help="Level C1, C4 or C5.")] = CaptureLevel.FULL,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what is true of the run.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    chaos: Annotated[
        bool, typer.Option("--chaos", help="Delays and preemption anywhere, by the seed.")
    ] = False,
    pcpus: Annotated[int, typer.Option(min=1, max=256, help="Physical CPUs.")] = 4,
    time: Annotated[
        float | None,
        typer.Option("-T", "--time", metavar="SECONDS", help="Stop then, on the machine's clock."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output.")] = False,
    host: real.Host = False,
    guest: real.Guest = False,
    script: real.Script = False,
    check: real.Check = False,
    clean: real.Clean = False,
    dom: real.Dom = None,
    no_xentrace: real.NoXentrace = False,
    no_probes: real.NoProbes = False,
    buffer: real.Buffer = 16384,
    keep: real.Keep = False,
    kernel: real.Kernel = None,
    modules: real.Modules = None,
    running: real.Running = False,
) -> None:
    """Record a scenario on the built-in emulator: a small machine that behaves like a Xen host.

    Prints the kernels' logs. Ctrl-C ends the recording; the trace is readable all the same.
    With --host a real Xen host is recorded, in its dom0; with --guest a domU.
    """
    given = _given(context)
    mode = real.find_mode(given)
    if mode is not None:
        from evtrace.commands.record_host import HostRequest, record_real  # noqa: PLC0415

        record_real(
            HostRequest(
                mode=mode,
                output=output if "output" in given else None,
                force=force,
                check=check,
                clean=clean,
                domains=tuple(dom or ()),
                with_xentrace=not no_xentrace,
                with_probes=not no_probes,
                timing=timing if "timing" in given else None,
                seconds=time,
                buffer_kb=buffer,
                keep=keep,
                kernel=kernel,
                modules=modules,
                running=running,
            )
        )
        return
    del host, guest, script
    if show_list:
        lines = _listing() if scenario is None else _describe(scenario)
        print("\n".join(lines))  # noqa: T201  a command prints
        return
    from evtrace.tracer.emulator.catalogue import (  # noqa: PLC0415
        DEFAULT_SCENARIO,
        find_scenario,
        read_parameters,
    )
    from evtrace.tracer.emulator.faults import inject  # noqa: PLC0415
    from evtrace.tracer.emulator.lab import Lab, Settings  # noqa: PLC0415
    from evtrace.tracer.emulator.recorder import Capture  # noqa: PLC0415
    from evtrace.tracer.emulator.session import record as run  # noqa: PLC0415
    from evtrace.tracer.emulator.timing import find_timing  # noqa: PLC0415
    from evtrace.xen.abi import FormName  # noqa: PLC0415

    scenario = scenario or DEFAULT_SCENARIO
    function = find_scenario(scenario)
    values = read_parameters(function, settings or [])
    profile, version = _xen(xen)
    lab = Lab(
        Settings(
            seed=seed,
            chaos=chaos,
            timing=find_timing(timing),
            xen=profile,
            xen_version=version,
            form=FormName(form),
            pvh=kind is GuestKind.PVH,
            capture=Capture(capture),
            pcpus=pcpus,
        )
    )
    inject(lab, fault or [])
    bar = progress_bar("recording", lambda: f"{lab.recorder.records:,} records")
    with interruptible(lab.engine.stop), bar as progress:
        recorded = run(
            lab,
            lambda lab: function(lab, **values),
            output,
            source=_source(scenario, settings or []),
            truth=truth,
            limit=time,
            force=force,
            progress=lambda: progress(lab.share_done()),
        )
    print("\n".join([*_log_lines(lab), *_summary(output, recorded)]))  # noqa: T201
    if recorded.interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)


def _given(context: typer.Context) -> set[str]:
    """Give the options that stand on the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def _xen(name: str) -> tuple[Any, tuple[int, int] | None]:
    """Give the profile, and the version that the hypervisor says it is."""
    from evtrace.tracer.emulator.lab import HEAD_VERSION  # noqa: PLC0415
    from evtrace.xen.profiles import HEAD, find_profile  # noqa: PLC0415

    profile = find_profile(name)
    major, _, minor = name.partition(".")
    if major.isdecimal():
        return profile, (int(major), int(minor))
    return profile, HEAD_VERSION if profile is HEAD else None


def _source(scenario: str, settings: list[str]) -> str:
    return " ".join(["--scenario", Path(scenario).name, *settings])


def _listing() -> Iterator[str]:
    """List what the emulator offers, a line each."""
    from evtrace.tracer.emulator.catalogue import list_scenarios  # noqa: PLC0415
    from evtrace.tracer.emulator.faults import FAULTS  # noqa: PLC0415
    from evtrace.tracer.emulator.timing import TIMINGS  # noqa: PLC0415

    yield "Scenarios (--scenario NAME; its parameters: --list --scenario NAME):"
    yield from (f"  {entry.name:22} {entry.summary}" for entry in list_scenarios())
    yield "\nTimings (--timing NAME):"
    yield from (f"  {timing.name:22} {timing.summary}" for timing in TIMINGS.values())
    yield "\nFaults (--fault NAME[@SECONDS]):"
    yield from (f"  {fault.name:22} {fault.summary}" for fault in FAULTS.values())


def _describe(scenario: str) -> Iterator[str]:
    """Describe one scenario with its parameters."""
    from evtrace.tracer.emulator.catalogue import describe, find_scenario  # noqa: PLC0415

    function = find_scenario(scenario)
    yield from (cleandoc(function.__doc__ or scenario)).splitlines()
    yield ""
    for name, default in describe(scenario, function).parameters.items():
        yield f"  --set {name}={default}"


def _log_lines(lab: "Lab") -> Iterator[str]:
    """Print the kernels' logs, one after the other, each with the times of its own clock."""
    logs = sorted((log.lines[0].tsc, dom) for dom, log in lab.logs.items() if log.lines)
    width = max((len(name) for name in lab.names.values()), default=0)
    for _, dom in logs:
        for line in lab.logs[dom].lines:
            name, time = lab.names[dom], lab.kernel_time(dom, line.tsc)
            yield printable(f"{name:{width}} [{time:12.6f}] {line.text}")
        if lab.logs[dom].left_out:
            yield f"... and {lab.logs[dom].left_out:,} more lines; they are in the trace"


def _summary(output: Path, recorded: "Recorded") -> Iterator[str]:
    stopped = ", interrupted" if recorded.interrupted else ""
    yield f"{output}: {recorded.records:,} records, {recorded.seconds:.3f} s{stopped}"
