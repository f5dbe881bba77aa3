"""The fate of each send: what became of it, decided when its token is consumed, dropped or left."""

from collections import Counter

from evtrace.replay.belief import Belief
from evtrace.replay.tokens import Channel, Token, TokenBook
from evtrace.timeline import RecordClass
from evtrace.tracefile.coverage import CoverageMap
from evtrace.verdicts import Contribution, Fate, Send

LATER_UPCALLS = 2
"""An upcall that starts after the event scans for it; the next proves that it was passed over."""


class Fates:
    """Settles sends that no run answered."""

    def __init__(self, belief: Belief, coverage: CoverageMap, tokens: TokenBook) -> None:
        """Work on the open tokens of `tokens`."""
        self._belief = belief
        self._coverage = coverage
        self._tokens = tokens
        self._upcalls: Counter[tuple[int, int]] = Counter()
        self._upcalls_at: dict[int, int] = {}  # seq of a send -> upcalls of its target till then

    def upcall(self, dom: int, vcpu: int) -> None:
        """Count an upcall of a vCPU."""
        self._upcalls[dom, vcpu] += 1

    def sent(self, send: Send, channel: Channel) -> None:
        """Note how many upcalls the target had taken when the send reached it."""
        self._upcalls_at[send.seq] = self._upcalls_of(channel)

    def observable(self, channel: Channel, token: Token, tsc: int) -> tuple[Token, str]:
        """Leave out contributions that an unseen run may have consumed before `tsc`; say why."""
        parts = []
        reason = ""
        for part, send in token.parts:
            missing = self._missing_handlers(channel[0], part.tsc, tsc)
            if missing:
                reason = missing
                self._unknown(send, missing)
            else:
                parts.append((part, send))
        token.parts = parts
        return token, reason

    def closed(self, channel: Channel) -> None:
        """Settle the sends that were pending on a port that its owner closed."""
        for _, send in self._tokens.drop(channel).parts:
            if send is not None:
                send.fate = Fate.CLOSED
                self._upcalls_at.pop(send.seq, None)

    def settle_remaining(self) -> None:
        """Settle the sends that were still pending when the trace ended."""
        for channel, token in self._tokens.remaining():
            for part, send in token.parts:
                if send is not None:
                    send.fate, send.reason = self._fate_at_end(channel, part, send)

    def _fate_at_end(self, channel: Channel, part: Contribution, send: Send) -> tuple[Fate, str]:
        missing = self._missing_handlers(channel[0], part.tsc, part.tsc) or self._coverage.loss
        if missing:
            return Fate.UNKNOWN, missing
        if self._belief.masked(channel):
            return Fate.HELD_MASKED, "masked until the end of the capture"
        later = self._upcalls_of(channel) - self._upcalls_at.get(send.seq, 0)
        if later >= LATER_UPCALLS:
            return Fate.LOST, f"the target vCPU took {later} upcalls after it without handling it"
        return Fate.PENDING_AT_END, "the capture ended first"

    def _upcalls_of(self, channel: Channel) -> int:
        home = self._belief.home(channel)
        return self._upcalls[channel[0], home[0]] if home else 0

    def _missing_handlers(self, dom: int, lo: int, hi: int) -> str:
        return self._coverage.missing(dom, RecordClass.HANDLER, lo, hi) or ""

    @staticmethod
    def _unknown(send: Send | None, reason: str) -> None:
        if send is not None:
            send.fate, send.reason = Fate.UNKNOWN, reason
