"""Every member of every closed set: a recording that produces it, and what withholds it.

A new member fails until `PRODUCED` has a recording for it; and each class of records that its page
(`evtrace explain`) says it needs has to be one without which it is not said.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import pytest

from evtrace.api import Trace
from evtrace.replay.explanations import MEMBERS, VerdictSet, all_pages
from evtrace.replay.follow import Follow
from evtrace.replay.results import Results
from evtrace.timeline import Kind, RecordClass
from evtrace.tracefile.coverage import CoverageMap
from evtrace.tracer.emulator.catalogue import find_scenario
from evtrace.tracer.emulator.faults import inject
from evtrace.tracer.emulator.lab import Lab, Settings
from evtrace.tracer.emulator.linux import handler_of
from evtrace.tracer.emulator.recorder import Capture
from evtrace.tracer.emulator.session import record
from evtrace.verdicts import (
    Cause,
    EoiDelay,
    Fate,
    FindingCode,
    Route,
    UpcallVerdict,
    WorkCause,
    WorkVerdict,
)
from evtrace.xen.abi import EvtchnOp, FormName
from tests.emulator.test_faults import closed_while_pending, two_ports
from tests.emulator.test_guests import small_scenario

KINDS = {
    RecordClass.HYPERCALL: {Kind.HYPERCALL},
    RecordClass.SCHED: {Kind.RUNSTATE, Kind.WAKE, Kind.BLOCK},
    RecordClass.IRQ: {Kind.IRQ_HANDLED},
    RecordClass.CALL: {Kind.CALL_ENTER, Kind.CALL_EXIT},
    RecordClass.UPCALL: {Kind.UPCALL_ENTER, Kind.UPCALL_EXIT},
    RecordClass.HANDLER: {Kind.HANDLER_ENTER, Kind.HANDLER_EXIT},
    RecordClass.MEMORY: {Kind.MASK, Kind.UNMASK, Kind.CLEAR, Kind.SET},
    RecordClass.QUEUE: {Kind.CONSUME},
    RecordClass.EOI: {Kind.EOI},
    RecordClass.RAISE: {Kind.VIRQ_RAISED, Kind.PIRQ_RAISED},
}
TWO_LEVEL = FormName.TWO_LEVEL


# --- scenarios that the catalogue does not have -------------------------------------------------


def one_domain(program: Callable[..., Any], vcpus: int = 1) -> Callable[[Lab], None]:
    def scenario(lab: Lab) -> None:
        linux = lab.domain("domU", vcpus=vcpus)
        lab.start(linux, program(linux))

    return scenario


def retriggers(linux):
    irq = yield linux.bind_ipi_to_irqhandler(0, handler_of(), "ipi")
    yield linux.retrigger(irq)


def calls_when_freed(linux):
    linux.calls_on_free = True
    irq = yield linux.bind_ipi_to_irqhandler(0, handler_of(), "ipi")
    yield linux.unbind_from_irqhandler(irq)


def sends_on_a_closed_port(linux):
    yield linux.send(77)


def sends_to_xen(lab: Lab) -> None:
    """A domain's port leads to Xen itself, as one for I/O requests does."""
    linux, machine = lab.domain("domU"), lab.hypervisor.machine
    helper = lab.domain("dom0", 0)
    far = machine.xen_alloc_unbound(linux.dom, 0, 0)
    bound = machine.hypercall(0, 0, EvtchnOp.BIND_INTERDOMAIN, (linux.dom, far))
    machine.take_effects()
    lab.start(helper, helper.send(bound.out[0]))


def lends_nothing(lab: Lab, *, expands: bool) -> None:
    """A kernel that starts, with a FIFO control block for its first vCPU alone."""
    lab.record_from_here()
    linux = lab.add_domain("domU", vcpus=2)

    def program():
        yield linux.enter_fifo(0)
        port = yield linux.demand(EvtchnOp.BIND_IPI, 1)
        if expands:
            yield linux.map_port(port)
        yield linux.send(port)

    lab.start(linux, program())


def loses_a_virq(lab: Lab) -> None:
    """Xen says that it raises a timer's VIRQ, and sets nothing pending."""
    two_ports(lab)
    xen, raised = lab.hypervisor, lab.hypervisor.raise_virq
    left = 10

    def raise_virq(cpu, virq, pcpu=None):
        nonlocal left
        left -= 1
        if left:
            raised(cpu, virq, pcpu)
        else:
            lab.recorder.family(cpu.pcpu.number, Kind.VIRQ_RAISED, cpu.dom, cpu.number, virq)
            lab.engine.after(1_000_000, raised, cpu, virq, pcpu)

    xen.raise_virq = raise_virq  # type: ignore[method-assign]


def sets_for_nobody(lab: Lab) -> None:
    """With one of dom0's sends Xen sets the sender's own port pending, too."""
    two_ports(lab)
    properly, left = lab.hypervisor.execute, 3

    def execute(cpu, op, args):
        nonlocal left
        left -= cpu.dom == 0 and op == EvtchnOp.SEND
        if not left:
            left = -1
            domain = lab.hypervisor.machine.domains[0]
            domain.set_pending(domain.ports[args[0]], cpu.number)
        return properly(cpu, op, args)

    lab.hypervisor.execute = execute


# --- recordings -----------------------------------------------------------------------------------


class Made(NamedTuple):
    """A recording to make."""

    scenario: str | Callable[[Lab], None]
    fault: str = ""
    limit: float | None = None
    parameters: tuple[tuple[str, int], ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()


def made(scenario, fault="", limit=None, parameters=(), **settings):
    return Made(scenario, fault, limit, parameters, tuple(settings.items()))


PINGPONG, MIGRATE = made("pingpong"), made("migrate", seed=1, chaos=True, form=TWO_LEVEL)
NETFRONT = made("netfront", seed=1, chaos=True)
UNCAPTURED = made("pingpong", "missing-source")
_MADE: dict[VerdictSet, dict[Any, Made]] = {
    VerdictSet.CAUSE: {
        Cause.SEND: PINGPONG,
        Cause.IPI: made("ipi"),
        Cause.VIRQ: made("timer"),
        Cause.PIRQ: made("blkfront"),
        Cause.BIND_CONSERVATIVE: PINGPONG,
        Cause.BIND_MERGED: made("many", seed=1, chaos=True),
        Cause.RETRIGGER_LOCAL: made(one_domain(retriggers)),
        Cause.DOUBLE_HANDLE: made("pingpong", "double-handling@0.0003", 0.03),
        Cause.STALE_PENDING_REUSE: made(closed_while_pending, "pending-kept-over-close"),
        Cause.PEER_CLOSE_RESIDUE: made("peer-close"),
        Cause.UNBIND_LAST_CALL: made(one_domain(calls_when_freed)),
        Cause.UNPROVOKED: made(sets_for_nobody),
        Cause.UNKNOWN: made("pingpong", "lost-records"),
    },
    VerdictSet.ROUTE: {
        Route.UNMASK_RESEND: PINGPONG,
        Route.FIFO_OLD_QUEUE: made("fifo-priority"),
        Route.UPCALL_COALESCED: made("ipi"),
        Route.POLL_WAKE: made("poll"),
    },
    VerdictSet.UPCALL: {
        UpcallVerdict.EMPTY_UPCALL: MIGRATE,
        UpcallVerdict.PASSED_OVER: MIGRATE,
        UpcallVerdict.VCPU_INFO_REGISTER: made("boot"),
        UpcallVerdict.CALLBACK_SET: made("boot", pvh=True),
        UpcallVerdict.UNKNOWN: made(
            "migrate", seed=1, chaos=True, form=TWO_LEVEL, capture=Capture.PROBES
        ),
    },
    VerdictSet.WORK: {WorkVerdict.NO_WORK: NETFRONT},
    VerdictSet.WORK_CAUSE: {
        WorkCause.WORK_STOLEN: NETFRONT,
        WorkCause.TAKEN_BY_LAST_RUN: NETFRONT,
        WorkCause.OVER_NOTIFY: made("storm"),
        WorkCause.SHARED_PORT_SPLIT: made("netfront", parameters=(("halves", 1),)),
        WorkCause.UNKNOWN: made("netfront", "lost-records"),
    },
    VerdictSet.DELAY: {
        EoiDelay.LATEEOI_DELAYED: made("storm"),
        EoiDelay.LOOP_DEFERRED: made(
            "storm", parameters=(("events", 3000), ("gap", 20), ("every", 1), ("serve", 40))
        ),
    },
    VerdictSet.FATE: {
        Fate.DELIVERED: PINGPONG,
        Fate.COALESCED: made("netfront"),
        Fate.DROP_UNBOUND: made("peer-close"),
        Fate.SEND_INVALID: made(one_domain(sends_on_a_closed_port)),
        Fate.DROP_NO_CONTROL_BLOCK: made(partial(lends_nothing, expands=True)),
        Fate.XEN_CONSUMER: made(sends_to_xen),
        Fate.CLOSED: made("peer-close", seed=1, chaos=True),
        Fate.HELD_MASKED: made("pingpong", "never-unmasks", 0.03),
        Fate.HELD_NO_WORD: made(partial(lends_nothing, expands=False)),
        Fate.NOT_ANNOUNCED: made(partial(small_scenario, kernel="zephyr"), form=TWO_LEVEL),
        Fate.LOST: made("pingpong", "lost-send"),
        Fate.PENDING_AT_END: made("pingpong", limit=0.001002),
        Fate.UNKNOWN: UNCAPTURED,
    },
    VerdictSet.FINDING: {
        FindingCode.NO_PENDING_AT_BIND: made("pingpong", "no-pending-at-bind"),
        FindingCode.LOST_SEND: made("pingpong", "lost-send"),
        FindingCode.LOST_EVENT: made(loses_a_virq),
        FindingCode.LOST_UPCALL: made(two_ports, "lost-upcall@0.002"),
        FindingCode.NOT_DELIVERED: made("pingpong", "lost-send@0.0005"),
        FindingCode.WRONG_PORT: made("pingpong", "wrong-port@0.0005"),
        FindingCode.SET_FOR_NOBODY: made(sets_for_nobody),
        FindingCode.PENDING_KEPT_OVER_CLOSE: made(closed_while_pending, "pending-kept-over-close"),
        FindingCode.UNMASK_WITHOUT_RERAISE: made("pingpong", "unmask-without-reraise"),
        FindingCode.NOT_CLEARED: made("pingpong", "forgets-to-clear@0.0003", 0.03),
        FindingCode.NEVER_UNMASKED: made("pingpong", "never-unmasks", 0.03),
        FindingCode.WRONG_VCPU: made("ipi", "no-vcpu-mask", 0.03, form=TWO_LEVEL),
        FindingCode.DOUBLE_HANDLE: made("pingpong", "double-handling@0.0003", 0.03),
        FindingCode.RECORDS_LOST: made("pingpong", "lost-records"),
        FindingCode.CLOCKS_DISAGREE: made("pingpong", "tsc-skew"),
    },
}
PRODUCED = {
    (which, member.name): recording
    for which, recordings in _MADE.items()
    for member, recording in recordings.items()
}


class Recorded(NamedTuple):
    """A recording: what a replay starts from."""

    trace: Trace
    rows: list[Any]

    def replay(self, without: RecordClass | None = None) -> Results:
        """Replay it, less the records of a class."""
        coverage, kinds = self.trace.coverage, KINDS.get(without, set()) if without else set()
        if without is not None:
            coverage = cast("CoverageMap", Without(coverage, without))
        rows = [row for row in self.rows if row.kind not in kinds]
        return Follow(self.trace.belief(), coverage).follow(rows)


class Without:
    """Coverage from which a class of records is missing."""

    def __init__(self, coverage: CoverageMap, cls: RecordClass) -> None:
        self._coverage, self._cls = coverage, cls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coverage, name)

    def missing(self, dom: int, classes: RecordClass, lo: int, hi: int) -> str | None:
        if self._cls in classes:
            return f"no {self._cls.name}"
        return self._coverage.missing(dom, classes, lo, hi)

    def covered(self, dom: int, classes: RecordClass, lo: int, hi: int) -> bool:
        return self.missing(dom, classes, lo, hi) is None

    def classes(self, dom: int | None = None) -> RecordClass:
        return self._coverage.classes(dom) & ~self._cls


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Make recordings, each once."""
    known: dict[Made, Recorded] = {}

    def get(wanted: Made) -> Recorded:
        if wanted not in known:
            path = tmp_path_factory.mktemp("verdicts") / "t.bin"
            lab, scenario = Lab(Settings(**dict(wanted.settings))), wanted.scenario
            inject(lab, [wanted.fault] if wanted.fault else [])
            played = find_scenario(scenario) if isinstance(scenario, str) else scenario
            played = partial(played, **dict(wanted.parameters))
            record(lab, played, path, source="test", limit=wanted.limit)
            trace = Trace(path)
            known[wanted] = Recorded(trace, list(trace.rows()))
        return known[wanted]

    yield get
    for one in known.values():
        one.trace.close()


def said(results: Results, which: VerdictSet) -> set[str]:
    """Give the names of a set that a replay has used."""
    members: dict[VerdictSet, list[Any]] = {
        VerdictSet.CAUSE: [run.cause for run in results.runs],
        VerdictSet.ROUTE: [
            *(route for run in results.runs for route in run.routes),
            *(route for send in results.sends for route in send.routes),
        ],
        VerdictSet.UPCALL: [empty.verdict for empty in results.empty],
        VerdictSet.WORK: [run.work for run in results.runs],
        VerdictSet.WORK_CAUSE: [run.work_cause for run in results.runs],
        VerdictSet.DELAY: [run.eoi_delay for run in results.runs],
        VerdictSet.FATE: [send.fate for send in results.sends],
        VerdictSet.FINDING: [found.code for found in results.findings],
    }
    return {member.name for member in members[which] if member is not None}


EVERY = [(which, name) for which in MEMBERS for name in MEMBERS[which].__members__]
REPLAYED = [member for member in EVERY if member[0] is not VerdictSet.DOCTOR]
NEEDED = [
    (page.belongs_to, page.name, RecordClass[need.upper()])
    for page in all_pages()
    if page.belongs_to is not VerdictSet.DOCTOR
    for need in page.needs
]


@pytest.mark.parametrize(("which", "name"), REPLAYED, ids=str)
def test_a_recording_produces_it(which, name, recorded):
    assert name in said(recorded(PRODUCED[which, name]).replay(), which)


@pytest.mark.parametrize(("which", "name", "need"), NEEDED, ids=str)
def test_it_is_withheld_without_what_it_needs(which, name, need, recorded):
    assert name not in said(recorded(PRODUCED[which, name]).replay(need), which)
