"""Faults of a guest: a Linux kernel with a bug, from a moment on.

The domain with the highest number has it, or whichever Linux there is; where there is no domain
yet, the first domU that comes.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from evtrace.tracer.emulator.kernel import Kernel
from evtrace.tracer.emulator.linux import Linux
from evtrace.xen.virqs import HARDWARE_DOMAIN

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab


def _spoil(lab: "Lab", at: float, fault: Callable[[Linux], None]) -> None:
    """Have `fault` change a kernel when the recording has gone on for `at` seconds."""

    def act() -> None:
        kernels = [kernel for _, kernel in sorted(lab.kernels.items()) if isinstance(kernel, Linux)]
        if kernels:
            fault(kernels[-1])
        else:
            lab.welcome = first_domu

    def first_domu(kernel: Kernel) -> None:
        if isinstance(kernel, Linux) and kernel.dom != HARDWARE_DOMAIN:
            fault(kernel)
            lab.welcome = _nothing

    lab.when_recording(at, act)


def _nothing(kernel: Kernel) -> None:
    del kernel


def forgets_to_clear(lab: "Lab", at: float) -> None:
    """Let a kernel handle events without clearing their pending bits."""

    def fault(linux: Linux) -> None:
        linux.clears = False

    _spoil(lab, at, fault)


def never_unmasks(lab: "Lab", at: float) -> None:
    """Let a kernel leave masked what it masked."""

    def fault(linux: Linux) -> None:
        linux.unmasks = False

    _spoil(lab, at, fault)


def no_vcpu_mask(lab: "Lab", at: float) -> None:
    """Let a kernel's 2-level scan take ports that are bound to other vCPUs."""

    def fault(linux: Linux) -> None:
        linux.habits = replace(linux.habits, scan=replace(linux.habits.scan, bound_only=False))

    _spoil(lab, at, fault)


def handles_twice(lab: "Lab", at: float) -> None:
    """Let a kernel run the handler twice for each event."""

    def fault(linux: Linux) -> None:
        linux.handles_twice = True

    _spoil(lab, at, fault)
