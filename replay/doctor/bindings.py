"""Rules on VIRQs, vCPUs and Xen's own ports."""

from collections import defaultdict
from collections.abc import Iterator

from evtrace.replay.doctor.case import Case, name_of, peer_of
from evtrace.replay.doctor.findings import Code, Finding
from evtrace.replay.doctor.pending import is_kick
from evtrace.verdicts import Severity
from evtrace.xen.abi import PortState
from evtrace.xen.profiles import HEAD
from evtrace.xen.virqs import VirqClass, classify_virq


def find_odd_bindings(case: Case) -> Iterator[Finding]:
    """Judge VIRQs bound twice, vCPUs that are not there, pollers; name the ports of Xen."""
    yield from _duplicate_virqs(case)
    yield from _missing_vcpus(case)
    yield from _pollers(case)
    yield from _ports_of_xen(case)


def _duplicate_virqs(case: Case) -> Iterator[Finding]:
    bound: dict[tuple[int, int, int | None], list[int]] = defaultdict(list)
    for dom, channel in case.channels():
        if channel.state is PortState.VIRQ:
            per_vcpu = classify_virq(channel.peer, HEAD) is VirqClass.VCPU
            bound[dom, channel.peer, channel.vcpu if per_vcpu else None].append(channel.port)
    for (dom, virq, vcpu), ports in bound.items():
        for port in ports[1:]:
            whose = "" if vcpu is None else f" of d{dom}v{vcpu}"
            reason = f"VIRQ {virq}{whose} is bound to {name_of(dom, ports[0])} too; Xen refuses "
            reason += "that, and raises it on one port only"
            look = "whether the text mixes two dumps; if not, a bug of this Xen"
            where = name_of(dom, port)
            yield Finding(Severity.WARNING, Code.DUPLICATE_VIRQ, where, reason, look)


def _missing_vcpus(case: Case) -> Iterator[Finding]:
    for dom, channel in case.channels():
        known = case.now.vcpus.get(dom)
        if known and channel.vcpu not in known:
            reason = f"notifies vCPU {channel.vcpu}, which d{dom} does not have"
            look = f"`xl vcpu-list {dom}`, and whether key q was pressed at the same time as e"
            where, peer = name_of(dom, channel.port), peer_of(case, channel)
            yield Finding(Severity.WARNING, Code.NO_SUCH_VCPU, where, reason, look, peer)


def _pollers(case: Case) -> Iterator[Finding]:
    for dom, vcpus in sorted(case.now.polling.items()):
        for vcpu in sorted(vcpus):
            yield _poller(case, dom, vcpu)


def _poller(case: Case, dom: int, vcpu: int) -> Finding:
    where = f"d{dom}v{vcpu}"
    kicks = (one for one in case.now.domains[dom].values() if is_kick(one) and one.vcpu == vcpu)
    kick = next((name_of(dom, one.port) for one in kicks if one.pending), None)
    still = [vcpu in snapshot.polling.get(dom, ()) for snapshot in case.before]
    always = bool(still) and all(still)
    since = case.in_each if always else ""
    if kick is not None:
        severity = Severity.ERROR if always else Severity.WARNING
        reason = f"waits in SCHEDOP_poll although its kick {kick} is pending{since}"
        look = f"`xl vcpu-list {dom}`, and another dump: alike in both, {where} missed its wake-up"
        return Finding(severity, Code.KICKED_POLLER, where, reason, look)
    reason = f"waits in SCHEDOP_poll{since}, for a lock or for a port it named"
    look = f"who holds the lock: `xl vcpu-list {dom}`, and d{dom}'s stacks (xenctx)"
    severity = Severity.WARNING if always else Severity.NOTICE
    return Finding(severity, Code.POLLING, where, reason, look)


def _ports_of_xen(case: Case) -> Iterator[Finding]:
    for dom, channels in sorted(case.now.domains.items()):
        for channel in channels.values():
            if channel.xen_consumer:
                where, peer = name_of(dom, channel.port), peer_of(case, channel)
                reason = "Xen itself holds this end (ioreq, vm_event): the guest is never called"
                yield Finding(Severity.NORMAL, Code.XEN_CONSUMER, where, reason, "", peer)
