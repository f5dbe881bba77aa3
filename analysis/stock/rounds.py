"""Round trips: a vCPU notifies another, which notifies it in turn before it sleeps again.

An event-channel hypercall tells neither its operation nor its port; whom it notified shows where
that vCPU slept and was woken. A notification of a vCPU that is awake leaves no record. So a round
trip is *seen* where both notifications woke somebody, and *inferred* where one did and the other
side, awake at that time, made an event-channel hypercall in the right place.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from evtrace.analysis.stock.chains import Round


@dataclass(slots=True)
class _Debt:
    """Somebody was woken and has not answered yet."""

    since: int
    """The caller's hypercall."""
    silent: int | None = None
    """The debtor's last hypercall since that woke nobody while the caller was awake."""


@dataclass(slots=True)
class _Party:
    """What is known of one vCPU."""

    awake_since: int | None = None
    """None: asleep, or not known."""
    last_call: int | None = None
    silent: int | None = None
    """Its last call since it woke up that woke nobody."""
    debts: dict[int, _Debt] = field(default_factory=dict)
    """By caller."""
    returning: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Caller, answerer, start, reply of rounds that end when this vCPU runs."""


class Rounds:
    """Finds round trips in the order of calls and wake-ups."""

    def __init__(self, found: Callable[[Round], None]) -> None:
        """Give each round trip that is complete to `found`."""
        self._found = found
        self._parties: dict[int, _Party] = {}

    def _party(self, vcpu: int) -> _Party:
        party = self._parties.get(vcpu)
        if party is None:
            party = self._parties[vcpu] = _Party()
        return party

    def calls(self, vcpu: int, tsc: int) -> None:
        """Take an event-channel hypercall; `wakes` follows if it wakes somebody."""
        party = self._party(vcpu)
        party.last_call = party.silent = tsc
        for caller, debt in party.debts.items():
            if self._party(caller).awake_since is not None:
                debt.silent = tsc

    def wakes(self, vcpu: int, target: int) -> None:
        """Take note that the last call of `vcpu` woke `target`."""
        party, other = self._party(vcpu), self._party(target)
        tsc = party.last_call
        if tsc is None:
            return
        party.silent = None
        for debt in party.debts.values():
            if debt.silent == tsc:
                debt.silent = None
        creditor = _creditor(party.debts, vcpu, target)
        if creditor is not None:
            start = party.debts.pop(creditor).since
            other.returning.append((creditor, vcpu, start, tsc))
        elif other.silent is not None and (party.awake_since or tsc) <= other.silent:
            self._found(Round(target, vcpu, other.silent, tsc, None))
            other.silent = None
        other.debts[vcpu] = _Debt(tsc)
        self._hand_on(vcpu, target)

    def _hand_on(self, vcpu: int, target: int) -> None:
        """Let a vCPU of the same domain answer in place of the one that woke it."""
        if vcpu >> 16 != target >> 16:
            return
        debts = self._party(target).debts
        for caller, debt in self._party(vcpu).debts.items():
            if caller >> 16 != vcpu >> 16:
                debts.setdefault(caller, _Debt(debt.since))

    def retract(self, vcpu: int, target: int) -> None:
        """Take back `wakes`: an interrupt did it."""
        self._party(target).debts.pop(vcpu, None)
        self._party(vcpu).silent = self._party(vcpu).last_call

    def awakes(self, vcpu: int, tsc: int) -> None:
        """Take note that a vCPU is asleep no longer."""
        party = self._party(vcpu)
        party.awake_since, party.silent = tsc, None

    def runs(self, vcpu: int, tsc: int) -> None:
        """Take note that a vCPU runs: what it waited for has arrived."""
        party = self._party(vcpu)
        if party.awake_since is None:
            party.awake_since = tsc
        for caller, answerer, start, reply in party.returning:
            self._found(Round(caller, answerer, start, reply, tsc))
        party.returning.clear()

    def sleeps(self, vcpu: int) -> None:
        """Take note that a vCPU sleeps: it owes nobody any more."""
        party = self._party(vcpu)
        party.awake_since = None
        for caller, debt in party.debts.items():
            if debt.silent is not None:
                self._found(Round(caller, vcpu, debt.since, debt.silent, None))
        party.debts.clear()

    def forget(self) -> None:
        """Forget everybody: records were lost."""
        self._parties.clear()


def _creditor(debts: dict[int, _Debt], vcpu: int, target: int) -> int | None:
    """Give the caller whom a wake-up of `target` answers: itself, or its domain's only one."""
    if target in debts:
        return target
    if vcpu >> 16 == target >> 16:
        return None
    same = [caller for caller in debts if caller >> 16 == target >> 16]
    return same[0] if len(same) == 1 else None
