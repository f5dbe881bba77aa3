"""Runs: handler runs and upcalls as they happen, each run explained by the token it consumed."""

from evtrace.replay.adoption import name_port
from evtrace.replay.belief import Belief
from evtrace.replay.books import Books
from evtrace.replay.delivery import Delivery
from evtrace.replay.explainer import Explainer
from evtrace.replay.fates import Fates
from evtrace.replay.findings import Findings
from evtrace.replay.habits import Habits
from evtrace.replay.pollers import Pollers
from evtrace.replay.results import Results
from evtrace.replay.snapshots import SeenDomain
from evtrace.replay.tokens import Channel, Consumption, TokenBook
from evtrace.replay.upcalls import Upcalls
from evtrace.replay.work import Work
from evtrace.timeline import RecordClass, Row
from evtrace.tracefile.coverage import CoverageMap
from evtrace.verdicts import (
    Cause,
    Contribution,
    ContributionKind,
    Run,
    Send,
)


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
        self._habits = Habits(findings)
        self._books = Books()
        self._work = Work(coverage)
        self.pollers = Pollers(coverage)
        self.upcalls = Upcalls(belief, coverage, results, self._books.last_run.get)
        self._fates = Fates(belief, coverage, tokens, self._habits, self.upcalls.__contains__)
        self._explainer = Explainer(
            belief, coverage, tokens, delivery, findings, self._habits, self._fates, self._books
        )
        self.previous: Run | None = None
        """The run of the same port before the one that started last."""

    def pass_by(self, tsc: int) -> None:
        """Note how far the trace was replayed."""
        self._fates.now = tsc

    def pass_uncovered(self, dom: int, tsc: int) -> None:
        """Note a hypercall of a domain that may have been any."""
        self._books.uncovered[dom] = tsc

    # --- tokens ----------------------------------------------------------------------------

    def contribute(self, channel: Channel, part: Contribution, send: Send | None) -> None:
        """Add what set the port's bit pending to its token."""
        self._tokens.add(channel, part, send)
        if send is not None:
            self._fates.sent(send, channel)
            self._work.sends((send.dom, send.port), send.tsc)

    def explain_late(self, channel: Channel, part: Contribution) -> bool:
        """Give an interrupt's record, written after the fact, to the run that it already caused."""
        run = self._books.last_run.get(channel)
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
        return max(self._books.bound.get(channel, 0), self._belief.known_since(channel[0]))

    def bound(self, channel: Channel, tsc: int) -> None:
        """Note that a port has a new owner since `tsc`."""
        self._books.bound[channel] = tsc

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
            self._books.left_over[channel] = seq, tsc

    def closed(self, channel: Channel, why: str = "") -> None:
        """Forget a port that is closed."""
        self._delivery.forget(channel)
        self._habits.forget(channel)
        self._work.forget(channel)
        self._fates.closed(channel, self._books.consumed.get(channel), why)
        self._books.forget(channel)

    def closed_all(self, dom: int, why: str) -> None:
        """Forget every port of a domain, and say why its sends are no longer answered."""
        pending = {channel for channel, _ in self._tokens.remaining()}
        for channel in pending | self._books.channels():
            if channel[0] == dom:
                self.closed(channel, why)

    def destroyed(self, dom: int) -> None:
        """Forget a domain, with the upcalls and handlers that its vCPUs never returned from."""
        self.closed_all(dom, f"d{dom} was destroyed")
        self.upcalls.forget(dom)
        self._books.forget_vcpus(dom)

    def clear(self, row: Row) -> None:
        """Consume the port's token: the guest cleared the pending bit."""
        if row.port is None:
            return  # its handler's run tells
        channel, vcpu = (row.dom or 0, row.port), row.vcpu or 0
        self._delivery.cleared(channel)
        self._habits.cleared(channel)
        token = self._tokens.consume(channel)
        self._explainer.clear(channel, row.tsc_lo)
        running = self._books.last_run.get(channel)
        if running is not None and running.exit_tsc is None and running.vcpu == vcpu:
            self._tokens.extend(running, token)  # an irq flow that acknowledges at its end
            return
        waiting = self._books.consumed.get(channel)
        if waiting is not None and waiting.by_poller:
            self._fates.polled(waiting)
        elif waiting is not None:
            token.parts[:0] = waiting.token.parts
        by_poller = self._outside_upcalls(channel[0], vcpu, row.tsc_lo)
        woke = by_poller and bool(token.parts)
        woke = woke and self.pollers.woken_by((channel[0], vcpu), token.parts[0][0])
        self._books.consumed[channel] = Consumption(token, row.tsc_lo, by_poller, row.seq, woke)

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
        self._books.moved[channel] = tsc
        if not self._belief.is_fifo(channel[0]):
            self._delivery.moved(channel)

    def unmasked(self, channel: Channel, tsc: int) -> None:
        """Note that a guest unmasked a port."""
        self._habits.unmasked(channel)
        run = self._books.last_run.get(channel)
        if run is not None and run.unmask_tsc is None:
            run.unmask_tsc = tsc
            self._work.unmasked(channel, run)

    def _end_upcall(self, where: tuple[int, int], tsc: int) -> None:
        self.upcalls.end(where, tsc, in_handler=self._in_handler(where))

    def records_lost(self) -> None:
        """Forget what is under way: its end may be among the records that were dropped."""
        self.upcalls.records_lost()
        self._books.running.clear()
        self._books.last_run.clear()

    def _in_handler(self, where: tuple[int, int]) -> bool:
        return any(key[:2] == where for key in self._books.running)

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
            name_port(self._belief, (dom, row.port), row.irq or 0)
            self.previous = self._books.last_run.get((dom, row.port))
            self._explainer.explain(run, (dom, row.port))
            self._explainer.check_vcpu(run, (dom, row.port))
            self._habits.runs((dom, row.port))
            self._work.runs((dom, row.port), self.previous)
            self._books.last_run[dom, row.port] = run
        self._books.running[dom, vcpu, row.irq or 0] = run
        self._results.runs.append(run)
        return run

    def handler_exit(self, row: Row) -> None:
        """End a run."""
        run = self._books.running.pop((row.dom or 0, row.vcpu or 0, row.irq or 0), None)
        if run is not None:
            run.exit_tsc = self._books.exits[run.dom, run.vcpu] = row.tsc_lo
            self._habits.returns(run)

    def eoi(self, row: Row) -> None:
        """Take the driver's verdict on the port's last run."""
        if row.port is None or row.a0 is None:
            return
        dom, vcpu = row.dom or 0, row.vcpu or 0
        channel, upcall = (dom, row.port), self.upcalls.get((dom, vcpu))
        events = upcall.runs if upcall is not None else 0
        if self._work.ends(row, channel, self._books.last_run.get(channel), events):
            self._habits.ended(row, channel)

    def irq_unbound(self, row: Row) -> None:
        """Note that a port's irq is being freed."""
        if row.port is not None:
            self._books.freed[row.dom or 0, row.port] = (row.vcpu or 0, row.tsc_lo)

    def irq_bound(self, row: Row) -> None:
        """Note that a port has an irq."""
        if row.port is not None:
            self._books.freed.pop((row.dom or 0, row.port), None)
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
        self._fates.settle_remaining(self._books.consumed.items())
