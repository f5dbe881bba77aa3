"""The fate of each send: what became of it, decided when its token is consumed, dropped or left."""

from collections import Counter
from collections.abc import Callable, Iterable

from evtrace.replay.belief import Belief
from evtrace.replay.habits import Habits
from evtrace.replay.tokens import Channel, Consumption, Token, TokenBook
from evtrace.timeline import RecordClass
from evtrace.tracefile.coverage import CoverageMap
from evtrace.verdicts import Contribution, Fate, Route, Send

LATER_UPCALLS = 2
"""An upcall that starts after the event scans for it; the next proves that it was passed over."""


class Fates:
    """Settles sends that no run answered."""

    def __init__(
        self,
        belief: Belief,
        coverage: CoverageMap,
        tokens: TokenBook,
        habits: Habits,
        is_in_upcall: Callable[[tuple[int, int]], bool],
    ) -> None:
        """Work on the open tokens of `tokens`; `habits` knows the guests' faults."""
        self._is_in_upcall = is_in_upcall
        self._habits = habits
        self.now = 0
        """TSC up to which the trace was replayed."""
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

    def unknown(self, token: Token, reason: str) -> Token:
        """Settle what became of a token's sends as unknown; gives an empty one."""
        for _, send in token.parts:
            self._unknown(send, reason)
        return Token()

    def polled(self, taken: Consumption) -> None:
        """Settle the sends that a poller took: it cleared the bit itself, no handler ran."""
        fate = Fate.DELIVERED
        for _, send in taken.token.parts:
            gap = self._coverage.gap(send.to_dom or 0, 0, self.now) if send is not None else ""
            if gap:
                self._unknown(send, gap)
            elif send is not None:
                send.fate, send.reason = fate, "taken by a poller, which cleared the bit itself"
                send.polled_seq = taken.seq
                first = fate is Fate.DELIVERED
                send.routes = (Route.POLL_WAKE,) if taken.woke and first else ()
            fate = Fate.COALESCED

    def closed(self, channel: Channel, taken: Consumption | None, why: str) -> None:
        """Settle the sends that a port's owner had not handled when it closed the port."""
        parts = self._tokens.drop(channel).parts
        if taken is not None and taken.by_poller:
            self.polled(taken)
        elif taken is not None:
            parts = taken.token.parts + parts
        for _, send in parts:
            if send is not None:
                gap = self._coverage.gap(channel[0], 0, self.now) or self._coverage.loss
                send.fate, send.reason = (Fate.UNKNOWN, gap) if gap else (Fate.CLOSED, why)
                self._upcalls_at.pop(send.seq, None)

    def settle_remaining(self, taken: Iterable[tuple[Channel, Consumption]]) -> None:
        """Settle the sends that were pending, or taken but not handled, when the trace ended."""
        for channel, consumption in taken:
            if consumption.by_poller:
                self.polled(consumption)
            else:
                self._settle_taken(channel, consumption.token)
        for channel, token in self._tokens.remaining():
            for part, send in token.parts:
                if send is not None and send.fate is not Fate.LOST:
                    send.fate, send.reason = self._fate_at_end(channel, token, part, send)

    def _settle_taken(self, channel: Channel, token: Token) -> None:
        for part, send in token.parts:
            missing = self._cannot_say(channel, part)
            if send is not None:
                send.fate = Fate.UNKNOWN if missing else Fate.PENDING_AT_END
                send.reason = missing or "the capture ended between its clearing and its handler"

    def _fate_at_end(
        self, channel: Channel, token: Token, part: Contribution, send: Send
    ) -> tuple[Fate, str]:
        missing = self._cannot_say(channel, part)
        if missing:
            return Fate.UNKNOWN, missing
        held = self._held(channel, token)
        if held is not None:
            return held
        later = self._upcalls_of(channel) - self._upcalls_at.get(send.seq, 0)
        if later >= LATER_UPCALLS:
            return Fate.LOST, f"the target vCPU took {later} upcalls after it without handling it"
        return Fate.PENDING_AT_END, "the capture ended first"

    def _held(self, channel: Channel, token: Token) -> tuple[Fate, str] | None:
        """Say why a pending port's next upcall does not look for it; None if it does."""
        if self._belief.is_saved(channel):
            return self._without_word(channel)
        if self._belief.masked(channel):
            return Fate.HELD_MASKED, "masked until the end of the capture"
        if self._habits.leaves_set(channel) and not self._belief.is_fifo(channel[0]):
            return Fate.LOST, "the guest never cleared the bit, so nothing new can be announced"
        if not token.announced and self._was_passed_by(channel):
            return Fate.NOT_ANNOUNCED, self._why_not_announced(channel, token)
        return None

    def _without_word(self, channel: Channel) -> tuple[Fate, str]:
        if channel[0] in self._belief.started:
            return Fate.HELD_NO_WORD, "Xen keeps it until EVTCHNOP_expand_array"
        return Fate.UNKNOWN, "whether the guest has given an event word for it is not known"

    def _was_passed_by(self, channel: Channel) -> bool:
        """Tell whether no upcall is under way that may have taken it off its queue just now."""
        home = self._belief.home(channel)
        return home is not None and not self._is_in_upcall((channel[0], home[0]))

    def _why_not_announced(self, channel: Channel, token: Token) -> str:
        was_masked = any(part.masked for part in token.contributions)
        if was_masked and not self._belief.rechecks(channel[0]):
            return "the guest unmasked it in memory and did not look for a waiting event"
        if self._belief.is_fifo(channel[0]):
            return "it is on no queue: the guest took it off and left it pending"
        return "its selector bit is clear"

    def _cannot_say(self, channel: Channel, part: Contribution) -> str:
        """Say why it is not known what became of a send that no run answered."""
        needed = RecordClass.HANDLER | RecordClass.MEMORY  # a guest masks, and clears what it polls
        missing = self._coverage.missing(channel[0], needed, part.tsc, part.tsc)
        return missing or self._coverage.loss or self._coverage.gap(channel[0], 0, self.now)

    def _upcalls_of(self, channel: Channel) -> int:
        home = self._belief.home(channel)
        return self._upcalls[channel[0], home[0]] if home else 0

    def _missing_handlers(self, dom: int, lo: int, hi: int) -> str:
        return self._coverage.missing(dom, RecordClass.HANDLER, lo, hi) or ""

    @staticmethod
    def _unknown(send: Send | None, reason: str) -> None:
        if send is not None:
            send.fate, send.reason = Fate.UNKNOWN, reason
