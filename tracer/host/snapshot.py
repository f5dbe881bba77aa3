"""Snapshots of the channels, taken with Xen's own tools: lsevtchn for each domain, and debug keys:
e shows the channels, s the clocks.

They print into Xen's log, which is read and left as it is.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from evtrace.errors import CannotRecordError, CannotWriteError
from evtrace.tracer.host.machine import Machine


@dataclass(frozen=True, slots=True)
class Listed:
    """Files that a snapshot was written to; None where its tool gave nothing."""

    lsevtchn: Path | None
    debug_keys: Path | None


def take_snapshot(
    machine: Machine,
    folder: Path,
    when: str,
    domains: Collection[int],
    remarks: list[str],
) -> Listed:
    """Write the channels to files of `folder` named by `when`; of `domains` only, if any is given.

    What a tool refuses is added to `remarks`. Raises `CannotWriteError`.
    """
    listed = "".join(_lsevtchn(machine, domains, remarks))
    dumped = _debug_keys(machine, remarks)
    return Listed(
        _written(folder / f"{when}.lsevtchn.txt", listed),
        _written(folder / f"{when}.debugkeys.txt", dumped),
    )


def _lsevtchn(machine: Machine, domains: Collection[int], remarks: list[str]) -> Iterator[str]:
    try:
        running = list(machine.domains())
    except CannotRecordError as error:
        remarks.append(str(error))
        running = [0]
    for dom in running:
        if domains and dom not in domains:
            continue
        try:
            output = machine.output("lsevtchn", str(dom))
        except CannotRecordError as error:
            remarks.append(str(error))
            continue
        yield f"# lsevtchn {dom}\n{output}"


def _debug_keys(machine: Machine, remarks: list[str]) -> str:
    try:
        machine.output("xl", "debug-keys", "es")
        return machine.output("xl", "dmesg")
    except CannotRecordError as error:
        remarks.append(str(error))
        return ""


def _written(path: Path, text: str) -> Path | None:
    if not text:
        return None
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        message = f"{path}: cannot write: {error.strerror or error}"
        raise CannotWriteError(message) from error
    return path
