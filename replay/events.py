"""Events: what a step of the model sets pending, entered in every book that is kept of it."""

from dataclasses import dataclass

from evtrace.replay.belief import Belief, Event
from evtrace.replay.calls import Call
from evtrace.replay.delivery import Delivery, Step
from evtrace.replay.runs import Runs
from evtrace.replay.tokens import Channel, TokenBook
from evtrace.timeline import Row
from evtrace.verdicts import Contribution, ContributionKind, Fate, Send


@dataclass(frozen=True, slots=True)
class Raised:
    """Who is behind the events that a step of the model sets pending."""

    kind: ContributionKind
    dom: int
    vcpu: int
    port: int
    """The port it goes through; 0: the one that it sets pending."""
    seq: int
    tsc: int
    tsc_hi: int
    send: Send | None = None

    @classmethod
    def by_call(
        cls, kind: ContributionKind, call: Call, port: int, send: Send | None = None
    ) -> "Raised":
        """Name a call."""
        where = (call.dom, call.vcpu, port)
        return cls(kind, *where, call.enter.seq, call.lo, call.hi, send)

    @classmethod
    def by_row(cls, kind: ContributionKind, row: Row, vcpu: int, channel: Channel) -> "Raised":
        """Name a record about the port itself."""
        return cls(kind, channel[0], vcpu, channel[1], row.seq, row.tsc_lo, row.tsc_hi)

    def contribution(self, *, masked: bool, own: int = 0) -> Contribution:
        """Give the token's entry for an event that this step set pending on the port `own`."""
        where = (self.dom, self.vcpu, self.port or own)
        return Contribution(self.kind, self.seq, self.tsc, self.tsc_hi, *where, masked)


class Events:
    """Books events: who contributed, what is due, on which queue it is, who has to find it."""

    def __init__(self, belief: Belief, tokens: TokenBook, runs: Runs, delivery: Delivery) -> None:
        """Take events from `belief`."""
        self._belief = belief
        self._tokens = tokens
        self._runs = runs
        self._delivery = delivery

    def contribute(self, raised: Raised | None, step: Step) -> bool:
        """Book what the model's last step set pending; tell whether there was anything."""
        events = self._belief.events()
        for event in events:
            channel = (event.dom, event.port)
            if event.dropped:
                self._drop(channel, raised)
                continue
            if raised is not None:
                part = raised.contribution(masked=event.masked, own=event.port)
                self._runs.contribute(channel, part, raised.send)
            self.note_queue(channel)
            self._delivery.raised(channel, step)
            self.announce(event)
        return bool(events)

    def announce(self, event: Event) -> None:
        """Note that an event has to be found by its vCPU's next upcall, if it has."""
        if event.announced:
            self._runs.announced((event.dom, event.port), event.vcpu)

    def _drop(self, channel: Channel, raised: Raised | None) -> None:
        """Settle a send that Xen drops, or those that it had saved and drops now."""
        saved = [] if raised is not None else self._tokens.consume(channel).parts
        for send in [raised.send] if raised is not None else [send for _, send in saved]:
            if send is not None:
                send.fate = Fate.DROP_NO_CONTROL_BLOCK
                send.reason = "the vCPU has no FIFO control block"

    def note_queue(self, channel: Channel) -> None:
        """Remember on which FIFO queue a pending event was first linked."""
        token = self._tokens.open_token(channel)
        if token is not None and token.queue is None:
            token.queue = self._belief.queue(channel)

    def resend(self, channel: Channel) -> None:
        """Note that an unmask lets through what was set while the port was masked."""
        token = self._tokens.open_token(channel)
        if token is not None and any(part.masked for part in token.contributions):
            token.resent = True
