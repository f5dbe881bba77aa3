"""Rules on the bits of a port: events that wait, and whether anything will deliver them."""

from collections.abc import Iterator

from evtrace.replay.doctor.case import Case, name_of, peer_of
from evtrace.replay.doctor.findings import Code, Finding
from evtrace.snapshot import Channel
from evtrace.verdicts import Severity
from evtrace.xen.abi import PortState, Virq

_DIAGNOSTIC = frozenset({Virq.DEBUG, Virq.DEBUGGER, Virq.XENOPROF, Virq.XENPMU})


def find_stuck(case: Case) -> Iterator[Finding]:
    """Judge the pending, mask and link bits of every port that a guest owns."""
    for dom, channel in case.channels():
        if channel.pending:
            yield from _judge_pending(case, dom, channel)
        elif channel.pending is not None:
            yield from _judge_idle(case, dom, channel)


def _judge_pending(case: Case, dom: int, channel: Channel) -> Iterator[Finding]:
    if channel.masked:
        yield from _judge_masked(case, dom, channel)
    elif channel.linked is None:
        yield _untold(case, dom, channel)
    elif channel.linked:
        yield _announced(case, dom, channel)
    elif case.now.fifo.get(dom):
        yield _unlinked(case, dom, channel)
    else:
        yield _unselected(case, dom, channel)


def _judge_idle(case: Case, dom: int, channel: Channel) -> Iterator[Finding]:
    where = name_of(dom, channel.port)
    if case.now.fifo.get(dom) and channel.no_word:
        reason = "its event word does not exist: Xen keeps its events until the guest expands"
        look = f"how far d{dom}'s boot has come (EVTCHNOP_expand_array), with `xl console {dom}`"
        yield _finding(case, dom, channel, Severity.WARNING, Code.NO_EVENT_WORD, reason, look)
    elif case.now.fifo.get(dom) and channel.linked:
        reason = "linked but not pending: the guest will skip it when it comes to it"
        yield Finding(Severity.NORMAL, Code.STALE_LINK, where, reason)
    elif any(one.pending and not is_kick(one) for one in case.earlier(dom, channel)):
        reason = f"was pending in an earlier {case.noun} and is not in the last: it is served"
        yield Finding(Severity.NORMAL, Code.ALIVE, where, reason)


def _unlinked(case: Case, dom: int, channel: Channel) -> Finding:
    since = case.since(dom, channel)
    reason = f"pending, not masked, and on no queue{since}: nothing delivers it before another"
    reason += f" event is raised on it{_or_just_now(case, dom, channel)}"
    look = "make the peer notify once more: if the guest then goes on, it unlinked the event and "
    look += "did not handle it; see its kernel's version and log"
    severity = case.severity(dom, channel)
    return _finding(case, dom, channel, severity, Code.UNLINKED, reason, look)


def _unselected(case: Case, dom: int, channel: Channel) -> Finding:
    since = case.since(dom, channel)
    reason = f"pending, not masked, and its selector bit is clear{since}: nothing delivers it "
    reason += f"before another port of its word is raised{_or_just_now(case, dom, channel)}"
    look = f"whether d{dom} cleared a mask without asking Xen (EVTCHNOP_unmask announces it "
    look += "anew); xen_debug_interrupt in its log says l2-clear"
    severity = case.severity(dom, channel)
    return _finding(case, dom, channel, severity, Code.UNSELECTED, reason, look)


def _again(case: Case) -> str:
    return f"take another {case.noun} some seconds later and give both: alike in both is stuck"


def _or_just_now(case: Case, dom: int, channel: Channel) -> str:
    """Leave open, with a single snapshot, that the guest stood in the midst of handling it."""
    if case.persists(dom, channel):
        return ""
    return f" (unless d{dom}v{channel.vcpu} was handling it at that very moment)"


def _announced(case: Case, dom: int, channel: Channel) -> Finding:
    vcpu = f"d{dom}v{channel.vcpu}"
    if case.persists(dom, channel):
        severity, end = Severity.WARNING, f"{case.in_each}: {vcpu} takes no upcall, or is flooded"
    else:
        severity, end = Severity.NOTICE, f": {vcpu} will find it at its next upcall"
    look = f"whether {vcpu} runs and takes events: `xl vcpu-list {dom}`, and debug key q "
    look += "(upcall_pend, upcall_mask)"
    reason = f"pending, not masked and announced{end}"
    return _finding(case, dom, channel, severity, Code.NOT_TAKEN, reason, look)


def _untold(case: Case, dom: int, channel: Channel) -> Finding:
    if case.persists(dom, channel):
        severity, end = Severity.WARNING, f"{case.in_each}: nobody handles it"
        look = (
            f"whether vCPU {channel.vcpu} runs; if so, whether `xen-event-inject` of another open "
        )
        look += "port of its word brings both: then the selector bit was lost"
    else:
        severity, look = Severity.NOTICE, _again(case)
        end = ": due, or stuck; the list does not show the selector that tells"
    reason = f"pending and not masked{end}"
    return _finding(case, dom, channel, severity, Code.PENDING_UNTOLD, reason, look)


# --- masked ------------------------------------------------------------------------------------


def is_kick(channel: Channel) -> bool:
    """Tell whether it can be the kick of the paravirtual spinlock: an IPI that nobody handles.

    Where the guest has given no event word yet, Xen shows the port as masked; that says nothing.
    """
    return channel.state is PortState.IPI and bool(channel.masked) and not channel.no_word


def _judge_masked(case: Case, dom: int, channel: Channel) -> Iterator[Finding]:
    where = name_of(dom, channel.port)
    match channel.state:
        case PortState.IPI:
            yield from _masked_ipi(case, dom, channel)
        case PortState.VIRQ if channel.peer in _DIAGNOSTIC:
            reason = f"masked and pending, VIRQ {Virq(channel.peer).name}: nobody listens to it"
            yield Finding(Severity.NORMAL, Code.DIAGNOSTIC_VIRQ, where, reason)
        case PortState.UNBOUND:
            return  # what its peer left: a matter of half-open ports
        case _:
            reason = f"pending and masked{case.since(dom, channel)}: its handler has not unmasked "
            reason += "it since the last event, or there is none"
            look, severity = _look_at_holder(dom, channel), case.severity(dom, channel)
            if severity is Severity.WARNING:
                look = f"{_again(case)}; {look}"
            yield _finding(case, dom, channel, severity, Code.HELD_MASKED, reason, look)


def _masked_ipi(case: Case, dom: int, channel: Channel) -> Iterator[Finding]:
    where, vcpu = name_of(dom, channel.port), f"d{dom}v{channel.vcpu}"
    own = case.now.domains[dom].values()
    alike = [one.port for one in own if is_kick(one) and one.vcpu == channel.vcpu]
    if len(alike) == 1:
        reason = "masked and pending by design: the IPI that ends a spinlock's SCHEDOP_poll"
        if channel.vcpu not in case.now.polling.get(dom, ()):  # else a rule on pollers has it
            yield Finding(Severity.NORMAL, Code.KICK_IPI, where, reason)
        return
    names = ", ".join(name_of(dom, port) for port in sorted(alike))
    reason = f"pending and masked, as {vcpu}'s spinlock kick is; but {vcpu} has {len(alike)} such "
    reason += f"IPIs ({names}) and one kick"
    look = f"the rows of those IPIs in d{dom}'s /proc/interrupts: only `spinlock` counts nothing"
    severity = case.severity(dom, channel)
    yield Finding(severity, Code.MASKED_IPIS, where, reason, look)


def _look_at_holder(dom: int, channel: Channel) -> str:
    rows = f"in d{dom}, its row of /proc/interrupts twice"
    match channel.state:
        case PortState.INTERDOMAIN:
            return (
                f"{rows}, jiffies_eoi_delayed and spurious_events in /sys/devices/*/xenbus; if a "
                "process has it open (/dev/xen/evtchn), whether that runs"
            )
        case PortState.PIRQ:
            return f"{rows}, and debug key i for PIRQ {channel.peer}"
    return f"{rows}, and whether the process that bound VIRQ {channel.peer} runs"


def _finding(
    case: Case,
    dom: int,
    channel: Channel,
    severity: Severity,
    code: Code,
    reason: str,
    look: str,
) -> Finding:
    if severity is Severity.WARNING and code in {Code.UNLINKED, Code.UNSELECTED}:
        look = f"{_again(case)}; {look}"
    return Finding(severity, code, name_of(dom, channel.port), reason, look, peer_of(case, channel))
