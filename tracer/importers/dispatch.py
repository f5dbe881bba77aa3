"""Upcalls and dispatches: what one vCPU is in the midst of, told by the functions it enters.

Linux handles an event as: upcall, scan, handle_irq_for_port, mask or clear, handler. Of these the
tracer drops some, and some kernels skip some: the 2-level scan dispatches the timer directly.
"""

from dataclasses import dataclass

UPCALL_DEPTH = {
    "xen_pv_evtchn_do_upcall": 0,
    "__xen_pv_evtchn_do_upcall": 1,
    "xen_evtchn_do_upcall": 2,
    "xen_hvm_evtchn_do_upcall": 2,
    "__xen_evtchn_do_upcall": 3,
    "evtchn_2l_handle_events": 4,
    "evtchn_fifo_handle_events": 4,
}
"""Functions of one upcall, outermost first (Linux 3.x to 6.x, each has some of them)."""

_SCAN = UPCALL_DEPTH["evtchn_2l_handle_events"]
_NO_UPCALL = -1


@dataclass(slots=True)
class Dispatch:
    """One event on its way to its handler: known by its port, its irq, or both."""

    port: int | None = None
    irq: int | None = None
    cleared: bool = False
    entered: bool = False
    """Its handler has been entered."""
    exited: bool = False


class VcpuContext:
    """What a vCPU is in the midst of."""

    def __init__(self) -> None:
        """Start outside any upcall."""
        self._depth = _NO_UPCALL
        self._dispatch: Dispatch | None = None

    @property
    def dispatch(self) -> Dispatch | None:
        """The event being handled."""
        return self._dispatch

    def leave_irq(self) -> None:
        """Note that the vCPU runs other code: what it was in the midst of is over."""
        self._depth = _NO_UPCALL
        self._dispatch = None

    def upcall(self, depth: int) -> bool:
        """Enter a function of an upcall; tell whether it opens one.

        It does unless it is a deeper function of the one that is open. A scan after a scan is the
        loop inside one upcall.
        """
        opens = depth <= self._depth and not depth == self._depth == _SCAN
        if opens:
            self.leave_irq()
        opens = opens or self._depth == _NO_UPCALL
        self._depth = depth
        return opens

    def start(self, port: int | None) -> None:
        """Enter handle_irq_for_port."""
        self._dispatch = Dispatch(port)

    def clear(self) -> Dispatch:
        """Give the event whose pending bit is cleared now.

        An event is cleared once, before its handler or (level-triggered PIRQs) behind it; a second
        clearing is that of an event dispatched directly, whose handler follows.
        """
        if self._dispatch is None or self._dispatch.cleared:
            self._dispatch = Dispatch()
        self._dispatch.cleared = True
        return self._dispatch

    def acknowledge(self) -> Dispatch:
        """Give the event that is masked now, by the code that acknowledges it."""
        if self._dispatch is None or self._dispatch.exited:
            self._dispatch = Dispatch()
        return self._dispatch

    def enter_handler(self, irq: int) -> Dispatch:
        """Enter a handler of `irq`; give the event that it handles."""
        if self._dispatch is None or self._dispatch.entered:
            self._dispatch = Dispatch()
        self._dispatch.irq = irq
        self._dispatch.entered = True
        return self._dispatch

    def exit_handler(self, irq: int) -> None:
        """Leave a handler of `irq`."""
        if self._dispatch is not None and self._dispatch.irq == irq:
            self._dispatch.exited = True
        else:
            self._dispatch = None
