"""Runs: handler runs and upcalls as they happen, each run explained by the token it consumed."""

from evtrace.replay.belief import Belief
from evtrace.replay.causes import Circumstances, Verdict, decide, routes
from evtrace.replay.delivery import Delivery
from evtrace.replay.fates import Fates
from evtrace.replay.findings import Findings
from evtrace.replay.habits import Habits
from evtrace.replay.pollers import Pollers
from evtrace.replay.results import Results
from evtrace.replay.snapshots import SeenDomain
from evtrace.replay.tokens import Channel, Consumption, Token, TokenBook
from evtrace.replay.upcalls import Upcalls
from evtrace.replay.work import Work
from evtrace.timeline import RecordClass, Row
from evtrace.tracefile.coverage import CoverageMap
from evtrace.verdicts import (
    UNPROVOKED_CAUSES,
    Cause,
    Contribution,
    ContributionKind,
    Run,
    Send,
)
from evtrace.xen.abi import PortState


class Runs:
    """Keeps the books of tokens, upcalls and handlers of every domain."""

    def __init__(
        self,
        belief: Belief,
        coverage: CoverageMap,
        tokens: TokenBook,
        results: Results,
        delivery: Delivery,
        findings: Findings,
    ) -> None:
        """Write verdicts into `results`; withhold them where `coverage` has gaps."""
        self._belief = belief
        self._coverage = coverage
        self._tokens = tokens
        self._results = results
        self._delivery = delivery
        self._findings = findings
        self._moved: dict[Channel, int] = {}
        self._left_over: dict[Channel, tuple[int, int]] = {}  # pending when closed: (seq, tsc)
        self._habits = Habits(findings)
        self._consumed: dict[Channel, Consumption] = {}
        self._exits: dict[tuple[int, int], int] = {}  # (dom, vcpu) -> end of its last handler
        self._running: dict[tuple[int, int, int], Run] = {}  # (dom, vcpu, irq) -> run
        self._freed: dict[Channel, tuple[int, int]] = {}  # irq being freed: (vcpu, since)
        self._bound: dict[Channel, int] = {}
        self._last_run: dict[Channel, Run] = {}
        self._work = Work(coverage)
        self.pollers = Pollers(coverage)
        self.upcalls = Upcalls(belief, coverage, results, self._last_run.get)
        self._fates = Fates(belief, coverage, tokens, self._habits, self.upcalls.__contains__)
        self._uncovered: dict[int, int] = {}  # dom -> last hypercall of which nothing is known
        self.previous: Run | None = None
        """The run of the same port before the one that started last."""

    def pass_by(self, tsc: int) -> None:
        """Note how far the trace was replayed."""
        self._fates.now = tsc

    def pass_uncovered(self, dom: int, tsc: int) -> None:
        """Note a hypercall of a domain that may have been any."""
        self._uncovered[dom] = tsc

    # --- tokens ----------------------------------------------------------------------------

    def contribute(self, channel: Channel, part: Contribution, send: Send | None) -> None:
        """Add what set the port's bit pending to its token."""
        self._tokens.add(channel, part, send)
        if send is not None:
            self._fates.sent(send, channel)
            self._work.sends((send.dom, send.port), send.tsc)

    def explain_late(self, channel: Channel, part: Contribution) -> bool:
        """Give an interrupt's record, written after the fact, to the run that it already caused."""
        run = self._last_run.get(channel)
        if run is None or run.contributors or run.cause is not Cause.PIRQ:
            return False
        if self._tokens.last_consumed(channel) is None or run.tsc < part.tsc:
            return False
        run.contributors.append(part)
        run.evidence, run.reason = "observed", "Xen handled the interrupt"
        return True

    def pending_before(self, seen: SeenDomain) -> None:
        """Note the ports that a snapshot showed pending when the capture began."""
        for port in (channel.port for channel in seen.channels if channel.pending):
            kind = ContributionKind.BEFORE
            part = Contribution(kind, seen.seq, seen.tsc, seen.tsc, seen.dom, 0, port)
            self._tokens.add((seen.dom, port), part, None)

    def bound_since(self, channel: Channel) -> int:
        """Give the time since which it is known what a port is bound to."""
        return max(self._bound.get(channel, 0), self._belief.known_since(channel[0]))

    def bound(self, channel: Channel, tsc: int) -> None:
        """Note that a port has a new owner since `tsc`."""
        self._bound[channel] = tsc

    def announced(self, channel: Channel, vcpu: int) -> None:
        """Note that a vCPU's next upcall has to find the port's event."""
        self.upcalls.announce((channel[0], vcpu), channel)
        token = self._tokens.open_token(channel)
        if token is not None:
            token.announced = True

    def unmask_announces(self, channel: Channel) -> None:
        """Note that an unmask announces the event that waited, if one did."""
        vcpu = self._belief.due_on(channel)
        if vcpu is not None:
            self.announced(channel, vcpu)

    def silenced(self, channel: Channel) -> None:
        """Note that a port was masked, or taken off its queue: its event is no longer announced."""
        token = self._tokens.open_token(channel)
        if token is not None:
            token.announced = False

    def closes(self, channel: Channel, seq: int, tsc: int) -> None:
        """Forget a port that its owner closed; remember if an event was pending."""
        token = self._tokens.open_token(channel)
        self.closed(channel)
        if token is not None and token.parts:
            self._left_over[channel] = seq, tsc

    def closed(self, channel: Channel, why: str = "") -> None:
        """Forget a port that is closed."""
        self._delivery.forget(channel)
        self._habits.forget(channel)
        self._work.forget(channel)
        self._left_over.pop(channel, None)
        self._moved.pop(channel, None)
        self._fates.closed(channel, self._consumed.get(channel), why)
        for book in (self._consumed, self._freed, self._bound, self._last_run):
            book.pop(channel, None)

    def closed_all(self, dom: int, why: str) -> None:
        """Forget every port of a domain, and say why its sends are no longer answered."""
        books = (self._consumed, self._freed, self._bound, self._last_run)
        channels = {channel for channel, _ in self._tokens.remaining()}.union(*books)
        for channel in channels:
            if channel[0] == dom:
                self.closed(channel, why)

    def destroyed(self, dom: int) -> None:
        """Forget a domain, with the upcalls and handlers that its vCPUs never returned from."""
        self.closed_all(dom, f"d{dom} was destroyed")
        self.upcalls.forget(dom)
        self._running = {key: run for key, run in self._running.items() if key[0] != dom}

    def clear(self, row: Row) -> None:
        """Consume the port's token: the guest cleared the pending bit."""
        if row.port is None:
            return  # its handler's run tells
        channel, vcpu = (row.dom or 0, row.port), row.vcpu or 0
        self._delivery.cleared(channel)
        self._habits.cleared(channel)
        token = self._tokens.consume(channel)
        self._clear(channel, row.tsc_lo)
        running = self._last_run.get(channel)
        if running is not None and running.exit_tsc is None and running.vcpu == vcpu:
            self._tokens.extend(running, token)  # an irq flow that acknowledges at its end
            return
        waiting = self._consumed.get(channel)
        if waiting is not None and waiting.by_poller:
            self._fates.polled(waiting)
        elif waiting is not None:
            token.parts[:0] = waiting.token.parts
        by_poller = self._outside_upcalls(channel[0], vcpu, row.tsc_lo)
        woke = by_poller and bool(token.parts)
        woke = woke and self.pollers.woken_by((channel[0], vcpu), token.parts[0][0])
        self._consumed[channel] = Consumption(token, row.tsc_lo, by_poller, row.seq, woke)

    def _clear(self, channel: Channel, tsc: int) -> None:
        """Take the event out of the model; off its queue, too, unless records show that apart.

        Between the two the port may have been linked again.
        """
        if self._coverage.missing(channel[0], RecordClass.QUEUE, tsc, tsc):
            self._belief.consume(channel)
        self._belief.clear(channel)

    def _outside_upcalls(self, dom: int, vcpu: int, tsc: int) -> bool:
        if (dom, vcpu) in self.upcalls or self._in_handler((dom, vcpu)):
            return False
        if self._coverage.gap(dom, 0, tsc):
            return False  # its upcall's start may have been dropped
        return not self._coverage.missing(dom, RecordClass.UPCALL, tsc, tsc)

    # --- upcalls and handlers ----------------------------------------------------------------

    def upcall_enter(self, row: Row) -> None:
        """Open an upcall; the one before on this vCPU was empty if no handler ran in it."""
        where = (row.dom or 0, row.vcpu or 0)
        self._end_upcall(where, row.tsc_lo)
        self.upcalls.enter(where, row)
        self._fates.upcall(*where)
        self.pollers.upcall(where)
        self._belief.upcall(*where)

    def upcall_exit(self, row: Row) -> None:
        """Close an upcall; what was due before it began has been taken by now."""
        where = (row.dom or 0, row.vcpu or 0)
        upcall = self.upcalls.get(where)
        if upcall is not None:
            self._delivery.upcall_exit(where, upcall.tsc)
            self._belief.rest(*where)
        self._end_upcall(where, row.tsc_lo)

    def moved(self, channel: Channel, tsc: int) -> None:
        """Note that a port's events go to another vCPU; FIFO: the next ones."""
        self._moved[channel] = tsc
        if not self._belief.is_fifo(channel[0]):
            self._delivery.moved(channel)

    def unmasked(self, channel: Channel, tsc: int) -> None:
        """Note that a guest unmasked a port."""
        self._habits.unmasked(channel)
        run = self._last_run.get(channel)
        if run is not None and run.unmask_tsc is None:
            run.unmask_tsc = tsc
            self._work.unmasked(channel, run)

    def _end_upcall(self, where: tuple[int, int], tsc: int) -> None:
        self.upcalls.end(where, tsc, in_handler=self._in_handler(where))

    def records_lost(self) -> None:
        """Forget what is under way: its end may be among the records that were dropped."""
        self.upcalls.records_lost()
        self._running.clear()
        self._last_run.clear()

    def _in_handler(self, where: tuple[int, int]) -> bool:
        return any(key[:2] == where for key in self._running)

    def handler_enter(self, row: Row) -> Run:
        """Start a run, and say why it runs."""
        dom, vcpu = row.dom or 0, row.vcpu or 0
        run = Run(row.seq, dom, vcpu, row.port, row.irq, row.tsc_lo, row.tsc_hi)
        upcall = self.upcalls.get((dom, vcpu))
        if upcall is not None:
            upcall.runs += 1
            run.upcall_tsc = upcall.tsc
        if row.port is None:
            run.reason = f"the port of irq {row.irq} is not known"
        else:
            self._belief.name_port((dom, row.port), row.irq or 0)
            self.previous = self._last_run.get((dom, row.port))
            self._explain(run, (dom, row.port))
            self._check_vcpu(run, (dom, row.port))
            self._habits.runs((dom, row.port))
            self._work.runs((dom, row.port), self.previous)
            self._last_run[dom, row.port] = run
        self._running[dom, vcpu, row.irq or 0] = run
        self._results.runs.append(run)
        return run

    def handler_exit(self, row: Row) -> None:
        """End a run."""
        run = self._running.pop((row.dom or 0, row.vcpu or 0, row.irq or 0), None)
        if run is not None:
            run.exit_tsc = self._exits[run.dom, run.vcpu] = row.tsc_lo
            self._habits.returns(run)

    def eoi(self, row: Row) -> None:
        """Take the driver's verdict on the port's last run."""
        if row.port is None or row.a0 is None:
            return
        dom, vcpu = row.dom or 0, row.vcpu or 0
        channel, upcall = (dom, row.port), self.upcalls.get((dom, vcpu))
        events = upcall.runs if upcall is not None else 0
        if self._work.ends(row, channel, self._last_run.get(channel), events):
            self._habits.ended(row, channel)

    def irq_unbound(self, row: Row) -> None:
        """Note that a port's irq is being freed."""
        if row.port is not None:
            self._freed[row.dom or 0, row.port] = (row.vcpu or 0, row.tsc_lo)

    def irq_bound(self, row: Row) -> None:
        """Note that a port has an irq."""
        if row.port is not None:
            self._freed.pop((row.dom or 0, row.port), None)
            self._habits.irq_bound(row, (row.dom or 0, row.port))

    def consumed(self, channel: Channel, vcpu: int) -> None:
        """Note that a guest took a port off its FIFO queue: Xen has announced it."""
        self.upcalls.consumed((channel[0], vcpu), channel)
        self.silenced(channel)
        self._delivery.cleared(channel)
        self._habits.consumed(channel)

    def text(self, row: Row) -> None:
        """Take a text: an irq gets its name when it is requested."""
        self._habits.text(row)

    def settle(self) -> None:
        """Settle what the end of the trace left open."""
        for channel, token in self._tokens.remaining():
            if token.parts and self._belief.masked(channel):
                self._habits.left_masked(channel, self._belief.state(channel))
        self._fates.settle_remaining(self._consumed.items())

    # --- the explanation ---------------------------------------------------------------------

    def _explain(self, run: Run, channel: Channel) -> None:
        consumption = self._consumed.pop(channel, None)
        elsewhere = self._taken_elsewhere(channel, run)
        if consumption is None and elsewhere and not self._memory_missing(channel, run.tsc):
            consumption = Consumption(Token(), run.tsc)  # what this vCPU cleared, another has taken
        elif consumption is None and not self._being_freed(channel, run):
            consumption = self._without_clearing(run, channel)
        inferred = "" if consumption else "the clearing of its pending bit was not seen"
        if consumption is None:
            consumption = Consumption(self._tokens.consume(channel), run.tsc)
            self._clear(channel, run.tsc)
        else:
            run.cleared_tsc = consumption.tsc
        token, unseen = self._fates.observable(channel, consumption.token, run.tsc)
        unseen_clearing = run.cleared_tsc is None
        if not token.parts and not run.excused and not elsewhere:
            token = self._tokens.reclaim(channel) or token
        circumstances = self._circumstances(channel, run, unseen, taken_elsewhere=elsewhere)
        verdict = decide(token, circumstances)
        if unseen_clearing and not run.excused:
            verdict = self._withhold(verdict, channel)
        since = self._since(channel)
        gap = self._coverage.gap(channel[0], since, run.tsc)
        ever = self._coverage.gap(channel[0], 0, run.tsc)
        if gap or (ever and verdict.cause in UNPROVOKED_CAUSES | {Cause.BIND_MERGED}):
            verdict = Verdict(Cause.UNKNOWN, ever)
            token = self._fates.unknown(token, ever)
        run.cause, run.reason, run.evidence = verdict.cause, verdict.reason, verdict.evidence
        if inferred and verdict.evidence == "observed" and verdict.cause is not Cause.UNKNOWN:
            run.evidence = f"inferred({inferred})"
        if run.cause is Cause.STALE_PENDING_REUSE and channel in self._left_over:
            seq, tsc = self._left_over[channel]
            self._habits.kept_over_close(channel, seq, tsc, run)
        self._left_over.pop(channel, None)
        run.routes = routes(token, run, self._belief.home(channel))
        cleared = self._earliest_clearing(run) if unseen_clearing else consumption.tsc
        self._tokens.answer(
            channel, token, run, since if gap else cleared, cleared_unseen=unseen_clearing
        )

    def _withhold(self, verdict: Verdict, channel: Channel) -> Verdict:
        """Take back what is only sure where the clearing of pending bits was captured."""
        if verdict.cause is Cause.DOUBLE_HANDLE:
            return Verdict(Cause.UNKNOWN, "which vCPU took the event was not captured")
        if verdict.cause is Cause.UNPROVOKED and self._tokens.may_have_taken_more(channel):
            return Verdict(Cause.UNKNOWN, "which run took which event was not captured")
        return verdict

    def _earliest_clearing(self, run: Run) -> int:
        """Give the time before which the guest cannot have cleared the bit for this run."""
        if run.upcall_tsc is None:
            return run.tsc
        return max(run.upcall_tsc, self._exits.get((run.dom, run.vcpu), 0))

    def _without_clearing(self, run: Run, channel: Channel) -> Consumption | None:
        """Take the event of a run whose guest did not clear the bit, where that can be told."""
        since = run.tsc if run.upcall_tsc is None else run.upcall_tsc
        if not self._findings.can_tell(channel[0], since, run.tsc):
            return None
        self._delivery.cleared(channel)
        token = Token()
        if not self._habits.repeats(run, self._last_run.get(channel)):
            token = self._tokens.consume(channel)
        self._habits.uncleared(run, channel, has_event=bool(token.parts))
        return Consumption(token, run.tsc)

    def _check_vcpu(self, run: Run, channel: Channel) -> None:
        """Hold the vCPU of a run against the port's, in the 2-level form."""
        home, began = self._belief.home(channel), run.upcall_tsc
        if home is None or home[0] == run.vcpu or began is None:
            return
        bound = max(self._moved.get(channel, 0), self._bound.get(channel, 0))
        if bound >= began or self._belief.is_fifo(channel[0]):
            return
        if self._findings.can_tell(channel[0], began, run.tsc):
            self._habits.on_wrong_vcpu(run, channel, home[0])

    def _circumstances(
        self, channel: Channel, run: Run, unseen: str, *, taken_elsewhere: bool
    ) -> Circumstances:
        since = self._since(channel)
        return Circumstances(
            state=None if self._belief.is_assumed(channel) else self._belief.state(channel),
            missing=unseen or self._missing(channel, since, run.tsc),
            bound_tsc=self._bound.get(channel),
            raises_captured=not self._coverage.missing(
                channel[0],
                RecordClass.RAISE,
                since,
                run.tsc,
            ),
            taken_elsewhere=taken_elsewhere,
            repeats=run.excused and not self._habits.leaves_set(channel),
            left_over=channel in self._left_over,
            being_freed=self._being_freed(channel, run),
        )

    def _memory_missing(self, channel: Channel, tsc: int) -> bool:
        return bool(self._coverage.missing(channel[0], RecordClass.MEMORY, tsc, tsc))

    def _since(self, channel: Channel) -> int:
        """Give the time since which an event can have been set: bound, consumed, or the start."""
        times = [self._belief.known_since(channel[0])]
        times += [self._bound[channel]] if channel in self._bound else []
        last = self._tokens.last_consumed(channel)
        times += [last] if last is not None else []
        return max(times)

    def _missing(self, channel: Channel, since: int, now: int) -> str:
        """Say which captured class would be needed to know that nobody provoked the port."""
        state = self._belief.state(channel)
        name = f"d{channel[0]}:{channel[1]}"
        if state is None or self._belief.is_assumed(channel):
            return f"what {name} is bound to is not known: neither its bind nor a snapshot"
        if state is PortState.INTERDOMAIN:
            peer = self._belief.peer(channel)
            return self._calls_missing(peer[0], since, now)
        if state is PortState.IPI:
            return self._calls_missing(channel[0], since, now)
        return self._coverage.loss

    def _calls_missing(self, dom: int, since: int, now: int) -> str:
        """Say why a call of the domain may be missing: not captured, or lost with the file."""
        missing = self._coverage.missing(dom, RecordClass.CALL, since, now) or self._coverage.loss
        passed = self._uncovered.get(dom, -1)
        if not missing and since <= passed <= now:
            missing = f"the arguments of a hypercall of d{dom} at {passed} were not captured"
        return missing

    def _taken_elsewhere(self, channel: Channel, run: Run) -> bool:
        """Tell whether another vCPU handles the port, or has since this one began to scan."""
        others = [other for other in self._running.values() if other.vcpu != run.vcpu]
        bound = self._bound.get(channel, 0)
        if any((other.dom, other.port) == channel and other.tsc >= bound for other in others):
            return True
        last = self._last_run.get(channel)
        if last is None or last.vcpu == run.vcpu or run.upcall_tsc is None:
            return False
        return last.tsc > run.upcall_tsc

    def _being_freed(self, channel: Channel, run: Run) -> bool:
        vcpu, since = self._freed.get(channel, (-1, 0))
        if vcpu != run.vcpu or (run.upcall_tsc is not None and run.upcall_tsc >= since):
            return False
        return self._coverage.covered(channel[0], RecordClass.UPCALL, since, run.tsc)
