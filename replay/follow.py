"""Follow: one pass over the timeline that re-executes it and collects the verdicts.

The observed steps of the guests are followed, never invented: what a guest did is read off the
trace, what Xen does about it comes from the model and is compared with what Xen answered.
"""

from collections.abc import Iterable

from evtrace.replay import adoption, comparison
from evtrace.replay.belief import ALLOCATING, Belief
from evtrace.replay.calls import CHANGES_PORTS, Call, CallPairing
from evtrace.replay.clocks import Clocks
from evtrace.replay.delivery import IDLE_DOMAIN, Delivery, Step
from evtrace.replay.divergences import Divergences
from evtrace.replay.events import Events, Raised
from evtrace.replay.findings import Findings
from evtrace.replay.order import explaining_order
from evtrace.replay.outside import Outside
from evtrace.replay.results import Results
from evtrace.replay.runs import Runs
from evtrace.replay.seeding import check, seed
from evtrace.replay.snapshots import SnapshotCollector
from evtrace.replay.suspicions import Suspicions
from evtrace.replay.tokens import Channel, Token, TokenBook
from evtrace.timeline import Kind, RecordClass, Row
from evtrace.tracefile.coverage import CoverageMap
from evtrace.verdicts import (
    Cause,
    ContributionKind,
    Fate,
    FindingCode,
    Move,
    Send,
)
from evtrace.xen.abi import (
    EvtchnOp,
    HYPERVISOR_hvm_op,
    HYPERVISOR_sched_op,
    HYPERVISOR_vcpu_op,
    PortState,
)
from evtrace.xen.machine import Answer

FOLLOWED_KINDS = [
    int(kind)
    for kind in Kind
    if kind >= Kind.CALL_ENTER or kind in {Kind.HYPERCALL, Kind.IRQ_HANDLED, Kind.LOST}
]
"""Kinds of rows that every replay needs; of HYPERCALL only event_channel_op and the others."""

OTHER_HYPERCALLS = frozenset({HYPERVISOR_sched_op, HYPERVISOR_vcpu_op, HYPERVISOR_hvm_op})
"""Hypercalls that may poll for events, or make an upcall without one."""

SCHEDULER_KINDS = [int(Kind.RUNSTATE), int(Kind.WAKE)]
"""Kinds that show whether Xen wakes whom it must; wanted where every step of a guest is known."""


WITHHELD = "what rests on the order of their records is withheld"


class Follow:
    """The replay of one trace."""

    def __init__(self, belief: Belief, coverage: CoverageMap) -> None:
        """Start from what `belief` holds; verdicts are withheld where `coverage` has gaps."""
        self.results = Results()
        self._belief = belief
        self._coverage = coverage
        self._tokens = TokenBook()
        self._findings = Findings(coverage)
        self._delivery = Delivery(belief, coverage, self._tokens, self._findings)
        self._suspicions = Suspicions(belief)
        self._clocks = Clocks(coverage, self._suspicions)
        self._runs = Runs(
            belief, coverage, self._tokens, self.results, self._delivery, self._findings
        )
        self._snapshots = SnapshotCollector()
        self._pairing = CallPairing(())
        self._divergences = Divergences(self.results.divergences)
        self._events = Events(belief, self._tokens, self._runs, self._delivery)
        outside = Outside(belief, self._runs, self._delivery, self._events)
        self._steps = {
            Kind.HYPERCALL: self._uncovered,
            Kind.CALL_EXIT: self._returned,
            Kind.IRQ_HANDLED: outside.irq_handled,
            Kind.DOMAIN_CREATED: self._domain_created,
            Kind.DOMAIN_DESTROYED: self._domain_destroyed,
            Kind.VIRQ_RAISED: outside.virq_raised,
            Kind.PIRQ_RAISED: outside.pirq_raised,
            Kind.UPCALL_ENTER: self._runs.upcall_enter,
            Kind.UPCALL_EXIT: self._runs.upcall_exit,
            Kind.HANDLER_ENTER: self._handler_enter,
            Kind.HANDLER_EXIT: self._runs.handler_exit,
            Kind.IRQ_UNBOUND: self._runs.irq_unbound,
            Kind.IRQ_BOUND: self._runs.irq_bound,
            Kind.MASK: outside.mask,
            Kind.UNMASK: outside.unmask,
            Kind.CLEAR: self._runs.clear,
            Kind.SET: outside.set_pending,
            Kind.CONSUME: outside.consume,
            Kind.EOI: self._runs.eoi,
        }

    @property
    def belief(self) -> Belief:
        """The state after what was replayed so far."""
        return self._belief

    def pending_token(self, channel: Channel) -> Token | None:
        """Give what set the port pending since it was last consumed; None if nothing did."""
        return self._tokens.open_token(channel)

    def follow(self, rows: Iterable[Row]) -> Results:
        """Replay `rows`, which are in timeline order, and give the verdicts."""
        at_gaps = self._coverage.gaps_reach_guests
        self._pairing = CallPairing(rows, ends_at_gaps=at_gaps)
        for item in self._pairing:
            self._delivery.pass_by(item)
            self._runs.pass_by(item.lo if isinstance(item, Call) else item.tsc_lo)
            if not isinstance(item, Call) and self._takes_host_row(item):
                continue
            self._belief.begin(item.lo if isinstance(item, Call) else item.tsc_lo)
            if isinstance(item, Call):
                self._clocks.happens(item.enter, RecordClass.CALL)
                self._settle_snapshots()
                if not item.done:
                    self._call(item)
                self._suspicions.passed(item)
            elif not self._snapshots.take(item):
                self._settle_snapshots()
                step = self._steps.get(Kind(item.kind))
                if step is not None:
                    step(item)
            self._divergences.passed(item)
        self._settle_snapshots()
        self._delivery.settle()
        self._runs.settle()
        self._conclude()
        return self.results

    def _takes_host_row(self, row: Row) -> bool:
        """Take a row that tells of the host alone."""
        if row.kind in SCHEDULER_KINDS:
            if row.dom != IDLE_DOMAIN:
                self._clocks.scheduled(row)
                self._delivery.scheduled(row)
                self._runs.pollers.scheduled(row)
            return True
        if row.kind == Kind.LOST:
            self._records_lost(row)
            return True
        if row.kind == Kind.TEXT:
            self._runs.text(row)
        if row.kind == Kind.HYPERCALL and row.op in OTHER_HYPERCALLS:
            if row.op == HYPERVISOR_sched_op:
                self._delivery.polls(row)
                self._runs.pollers.polls(row)
            else:
                self._runs.upcalls.hypercall(row)
            return True
        return False

    def _records_lost(self, row: Row) -> None:
        """Start anew where records of guests may be among those that were dropped."""
        if not self._coverage.gaps_reach_guests:
            return
        self._findings.lose_sight(row)
        self._belief.doubt(set(self._belief.machine.domains))
        self._runs.records_lost()
        self._delivery.forget_all()
        self._clocks.forget()

    def _conclude(self) -> None:
        self._clocks.conclude(self._findings.sent_astray)
        broken = self._clocks.broken
        if broken is not None:
            why = f"the records of d{broken.dom}v{broken.vcpu} make sense in another order only"
            self._findings.blame_capture(FindingCode.CLOCKS_DISAGREE, broken, f"{why}: {WITHHELD}")
            self.results.withhold(f"the TSCs of the pCPUs disagree at {broken.tsc_lo}")
        withhold = broken is not None
        self.results.findings = self._findings.finish(self.results.runs, withhold=withhold)

    # --- calls -----------------------------------------------------------------------------

    def _call(self, call: Call) -> None:
        rivals = self._pairing.rivals(call)
        for earlier in explaining_order(self._belief, call, rivals) if rivals else []:
            earlier.done = True
            self._execute(earlier)
        self._execute(call)

    def _execute(self, call: Call) -> None:
        self.results.hypercalls += 1
        self.results.with_record += call.record is not None
        if call.args is None:
            self.results.unknown += 1
            self._doubt(call)
            return
        send = self._sent(call) if call.op == EvtchnOp.SEND else None
        adopted = adoption.prepare(self._belief, call) or self._coverage.gap(call.dom, 0, call.hi)
        adopted = adopted or self._explain_port(call)
        if call.op == EvtchnOp.CLOSE:
            self._suspicions.closes(call)
        answer = self._belief.execute(call)
        reached = self._events.contribute(self._raised_by(call, send), Step(call.lo, call.hi))
        if send is not None and not reached:
            self._settle_unreached(send, answer)
        self._compare(call, answer, adopted)
        self._after(call, answer)

    def _explain_port(self, call: Call) -> str:
        """Say why the port that a call opens cannot be predicted where no queue was observed."""
        if call.op not in ALLOCATING:
            return ""
        if not self._coverage.missing(call.dom, RecordClass.QUEUE, call.lo, call.hi):
            return ""
        return adoption.explain_port(self._belief, call)

    def _doubt(self, call: Call) -> None:
        """Take note of a call that may or may not have changed port tables."""
        if call.op in CHANGES_PORTS:
            self._belief.doubt(call.touches())

    def _compare(self, call: Call, answer: Answer, adopted: str) -> None:
        if call.rc is None:
            self.results.unknown += 1
            self._doubt(call)
        elif adopted:
            self._adopt(adopted)
        elif comparison.matches(call, answer):
            self.results.compared += 1
        else:
            self._differs(call, answer)

    def _adopt(self, reason: str) -> None:
        """Count an answer that could not be predicted."""
        self.results.adopted += 1
        self.results.adoptions[reason] = self.results.adoptions.get(reason, 0) + 1

    def _differs(self, call: Call, answer: Answer) -> None:
        """Take an answer that is not the model's: a divergence, unless the model may be wrong."""
        unsure = self._unsure(call)
        if unsure:
            self._adopt(unsure)
        else:
            self.results.compared += 1
            self._divergences.add(
                call,
                comparison.describe_call(call),
                comparison.describe_answer(call.op, answer.ret, answer.out),
                comparison.describe_answer(call.op, call.rc, call.outputs),
            )
            self._suspicions.answer(call, answer)
        adoption.follow_observed(self._belief, call, answer)

    def _unsure(self, call: Call) -> str:
        """Say why the model's answer may be wrong: what it rests on was not captured."""
        if self._coverage.loss:
            return self._coverage.loss
        every_step = RecordClass.RAISE in self._coverage.classes()
        if every_step and call.op in ALLOCATING and self._belief.is_fifo(call.dom):
            for dom in sorted(self._uncaptured(set(self._belief.machine.domains))):
                return f"a port may be linked: calls of d{dom} were not captured"
        return ""

    def _uncaptured(self, doms: set[int]) -> set[int]:
        """Name the domains whose calls were not captured, where those of others were."""
        if RecordClass.CALL not in self._coverage.classes():
            return set()
        return {dom for dom in doms if RecordClass.CALL not in self._coverage.classes(dom)}

    def _after(self, call: Call, answer: Answer) -> None:
        """Keep the books that hang on ports: a closed one forgets, a new one has a new owner."""
        args = call.args or ()
        if answer.ret < 0:
            return
        match call.op:
            case EvtchnOp.CLOSE:
                self._belief.closed.add((call.dom, args[0]))
                self._runs.closes((call.dom, args[0]), call.enter.seq, call.lo)
            case EvtchnOp.UNMASK:
                self._events.note_queue((call.dom, args[0]))
                step = Step(call.lo, call.hi)
                self._delivery.raised((call.dom, args[0]), step, by_unmask=True)
                self._runs.unmask_announces((call.dom, args[0]))
            case EvtchnOp.BIND_VCPU:
                self._runs.moved((call.dom, args[0]), call.hi)
                self.results.moves.append(Move(call.enter.seq, call.lo, call.dom, *args[:2]))
            case EvtchnOp.RESET | EvtchnOp.RESET_CONT:
                self._runs.closed_all(self._belief.target(call), "EVTCHNOP_reset closed it")
            case _:
                for channel in self._belief.allocated(call, answer):
                    self._runs.bound(channel, call.lo)

    def _sent(self, call: Call) -> Send:
        """Open the account of an EVTCHNOP_send, before the model executes it."""
        port = (call.args or (0,))[0]
        send = Send(
            call.enter.seq, call.dom, call.vcpu, port, None, None, call.lo, call.hi, call.rc
        )
        target = self._belief.target_of_send((call.dom, port))
        gap = self._coverage.gap(call.dom, self._runs.bound_since((call.dom, port)), call.lo)
        if gap:
            send.reason = f"what d{call.dom}:{port} is bound to is not known: {gap}"
        elif target is not None:
            send.to_dom, send.to_port = target
        send.entered_tsc = call.enter.tsc_lo
        self.results.sends.append(send)
        return send

    def _settle_unreached(self, send: Send, answer: Answer) -> None:
        """Settle a send that reached no port of a guest."""
        channel = (send.dom, send.port)
        state = self._belief.state(channel)
        gap = self._coverage.gap(send.dom, 0, send.tsc_hi) or self._coverage.loss
        if gap and (send.rc is None or send.rc >= 0):
            send.reason = gap
        elif self._belief.is_assumed(channel):
            send.reason = f"where d{send.dom}:{send.port} leads is not known"
        elif answer.ret < 0:
            refused = send.rc is None or send.rc < 0
            send.fate = Fate.SEND_INVALID if refused else Fate.UNKNOWN
        elif state is PortState.UNBOUND:
            send.fate, send.reason = Fate.DROP_UNBOUND, "nobody is bound to the other end"
        elif self._belief.is_xens(self._belief.peer(channel)):
            send.fate = Fate.XEN_CONSUMER
        else:
            send.reason = "what the other end is bound to is not known"

    def _raised_by(self, call: Call, send: Send | None) -> Raised | None:
        """Say what kind of contribution the call's events are; None if they are no new ones."""
        port = (call.args or (0,))[0]
        if send is not None and send.to_port is None:
            return None
        if send is not None:
            own = (send.to_dom, send.to_port) == (call.dom, port)
            kind = ContributionKind.IPI if own else ContributionKind.SEND
            return Raised.by_call(kind, call, port, send)
        if call.op == EvtchnOp.BIND_INTERDOMAIN:
            return Raised.by_call(ContributionKind.BIND, call, port=0)
        if call.op == EvtchnOp.UNMASK:
            self._events.resend((call.dom, port))
        return None

    # --- other rows --------------------------------------------------------------------------

    def _uncovered(self, row: Row) -> None:
        """Count a hypercall whose arguments nothing captured."""
        self.results.hypercalls += 1
        self.results.uncovered += 1
        self.results.uncovered_by_vcpu[row.dom, row.vcpu] += 1
        if row.dom is None:
            return
        self._runs.pass_uncovered(row.dom, row.tsc_hi)
        if self._coverage.missing(row.dom, RecordClass.CALL, row.tsc_lo, row.tsc_hi):
            self._belief.doubt({row.dom})

    def _returned(self, row: Row) -> None:
        """Count a call whose entry, and so its arguments, were not seen."""
        self.results.hypercalls += 1
        self.results.unknown += 1
        if row.op in CHANGES_PORTS:
            self._belief.doubt({row.dom or 0})

    def _handler_enter(self, row: Row) -> None:
        self._clocks.happens(row, RecordClass.HANDLER)
        run = self._runs.handler_enter(row)
        if run.cause is Cause.UNPROVOKED and not run.excused:
            self._divergences.add(
                row,
                f"handler of d{run.dom}:{run.port} runs",
                f"d{run.dom}:{run.port} not pending",
                "a run",
            )
            waiting = self._tokens.open_token((run.dom, row.port or 0))
            self._suspicions.run(row, run, self._runs.previous, waiting)

    def _domain_created(self, row: Row) -> None:
        self._belief.create_domain(row.dom or 0, row.a0 or 1)
        self._runs.upcalls.created(row.dom or 0)
        self._doubt_uncaptured({row.dom or 0})

    def _domain_destroyed(self, row: Row) -> None:
        self._belief.destroy_domain(row.dom or 0)
        self._runs.destroyed(row.dom or 0)

    # --- snapshots -----------------------------------------------------------------------------

    def _settle_snapshots(self) -> None:
        """Learn from snapshots the domains that are not known, and check those that are."""
        for domains in self._snapshots.finished():
            new = [seen for seen in domains if not self._belief.knows(seen.dom)]
            known = [seen for seen in domains if self._belief.knows(seen.dom)]
            self.results.snapshot_checks += [check(self._belief, seen) for seen in known]
            seed(self._belief, new)
            self._doubt_uncaptured({seen.dom for seen in new})
            for seen in new:
                self._runs.pending_before(seen)

    def _doubt_uncaptured(self, doms: set[int]) -> None:
        """Take port tables for known only where the calls that change them were captured."""
        self._belief.doubt(self._uncaptured(doms))
