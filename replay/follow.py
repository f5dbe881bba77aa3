"""Follow: one pass over the timeline that re-executes it and collects the verdicts.

The observed steps of the guests are followed, never invented: what a guest did is read off the
trace, what Xen does about it comes from the model and is compared with what Xen answered.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from evtrace.replay import comparison
from evtrace.replay.belief import Belief
from evtrace.replay.calls import CHANGES_PORTS, Call, CallPairing
from evtrace.replay.order import explaining_order
from evtrace.replay.results import Results
from evtrace.replay.runs import Runs
from evtrace.replay.seeding import check, seed
from evtrace.replay.snapshots import SnapshotCollector
from evtrace.replay.tokens import Channel, Token, TokenBook
from evtrace.timeline import Kind, Row
from evtrace.tracefile.coverage import CoverageMap
from evtrace.verdicts import Cause, Contribution, ContributionKind, Divergence, Fate, Send
from evtrace.xen.abi import EvtchnOp, PortState
from evtrace.xen.machine import Answer

AROUND = 4
"""Records shown on each side of a divergence."""

FOLLOWED_KINDS = [
    int(kind)
    for kind in Kind
    if kind >= Kind.CALL_ENTER or kind in {Kind.HYPERCALL, Kind.IRQ_HANDLED}
]
"""Kinds of rows that the replay needs; of HYPERCALL only those of event_channel_op."""


@dataclass(frozen=True, slots=True)
class Raised:
    """Who is behind the events that a step of the model sets pending."""

    kind: ContributionKind
    dom: int
    vcpu: int
    port: int
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

    def contribution(self, *, masked: bool) -> Contribution:
        """Give the token's entry for an event set pending by this step."""
        where = (self.dom, self.vcpu, self.port)
        return Contribution(self.kind, self.seq, self.tsc, self.tsc_hi, *where, masked)


class Follow:
    """The replay of one trace."""

    def __init__(self, belief: Belief, coverage: CoverageMap) -> None:
        """Start from what `belief` holds; verdicts are withheld where `coverage` has gaps."""
        self.results = Results()
        self._belief = belief
        self._tokens = TokenBook()
        self._runs = Runs(belief, coverage, self._tokens, self.results)
        self._snapshots = SnapshotCollector()
        self._pairing = CallPairing(())
        self._before: deque[Row | Call] = deque(maxlen=AROUND)
        self._wanting: list[tuple[list[str], int]] = []  # `around` lists that want records after
        self._steps = {
            Kind.HYPERCALL: self._uncovered,
            Kind.CALL_EXIT: self._returned,
            Kind.IRQ_HANDLED: self._irq_handled,
            Kind.DOMAIN_CREATED: self._domain_created,
            Kind.DOMAIN_DESTROYED: self._domain_destroyed,
            Kind.VIRQ_RAISED: self._virq_raised,
            Kind.PIRQ_RAISED: self._pirq_raised,
            Kind.UPCALL_ENTER: self._runs.upcall_enter,
            Kind.UPCALL_EXIT: self._runs.upcall_exit,
            Kind.HANDLER_ENTER: self._handler_enter,
            Kind.HANDLER_EXIT: self._runs.handler_exit,
            Kind.IRQ_UNBOUND: self._runs.irq_unbound,
            Kind.IRQ_BOUND: self._runs.irq_bound,
            Kind.MASK: self._mask,
            Kind.UNMASK: self._unmask,
            Kind.CLEAR: self._runs.clear,
            Kind.SET: self._set,
            Kind.CONSUME: self._consume,
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
        self._pairing = CallPairing(rows)
        for item in self._pairing:
            self._belief.begin(item.lo if isinstance(item, Call) else item.tsc_lo)
            if isinstance(item, Call):
                self._settle_snapshots()
                if not item.done:
                    self._call(item)
            elif not self._snapshots.take(item):
                self._settle_snapshots()
                step = self._steps.get(Kind(item.kind))
                if step is not None:
                    step(item)
            self._passed(item)
        self._settle_snapshots()
        self._runs.settle()
        return self.results

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
        adopted = self._belief.prepare(call)
        answer = self._belief.execute(call)
        reached = self._contribute(self._raised_by(call, send))
        if send is not None and not reached:
            self._settle_unreached(send, answer)
        self._compare(call, answer, adopted)
        self._after(call, answer)

    def _doubt(self, call: Call) -> None:
        """Take note of a call that may or may not have changed port tables."""
        if call.op in CHANGES_PORTS:
            self._belief.doubt(call.touches())

    def _compare(self, call: Call, answer: Answer, adopted: str) -> None:
        if call.rc is None:
            self.results.unknown += 1
            self._doubt(call)
        elif adopted:
            self.results.adopted += 1
            self.results.adoptions[adopted] = self.results.adoptions.get(adopted, 0) + 1
        else:
            self.results.compared += 1
            if not comparison.matches(call, answer):
                self._diverge(
                    call,
                    comparison.describe_call(call),
                    comparison.describe_answer(call.op, answer.ret, answer.out),
                    comparison.describe_answer(call.op, call.rc, call.outputs),
                )
                self._belief.follow_observed(call, answer)

    def _after(self, call: Call, answer: Answer) -> None:
        """Keep the books that hang on ports: a closed one forgets, a new one has a new owner."""
        args = call.args or ()
        if answer.ret < 0:
            return
        match call.op:
            case EvtchnOp.CLOSE:
                self._runs.closed((call.dom, args[0]))
            case EvtchnOp.UNMASK:
                self._note_queue((call.dom, args[0]))
            case EvtchnOp.RESET | EvtchnOp.RESET_CONT:
                self._runs.closed_all(self._belief.target(call))
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
        if target is not None:
            send.to_dom, send.to_port = target
        self.results.sends.append(send)
        return send

    def _settle_unreached(self, send: Send, answer: Answer) -> None:
        """Settle a send that reached no port of a guest."""
        channel = (send.dom, send.port)
        state = self._belief.state(channel)
        if self._belief.is_assumed(channel):
            send.reason = f"where d{send.dom}:{send.port} leads is not known"
        elif answer.ret < 0:
            send.fate = Fate.SEND_INVALID
        elif state is PortState.UNBOUND:
            send.fate, send.reason = Fate.DROP_UNBOUND, "nobody is bound to the other end"
        else:
            send.fate = Fate.XEN_CONSUMER

    def _raised_by(self, call: Call, send: Send | None) -> Raised | None:
        """Say what kind of contribution the call's events are; None if they are no new ones."""
        port = (call.args or (0,))[0]
        if send is not None:
            own = (send.to_dom, send.to_port) == (call.dom, port)
            kind = ContributionKind.IPI if own else ContributionKind.SEND
            return Raised.by_call(kind, call, port, send)
        if call.op == EvtchnOp.BIND_INTERDOMAIN:
            return Raised.by_call(ContributionKind.BIND, call, port=0)
        if call.op == EvtchnOp.UNMASK:
            self._resend((call.dom, port))
        return None

    def _contribute(self, raised: Raised | None) -> bool:
        """Book what the model's last step set pending; tell whether there was anything."""
        events = self._belief.events()
        for event in events:
            channel = (event.dom, event.port)
            if raised is not None:
                part = raised.contribution(masked=event.masked)
                self._runs.contribute(channel, part, raised.send)
            self._note_queue(channel)
        return bool(events)

    def _note_queue(self, channel: Channel) -> None:
        """Remember on which FIFO queue a pending event was first linked."""
        token = self._tokens.open_token(channel)
        if token is not None and token.queue is None:
            token.queue = self._belief.queue(channel)

    def _resend(self, channel: Channel) -> None:
        """Note that an unmask lets through what was set while the port was masked."""
        token = self._tokens.open_token(channel)
        if token is not None and any(part.masked for part in token.contributions):
            token.resent = True

    # --- what the guests and Xen do outside calls -------------------------------------------

    def _uncovered(self, row: Row) -> None:
        """Count a hypercall whose arguments nothing captured."""
        self.results.hypercalls += 1
        self.results.uncovered += 1
        self.results.uncovered_by_vcpu[row.dom, row.vcpu] += 1

    def _returned(self, row: Row) -> None:
        """Count a call whose entry, and so its arguments, were not seen."""
        self.results.hypercalls += 1
        self.results.unknown += 1
        if row.op in CHANGES_PORTS:
            self._belief.doubt({row.dom or 0})

    def _handler_enter(self, row: Row) -> None:
        run = self._runs.handler_enter(row)
        if run.cause is Cause.UNPROVOKED:
            self._diverge(
                row,
                f"handler of d{run.dom}:{run.port} runs",
                f"d{run.dom}:{run.port} not pending",
                "a run",
            )

    def _mask(self, row: Row) -> None:
        if row.port is not None:
            self._belief.mask((row.dom or 0, row.port))

    def _unmask(self, row: Row) -> None:
        if row.port is not None:
            channel = (row.dom or 0, row.port)
            self._resend(channel)
            self._belief.unmask(channel, row.vcpu or 0)

    def _set(self, row: Row) -> None:
        if row.port is not None:
            dom, vcpu = row.dom or 0, row.vcpu or 0
            self._belief.set_pending((dom, row.port))
            raised = Raised.by_row(ContributionKind.GUEST_SET, row, vcpu, (dom, row.port))
            self._runs.contribute((dom, row.port), raised.contribution(masked=False), None)

    def _consume(self, row: Row) -> None:
        if row.port is not None:
            self._belief.consume((row.dom or 0, row.port))

    def _irq_handled(self, row: Row) -> None:
        """Take the record of an interrupt, which Xen writes when it is done with it."""
        channel = self._belief.host_irqs.get(row.irq or 0)
        if channel is not None and self._belief.state(channel) is PortState.PIRQ:
            self._belief.raise_pirq(channel)
            began = row.tsc_lo - ((row.tsc_lo - (row.a0 or row.tsc_lo)) & 0xFFFFFFFF)
            self._interrupt(row._replace(tsc_lo=began), channel)

    def _pirq_raised(self, row: Row) -> None:
        channel = self._belief.pirq_port(row.dom or 0, row.a0 or 0)
        if channel is not None:
            self._belief.raise_pirq(channel)
            self._interrupt(row, channel)

    def _virq_raised(self, row: Row) -> None:
        self._belief.raise_virq(row.dom or 0, row.vcpu or 0, row.a0 or 0)
        for event in self._belief.events():
            channel = (event.dom, event.port)
            raised = Raised.by_row(ContributionKind.VIRQ, row, event.vcpu, channel)
            self._runs.contribute(channel, raised.contribution(masked=event.masked), None)

    def _interrupt(self, row: Row, channel: Channel) -> None:
        events = {(event.dom, event.port): event.masked for event in self._belief.events()}
        raised = Raised.by_row(ContributionKind.PIRQ, row, row.vcpu or 0, channel)
        part = raised.contribution(masked=events.get(channel, False))
        if not self._runs.explain_late(channel, part):
            self._runs.contribute(channel, part, None)

    def _domain_created(self, row: Row) -> None:
        self._belief.create_domain(row.dom or 0, row.a0 or 1)

    def _domain_destroyed(self, row: Row) -> None:
        self._belief.destroy_domain(row.dom or 0)
        self._runs.closed_all(row.dom or 0)

    # --- snapshots and divergences ---------------------------------------------------------

    def _settle_snapshots(self) -> None:
        """Learn from snapshots the domains that are not known, and check those that are."""
        for domains in self._snapshots.finished():
            new = [seen for seen in domains if not self._belief.knows(seen.dom)]
            known = [seen for seen in domains if self._belief.knows(seen.dom)]
            self.results.snapshot_checks += [check(self._belief, seen) for seen in known]
            seed(self._belief, new)
            for seen in new:
                self._runs.pending_before(seen)

    def _diverge(self, item: Row | Call, what: str, expected: str, found: str) -> None:
        row = item.enter if isinstance(item, Call) else item
        around = [comparison.describe_item(other) for other in self._before]
        self.results.divergences.append(
            Divergence(
                row.seq,
                row.tsc_lo,
                row.file_offset,
                row.dom or 0,
                row.vcpu or 0,
                what,
                expected,
                found,
                around,
            ),
        )
        self._wanting.append((around, AROUND + 1))  # itself, then those after it

    def _passed(self, item: Row | Call) -> None:
        """Remember an item for the surroundings of divergences before and after it."""
        self._before.append(item)
        if self._wanting:
            for around, _ in self._wanting:
                around.append(comparison.describe_item(item))
            self._wanting = [(around, left - 1) for around, left in self._wanting if left > 1]
