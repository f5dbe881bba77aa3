"""Steps of a picture of what happens: rows of the timeline in few words, each on its vCPU.

What only repeats another record is folded into it: the runstate that follows a wake or a block,
the hypercall's own record inside a call. An interval (a call, an upcall, a handler's run) is two
steps that know each other.
"""

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from evtrace.timeline import Kind, RecordClass, Row, Runstate
from evtrace.tracefile.coverage import CoverageMap
from evtrace.tracefile.lines import IDLE_DOMAIN
from evtrace.xen.abi import (
    DOMID_SELF,
    HYPERCALL_NAMES,
    Errno,
    EvtchnOp,
    HYPERVISOR_event_channel_op,
    HYPERVISOR_sched_op,
    Virq,
)
from evtrace.xen.ops import arg_names

Lane = tuple[int, int]
"""(domain, vCPU)."""

EVERYWHERE: Lane = (-1, -1)
"""Where no vCPU is known to have been affected alone: lost records."""

SHOWN_KINDS = frozenset(
    {
        *(Kind.HYPERCALL, Kind.RUNSTATE, Kind.WAKE, Kind.BLOCK, Kind.INJECT, Kind.LOST),
        *(Kind.CALL_ENTER, Kind.CALL_EXIT, Kind.VIRQ_RAISED, Kind.PIRQ_RAISED),
        *(Kind.UPCALL_ENTER, Kind.UPCALL_EXIT, Kind.HANDLER_ENTER, Kind.HANDLER_EXIT),
        *(Kind.IRQ_BOUND, Kind.IRQ_UNBOUND, Kind.MASK, Kind.UNMASK, Kind.CLEAR, Kind.SET),
        *(Kind.CONSUME, Kind.EOI),
    },
)
"""Kinds of rows that can become steps."""

_ON_PORT = {
    Kind.MASK: "mask {}",
    Kind.UNMASK: "unmask {}",
    Kind.CLEAR: "clear {}",
    Kind.SET: "set {}",
    Kind.CONSUME: "unlink {}",
    Kind.EOI: "eoi {}",
}
_FOLLOWS = {Kind.WAKE: Runstate.RUNNABLE, Kind.BLOCK: Runstate.BLOCKED}
_BLOCKS, _POLLS = 1, 3
"""SCHEDOP_block, SCHEDOP_poll"""


@dataclass(slots=True, eq=False)
class Step:
    """One thing that happens on a vCPU."""

    row: Row
    lane: Lane
    text: str
    port: int | None = None
    seqs: list[int] = field(default_factory=list)
    """The records it stands for."""
    ended: "Step | None" = None
    """Where an interval that it begins ends; None if it begins none, or one without an end."""
    began: "Step | None" = None
    """Where the interval that it ends began."""
    by: Lane | None = None
    """The vCPU that did it to this one."""

    @property
    def seq(self) -> int:
        """The record that it shows first of all."""
        return self.row.seq

    @property
    def tsc(self) -> int:
        """Give its host TSC; the middle where that is an interval."""
        return (self.row.tsc_lo + self.row.tsc_hi) // 2

    @property
    def lo(self) -> int:
        """Earliest host TSC at which it can have happened."""
        return self.row.tsc_lo

    @property
    def hi(self) -> int:
        """Latest host TSC at which it can have happened."""
        return self.row.tsc_hi


class StepTeller:
    """Turns rows into steps; ask for `steps` once all rows were taken."""

    def __init__(self, coverage: CoverageMap) -> None:
        """Tell hypercalls of a domain only where its event-channel calls were not captured."""
        self.steps: list[Step] = []
        self._coverage = coverage
        self._calls_known: dict[int, bool] = {}
        self._open: dict[Hashable, list[Step]] = {}
        self._running: dict[int, Lane] = {}
        """pCPU -> the vCPU that runs there."""
        self._last: dict[Lane, Step] = {}
        self._states: dict[Lane, list[tuple[int, int]]] = {}
        """What each vCPU did from which record on."""

    def state(self, lane: Lane, seq: int) -> Runstate | None:
        """Give the runstate of a vCPU after a record; None where no scheduler record tells."""
        changes = self._states.get(lane, [])
        at = bisect_right(changes, seq, key=lambda change: change[0]) - 1
        return Runstate(changes[at][1]) if at >= 0 and changes[at][1] in set(Runstate) else None

    def take(self, rows: Iterable[Row]) -> None:
        """Take rows in the timeline's order."""
        for row in rows:
            for step in self._told(row):
                step.seqs.append(row.seq)
                self.steps.append(step)
                self._last[step.lane] = step

    def keep(self, wanted: Callable[[Step], bool]) -> None:
        """Forget the steps that are not wanted, but for intervals that have not ended."""
        waiting = {id(step) for steps in self._open.values() for step in steps}
        self.steps = [step for step in self.steps if id(step) in waiting or wanted(step)]

    def _told(self, row: Row) -> Iterator[Step]:
        if row.kind == Kind.LOST:
            yield Step(row, EVERYWHERE, f"*** {row.a0} records of p{row.pcpu} lost ***")
        if row.dom is None or row.vcpu is None or row.kind == Kind.LOST:
            return
        lane = (row.dom, row.vcpu)
        match row.kind:
            case Kind.RUNSTATE:
                yield from self._runstate(row, lane)
            case Kind.WAKE:
                by = self._running.get(-1 if row.pcpu is None else row.pcpu)
                is_guest = by is not None and by != lane and by[0] != IDLE_DOMAIN
                told = f"woken by {name(by)}" if is_guest else "woken"
                yield Step(row, lane, told, by=by if is_guest else None)
            case Kind.BLOCK:
                yield Step(row, lane, "block")
            case Kind.HYPERCALL:
                yield from self._hypercall(row, lane)
            case Kind.CALL_ENTER | Kind.UPCALL_ENTER | Kind.HANDLER_ENTER:
                yield self._begin(row, lane)
            case Kind.CALL_EXIT | Kind.UPCALL_EXIT | Kind.HANDLER_EXIT:
                yield self._end(row, lane)
            case _:
                yield Step(row, lane, _point(row), row.port)

    # --- the scheduler -------------------------------------------------------------------------

    def _runstate(self, row: Row, lane: Lane) -> Iterator[Step]:
        old, new = divmod(row.op or 0, 16)
        if row.pcpu is not None and new == Runstate.RUNNING:
            self._running[row.pcpu] = lane
        if lane[0] == IDLE_DOMAIN or new not in set(Runstate):
            return
        self._states.setdefault(lane, [(0, old)]).append((row.seq, new))
        state = Runstate(new)
        before = self._last.get(lane)
        if before is not None and _FOLLOWS.get(Kind(before.row.kind)) is state:
            before.seqs.append(row.seq)  # the wake or the block itself has been told
        else:
            yield Step(row, lane, _change(old, state, row.pcpu))

    def _hypercall(self, row: Row, lane: Lane) -> Iterator[Step]:
        """Tell a hypercall, unless it is the record of a call that is told, or no event's."""
        is_event_op = row.op == HYPERVISOR_event_channel_op
        call = self._innermost_call(lane) if is_event_op else None
        if call is not None:
            call.seqs.append(row.seq)
        elif row.op == HYPERVISOR_sched_op and row.a0 == _POLLS:
            yield Step(row, lane, "poll")
        elif row.op == HYPERVISOR_sched_op and row.a0 == _BLOCKS:
            return  # its SCHED_BLOCK follows
        elif is_event_op or not self._tells_calls(lane[0]):
            known = None if row.op is None else HYPERCALL_NAMES.get(row.op, f"hypercall {row.op}")
            yield Step(row, lane, known or "a hypercall")

    def _tells_calls(self, dom: int) -> bool:
        if dom not in self._calls_known:
            self._calls_known[dom] = RecordClass.CALL in self._coverage.classes(dom)
        return self._calls_known[dom]

    def _innermost_call(self, lane: Lane) -> Step | None:
        calls = [step for steps in self._open.values() for step in steps if step.lane == lane]
        calls = [step for step in calls if step.row.kind == Kind.CALL_ENTER]
        return max(calls, key=lambda step: step.seq, default=None)

    # --- intervals -----------------------------------------------------------------------------

    def _begin(self, row: Row, lane: Lane) -> Step:
        match row.kind:
            case Kind.CALL_ENTER:
                step = Step(row, lane, call_text(row.op or 0, row.words), _port_of_call(row))
            case Kind.UPCALL_ENTER:
                step = Step(row, lane, "upcall")
                self._open.pop(_key(row), None)  # its exit leaves no record in many a capture
            case _:
                about = f"irq {row.irq}" if row.port is None else f"d{row.dom}:{row.port}"
                step = Step(row, lane, f"handler {about}", row.port)
        self._open.setdefault(_key(row), []).append(step)
        return step

    def _end(self, row: Row, lane: Lane) -> Step:
        step = Step(row, lane, "", row.port)
        waiting = self._open.get(_key(row))
        began = waiting.pop() if waiting else None
        if not waiting:
            self._open.pop(_key(row), None)
        if began is not None:
            began.ended, step.began, step.port = step, began, began.port
        if row.kind == Kind.CALL_EXIT:
            step.text = result_text(row.op or 0, row.rc, row.words)
        return step


def name(lane: Lane | None) -> str:
    """Name a vCPU: `d0v1`."""
    return "?" if lane is None else f"d{lane[0]}v{lane[1]}"


def call_text(op: int, words: tuple[int, ...]) -> str:
    """Say a call in Xen's words: `send 33`, `bind_interdomain(1:8)`, `bind_vcpu(33, v1)`."""
    if op not in set(EvtchnOp):
        return f"EVTCHNOP {op}"
    called = EvtchnOp(op)
    if len(words) < len(arg_names(called)):
        return f"{called.name.lower()}(?)"
    if called is EvtchnOp.BIND_VIRQ:
        return f"bind_virq({virq_name(words[0])}, v{words[1]})"
    domids = {f"d{place}": _domid(word) for place, word in enumerate(words)}
    template = _CALLS.get(called, called.name.lower())
    return template.format(*words, **domids)


_CALLS = {
    EvtchnOp.SEND: "send {0}",
    EvtchnOp.CLOSE: "close({0})",
    EvtchnOp.UNMASK: "unmask({0})",
    EvtchnOp.STATUS: "status({d0}:{1})",
    EvtchnOp.BIND_INTERDOMAIN: "bind_interdomain({d0}:{1})",
    EvtchnOp.ALLOC_UNBOUND: "alloc_unbound({d0}, for {d1})",
    EvtchnOp.BIND_IPI: "bind_ipi(v{0})",
    EvtchnOp.BIND_PIRQ: "bind_pirq({0})",
    EvtchnOp.BIND_VCPU: "bind_vcpu({0}, v{1})",
    EvtchnOp.SET_PRIORITY: "set_priority({0}, {1})",
    EvtchnOp.RESET: "reset({d0})",
    EvtchnOp.RESET_CONT: "reset_cont({d0})",
    EvtchnOp.INIT_CONTROL: "init_control(v{3})",
}
"""Domains among the arguments by `d` and their place; 64-bit arguments take two places."""


def result_text(op: int, rc: int | None, words: tuple[int, ...]) -> str:
    """Say what a call returned: `= 33`, `= -EINVAL`; empty for 0 without outputs."""
    if rc is None:
        return "= ?"
    if rc < 0:
        return f"= -{Errno(-rc).name}" if -rc in set(Errno) else f"= {rc}"
    gives_port = op in {
        *(EvtchnOp.BIND_INTERDOMAIN, EvtchnOp.BIND_VIRQ, EvtchnOp.BIND_PIRQ),
        *(EvtchnOp.BIND_IPI, EvtchnOp.ALLOC_UNBOUND, EvtchnOp.STATUS),
    }
    return f"= {words[0]}" if gives_port and words else ""


def virq_name(virq: int) -> str:
    """Name a virtual interrupt: `VIRQ_TIMER`."""
    return f"VIRQ_{Virq(virq).name}" if virq in set(Virq) else f"VIRQ {virq}"


def _domid(dom: int) -> str:
    return "self" if dom == DOMID_SELF else str(dom)


def _port_of_call(row: Row) -> int | None:
    """Give the port of the caller's that a call is about, where its arguments name it."""
    op = row.op or 0
    names = arg_names(EvtchnOp(op)) if op in set(EvtchnOp) else ()
    return row.a0 if names and names[0] == "port" else None


def _change(old: int, new: Runstate, pcpu: int | None) -> str:
    on = "" if pcpu is None else f" on p{pcpu}"
    match new:
        case Runstate.RUNNING:
            return f"runs{on}"
        case Runstate.RUNNABLE:
            return "preempted" if old == Runstate.RUNNING else "runnable"
        case Runstate.BLOCKED:
            return "blocked"
        case _:
            return "offline"


def _point(row: Row) -> str:
    kind, number = Kind(row.kind), row.a0 or 0
    match kind:
        case Kind.INJECT:
            return f"inject vector {number:#x}"
        case Kind.VIRQ_RAISED | Kind.PIRQ_RAISED:
            raised = virq_name(number) if kind is Kind.VIRQ_RAISED else f"PIRQ {number}"
            return f"Xen raises {raised}"
        case Kind.IRQ_BOUND | Kind.IRQ_UNBOUND:
            return f"irq {row.irq} " + (
                f"is port {row.port}" if kind is Kind.IRQ_BOUND else "freed"
            )
        case _:
            return _ON_PORT[kind].format(row.port) + (" (no work)" if _found_no_work(row) else "")


def _found_no_work(row: Row) -> bool:
    return row.kind == Kind.EOI and bool((row.a0 or 0) & 1)


def _key(row: Row) -> Hashable:
    """Tell what an interval's two rows have in common."""
    match row.kind:
        case Kind.CALL_ENTER | Kind.CALL_EXIT:
            number = row.call_id or 0
            return "call", row.dom, row.op, number, -1 if number else row.vcpu
        case Kind.UPCALL_ENTER | Kind.UPCALL_EXIT:
            return "upcall", row.dom, row.vcpu
        case _:
            return "handler", row.dom, row.vcpu, row.irq
