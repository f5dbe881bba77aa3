"""The cause of one handler run, decided from the token it consumed; the first rule wins."""

from dataclasses import dataclass

from evtrace.replay.tokens import Token
from evtrace.verdicts import Cause, ContributionKind, Route, Run
from evtrace.xen.abi import PortState


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known of a port at the moment its handler runs."""

    state: PortState | None
    """Its state in the model; None where what it is bound to is not known."""
    missing: str
    """Why a provocation may have gone unseen; empty if everything needed was captured."""
    bound_tsc: int | None
    """When its present owner bound it, if that was captured."""
    raises_captured: bool
    """VIRQs and PIRQs would have left a record when raised."""
    taken_elsewhere: bool
    """Another vCPU is in this port's handler, or was since this one began to scan."""
    repeats: bool
    """The guest cleared nothing, and runs the handler for the event it has just handled."""
    left_over: bool
    """An event was pending when the port's former owner closed it."""
    being_freed: bool
    """Its irq is being freed on this vCPU and no upcall has come since."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A cause, why, and whether it was observed or inferred."""

    cause: Cause
    reason: str
    evidence: str = "observed"


def decide(token: Token, seen: Circumstances) -> Verdict:
    """Say why a handler ran that consumed `token` (shared rules: docs/causes.md)."""
    if seen.being_freed and not token.parts:
        return Verdict(Cause.UNBIND_LAST_CALL, "called while its irq was being freed")
    if not token.parts:
        return _without_contribution(seen)
    kinds = {part.kind for part in token.contributions}
    if ContributionKind.BIND in kinds:
        return _bound(kinds, seen)
    if kinds == {ContributionKind.BEFORE}:
        return Verdict(Cause.UNKNOWN, "the port was pending already when the capture began")
    old = _predates_owner(token, seen)
    if old is not None:
        return old
    return _raised(kinds, token)


def _without_contribution(seen: Circumstances) -> Verdict:
    again = _again(seen)
    if again is not None:
        return again
    if seen.state is PortState.VIRQ and not seen.raises_captured:
        return Verdict(Cause.VIRQ, "bound to a VIRQ, whose raising leaves no record", _BINDING)
    if seen.state is PortState.PIRQ and not seen.raises_captured:
        return Verdict(Cause.PIRQ, "bound to a PIRQ; its raising was not seen", _BINDING)
    if seen.missing:
        return Verdict(Cause.UNKNOWN, seen.missing)
    return Verdict(Cause.UNPROVOKED, "nothing set the port pending since its last run")


_BINDING = "inferred(binding)"


def _again(seen: Circumstances) -> Verdict | None:
    """Name the event, handled or left over before, that this run is about once more."""
    if seen.repeats:
        return Verdict(Cause.DOUBLE_HANDLE, "the guest handled the same event just before")
    if seen.taken_elsewhere and not seen.missing:
        return Verdict(Cause.DOUBLE_HANDLE, "another vCPU has taken the same event")
    if seen.left_over and not seen.missing:
        return Verdict(Cause.STALE_PENDING_REUSE, "pending since before its former owner closed it")
    return None


def _bound(kinds: set[ContributionKind], seen: Circumstances) -> Verdict:
    if ContributionKind.SEND in kinds:
        return Verdict(
            Cause.BIND_MERGED,
            "set pending at bind_interdomain; a send of the peer met the bit already set",
        )
    reason = "Xen sets the binder's own port pending at bind_interdomain; the peer sent nothing"
    if seen.missing:
        reason = "Xen sets the binder's own port pending at bind_interdomain"
        return Verdict(Cause.BIND_CONSERVATIVE, reason, f"inferred(no send seen; {seen.missing})")
    return Verdict(Cause.BIND_CONSERVATIVE, reason)


def _predates_owner(token: Token, seen: Circumstances) -> Verdict | None:
    newest = max(part.tsc for part in token.contributions)
    if seen.bound_tsc is not None and newest < seen.bound_tsc:
        return Verdict(Cause.STALE_PENDING_REUSE, "set pending before its present owner bound it")
    if seen.state is PortState.UNBOUND:
        return Verdict(Cause.PEER_CLOSE_RESIDUE, "the peer sent, then closed its end")
    return None


_RAISED = {
    ContributionKind.SEND: (Cause.SEND, "sent by d{dom}:{port}"),
    ContributionKind.IPI: (Cause.IPI, "IPI from d{dom}v{vcpu}"),
    ContributionKind.VIRQ: (Cause.VIRQ, "Xen raised the VIRQ"),
    ContributionKind.PIRQ: (Cause.PIRQ, "Xen handled the interrupt"),
    ContributionKind.GUEST_SET: (Cause.RETRIGGER_LOCAL, "the guest set the bit itself"),
}


def _raised(kinds: set[ContributionKind], token: Token) -> Verdict:
    """Name the strongest contribution: an outside event before the guest's own retrigger."""
    kind = next(kind for kind in _RAISED if kind in kinds)
    cause, reason = _RAISED[kind]
    parts = [part for part in token.contributions if part.kind is kind]
    text = reason.format(dom=parts[0].dom, port=parts[0].port, vcpu=parts[0].vcpu)
    if len(parts) > 1:
        text += f", and {len(parts) - 1} more coalesced"
    inferred = parts[0].inferred
    return Verdict(cause, text, f"inferred({inferred})" if inferred else "observed")


def routes(token: Token, run: Run, home: tuple[int, int] | None) -> tuple[Route, ...]:
    """Say how the event travelled; `home` is (vcpu, priority) of the port when the handler ran."""
    found = []
    if token.resent:
        found.append(Route.UNMASK_RESEND)
    if token.queue is not None and home is not None and token.queue != home:
        moved = token.queue[0] == run.vcpu != home[0]
        reprioritised = token.queue[0] == home[0] and token.queue[1] != home[1]
        if moved or reprioritised:
            found.append(Route.FIFO_OLD_QUEUE)
    if _came_during_upcall(token, run):
        found.append(Route.UPCALL_COALESCED)
    return tuple(found)


def _came_during_upcall(token: Token, run: Run) -> bool:
    """Tell whether all of it came after the upcall had begun, as exactly as clocks are joined."""
    if run.upcall_tsc is None or not token.parts:
        return False
    return token.parts[0][0].tsc > run.upcall_tsc + (run.tsc_hi - run.tsc)
