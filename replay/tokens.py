"""Pending tokens: everything that contributed to a pending bit since it was last consumed.

One token a (domain, port). Setting the bit adds a contribution, the guest's clearing consumes the
token, and the handler run that follows is explained by what the token held.
"""

from dataclasses import dataclass, field

from evtrace.verdicts import Cause, Contribution, ContributionKind, Fate, Run, Send

Channel = tuple[int, int]
"""A local port: (domain, port)."""


@dataclass(slots=True)
class Token:
    """Contributions of one pending bit, each with the send it came from, if it came from one."""

    parts: list[tuple[Contribution, Send | None]] = field(default_factory=list)
    queue: tuple[int, int] | None = None
    """FIFO: (vcpu, priority) of the queue on which the event was first linked."""
    resent: bool = False
    """It was set while masked, and an unmask let it through."""
    announced: bool = False
    """An upcall has to find it, as far as the model knows."""

    @property
    def contributions(self) -> list[Contribution]:
        """The contributions in the order in which they were made."""
        return [part for part, _ in self.parts]


@dataclass(slots=True)
class Consumption:
    """A token that the guest took by clearing the pending bit, waiting for its handler's run."""

    token: Token
    tsc: int
    by_poller: bool = False
    """No upcall ran on that vCPU: the guest polls, and no handler is to come."""
    seq: int | None = None
    """The record of the clearing, where it was seen."""
    woke: bool = False
    """Its first event woke the poller from SCHEDOP_poll."""


@dataclass(slots=True)
class Answered:
    """The last run of a port, and the parts of its token that it may have come too early for."""

    run: Run
    tsc: int
    disputed: list[tuple[Contribution, Send | None]]
    cleared_unseen: bool = False
    """When the bit was cleared is known no better than that it was at `tsc` or later."""


class TokenBook:
    """The open tokens, and for each port the run that consumed the one before."""

    def __init__(self) -> None:
        """Start with nothing pending."""
        self._open: dict[Channel, Token] = {}
        self._answered: dict[Channel, Answered] = {}

    def add(self, channel: Channel, contribution: Contribution, send: Send | None) -> None:
        """Add a contribution to the port's token."""
        self._open.setdefault(channel, Token()).parts.append((contribution, send))

    def open_token(self, channel: Channel) -> Token | None:
        """Give the port's open token, if something contributed to one."""
        return self._open.get(channel)

    def consume(self, channel: Channel) -> Token:
        """Take the port's token; an empty one if nothing contributed."""
        return self._open.pop(channel, None) or Token()

    def last_consumed(self, channel: Channel) -> int | None:
        """Give the host TSC at which the token before was consumed."""
        answered = self._answered.get(channel)
        return answered.tsc if answered else None

    def answer(
        self,
        channel: Channel,
        token: Token,
        run: Run,
        consumed_tsc: int,
        *,
        cleared_unseen: bool = False,
    ) -> None:
        """Let `run` answer everything in `token`: the first send is delivered, others coalesced.

        `cleared_unseen`: the bit was cleared at `consumed_tsc` or later, up to the run.
        """
        doubtful = self._doubt_disputed(channel)
        run.contributors = token.contributions
        for place, (_, send) in enumerate(token.parts):
            if send is not None:
                send.fate = Fate.COALESCED if place else Fate.DELIVERED
                send.run_seq = run.seq
        if doubtful and token.parts:
            _doubt(token.parts[0][1])
        # Where no clearing was seen, the run itself shows that the first part was there.
        parts = token.parts[1:] if cleared_unseen else token.parts
        disputed = [part for part in parts if part[0].tsc_hi > consumed_tsc]
        self._answered[channel] = Answered(run, consumed_tsc, disputed, cleared_unseen)

    def extend(self, run: Run, token: Token) -> None:
        """Let a run that is under way answer what was cleared before its end, too."""
        for part, send in token.parts:
            if send is not None:
                send.fate = Fate.COALESCED if run.contributors else Fate.DELIVERED
                send.run_seq = run.seq
            run.contributors.append(part)

    def reclaim(self, channel: Channel) -> Token | None:
        """Take back a call that the run before was credited with, though it may have come later.

        A call takes effect somewhere in its interval. If the bit was cleared within that interval
        and then found set again with nothing else to explain it, the call came after the clearing.
        """
        answered = self._answered.get(channel)
        if answered is None or not answered.disputed:
            return None
        part = answered.disputed.pop()
        if len(answered.run.contributors) < 2:
            return None
        answered.run.contributors.remove(part[0])
        _forget_merged(answered.run)
        return Token(parts=[part])

    def may_have_taken_more(self, channel: Channel) -> bool:
        """Tell whether the run before may have been credited with what came after its clearing."""
        answered = self._answered.get(channel)
        if answered is None or not answered.cleared_unseen:
            return False
        return len(answered.run.contributors) > 1

    def _doubt_disputed(self, channel: Channel) -> bool:
        """Withdraw what is said of sends that the run before may have come too early for."""
        answered = self._answered.get(channel)
        if answered is None or not answered.cleared_unseen or not answered.disputed:
            return False
        for _, send in answered.disputed:
            _doubt(send)
        return True

    def drop(self, channel: Channel) -> Token:
        """Forget a port: it was closed. Gives what was pending on it."""
        self._doubt_disputed(channel)
        self._answered.pop(channel, None)
        return self.consume(channel)

    def remaining(self) -> list[tuple[Channel, Token]]:
        """Give the tokens that nobody consumed."""
        return list(self._open.items())


def _doubt(send: Send | None) -> None:
    if send is not None:
        send.fate = Fate.UNKNOWN
        send.reason = "sent while the bit was being cleared, and when that was is not captured"


def _forget_merged(run: Run) -> None:
    """Correct a run that was taken to answer a send together with the event of the bind."""
    kinds = {part.kind for part in run.contributors}
    if run.cause is Cause.BIND_MERGED and ContributionKind.SEND not in kinds:
        run.cause = Cause.BIND_CONSERVATIVE
        run.reason = "Xen sets the binder's own port pending at bind_interdomain"
