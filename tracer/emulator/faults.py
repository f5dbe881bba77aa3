"""Faults that can be injected: in the hypervisor, in a guest, in the capture.

A fault of the hypervisor is Xen as no release has it; one of a guest is a kernel with a bug; one of
the capture leaves the machine alone and spoils what is recorded of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Final, TypeAlias

from evtrace.errors import UsageError

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab


@unique
class Place(StrEnum):
    """What a fault spoils."""

    HYPERVISOR = "hypervisor"
    GUEST = "guest"
    CAPTURE = "capture"


Inject: TypeAlias = "Callable[[Lab, float], None]"
"""Arms a fault on a lab: (lab, seconds since the recording began from which on it acts)."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of the catalogue."""

    name: str
    place: Place
    summary: str
    inject: Inject


FAULTS: Final[dict[str, Fault]] = {}
"""Faults by name."""


def inject(lab: "Lab", specs: Sequence[str]) -> None:
    """Arm faults given as `NAME[@SECONDS]`; else `UsageError`."""
    for spec in specs:
        name, at, text = spec.partition("@")
        find_fault(name).inject(lab, _seconds(spec, text) if at else 0.0)


def find_fault(name: str) -> Fault:
    """Find a fault by name, else `UsageError`."""
    if name not in FAULTS:
        near = get_close_matches(name, FAULTS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(FAULTS)}."
        message = f"no fault {name!r}; {hint}"
        raise UsageError(message)
    return FAULTS[name]


def _seconds(spec: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        message = f"--fault {spec}: expected NAME@SECONDS"
        raise UsageError(message) from None
