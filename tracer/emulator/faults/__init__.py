"""The faults by name, and how a command line arms them.

A fault of the hypervisor is Xen as no release has it; one of a guest is a kernel with a bug; one of
the capture leaves the machine alone and spoils what is recorded of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Final, TypeAlias

from evtrace.errors import UsageError
from evtrace.tracer.emulator.faults import capture, guest, hypervisor

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


_XEN, _GUEST, _CAPTURE = Place.HYPERVISOR, Place.GUEST, Place.CAPTURE

FAULTS: Final[dict[str, Fault]] = {
    fault.name: fault
    for fault in (
        Fault(
            "no-pending-at-bind",
            _XEN,
            "bind_interdomain does not set the binder's port pending",
            hypervisor.no_pending_at_bind,
        ),
        Fault("lost-send", _XEN, "one send sets nothing pending", hypervisor.lost_send),
        Fault("lost-upcall", _XEN, "one blocked vCPU is not woken", hypervisor.lost_upcall),
        Fault(
            "wrong-port",
            _XEN,
            "one send sets another port of the receiver pending",
            hypervisor.wrong_port,
        ),
        Fault(
            "pending-kept-over-close",
            _XEN,
            "close leaves the pending bit to the port's next owner",
            hypervisor.pending_kept_over_close,
        ),
        Fault(
            "unmask-without-reraise",
            _XEN,
            "one unmask does not raise the event that waits",
            hypervisor.unmask_without_reraise,
        ),
        Fault("forgets-to-clear", _GUEST, "a guest never clears pending", guest.forgets_to_clear),
        Fault("never-unmasks", _GUEST, "a guest never unmasks a port", guest.never_unmasks),
        Fault(
            "no-vcpu-mask",
            _GUEST,
            "a guest's scan takes other vCPUs' ports, too (2-level)",
            guest.no_vcpu_mask,
        ),
        Fault("double-handling", _GUEST, "a guest handles each event twice", guest.handles_twice),
        Fault("lost-records", _CAPTURE, "some records are dropped", capture.lost_records),
        Fault(
            "ring-overflow",
            _CAPTURE,
            "the trace buffers are small and emptied too rarely",
            capture.ring_overflow,
        ),
        Fault("tsc-skew", _CAPTURE, "one pCPU's TSC is ahead of the others", capture.tsc_skew),
        Fault("tsc-drift", _CAPTURE, "one pCPU's TSC runs faster", capture.tsc_drift),
        Fault("cut-file", _CAPTURE, "the file ends in the midst of a record", capture.cut_file),
        Fault(
            "missing-source",
            _CAPTURE,
            "nothing is captured inside one domain",
            capture.missing_source,
        ),
    )
}
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
