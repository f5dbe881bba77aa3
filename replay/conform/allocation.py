"""Which port Xen gives: the lowest that is free, though others open and close ports meanwhile."""

from typing import Final

from evtrace.replay.conform.fence import Fence
from evtrace.xen.abi import DOMID_SELF, EvtchnOp, PortStatus

ATTEMPTS: Final = 4
"""How often Xen must withhold a port until that is no accident."""


class Returned:
    """Ports that were closed here and not given out again, as far as others left them alone."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence
        self._numbers: set[int] = set()
        self.taken = 0
        """Ports that others opened since."""

    def add(self, number: int) -> None:
        """Note a port that was closed here."""
        self._numbers.add(number)

    def lowest(self) -> int | None:
        """Find the lowest that is free now; None: there is none."""
        for number in sorted(self._numbers):
            if self._is_free(number):
                return number
        return None

    def take(self, given: int) -> None:
        """Note that Xen gave a port out again."""
        self._numbers.discard(given)

    def is_withheld(self, number: int) -> bool:
        """Tell whether Xen gives other ports though a lower one, that was free before, is free.

        Somebody may have had it open for the moment that counts. So it is tried again.
        """
        return all(self._is_free(number) and self._probe() > number for _ in range(ATTEMPTS))

    def _probe(self) -> int:
        """See which port Xen gives now."""
        reply = self._fence.call(EvtchnOp.BIND_IPI, (0,))
        given = reply.out[-1] if reply.ret == 0 else 0
        if given and self._fence.call(EvtchnOp.CLOSE, (given,)).ret == 0:
            self._numbers.add(given)
        return given

    def _is_free(self, number: int) -> bool:
        """Ask Xen; a port that somebody else has opened is noted no more."""
        reply = self._fence.call(EvtchnOp.STATUS, (DOMID_SELF, number))
        if reply.ret == 0 and reply.out == (PortStatus.CLOSED, 0):
            return True
        self._numbers.discard(number)
        self.taken += 1
        return False
