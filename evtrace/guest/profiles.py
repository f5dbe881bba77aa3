"""Guest profiles: what the kernels that run on Xen do differently with their ports.

The same hypercalls give different handler runs under each of them, so whoever predicts a guest's
steps has to be told which one it is.
"""

from dataclasses import dataclass
from typing import Final

from evtrace.errors import UsageError
from evtrace.guest.scan import DEFAULT_RULES, ScanRules


@dataclass(frozen=True, slots=True)
class GuestProfile:
    """Habits of one kind of guest; the defaults are those of Linux."""

    name: str
    masked_at_start: bool = True
    """All ports are masked until a handler is set: the event of a bind waits for that."""
    unmask_rechecks: bool = True
    """Unmasking looks for an event that came meanwhile; else it is stuck until the next one."""
    clears_before_handler: bool = True
    """Pending is cleared before the handler runs, so an event during it is a new one."""
    handles_unclaimed: bool = False
    """A port without handler has a default one that counts the event as missed."""
    uses_fifo: bool = False
    """Switches to the FIFO form where Xen has it."""
    scan: ScanRules = DEFAULT_RULES
    """How an upcall looks for ports."""


LINUX: Final = GuestProfile("linux", uses_fifo=True, scan=ScanRules(bound_only=True))

GUESTS: Final[dict[str, GuestProfile]] = {
    guest.name: guest
    for guest in (
        LINUX,
        GuestProfile("unikraft", handles_unclaimed=True, scan=ScanRules(round_robin=False)),
        GuestProfile(
            "zephyr",
            masked_at_start=False,
            unmask_rechecks=False,
            handles_unclaimed=True,
            scan=ScanRules(round_robin=False),
        ),
        GuestProfile("freebsd", scan=ScanRules(bound_only=True)),
    )
}
"""Guests by name."""


def find_guest(name: str) -> GuestProfile:
    """Find a guest profile by name, else `UsageError`."""
    if name not in GUESTS:
        message = f"no guest {name!r}; known are {', '.join(GUESTS)}"
        raise UsageError(message)
    return GUESTS[name]
