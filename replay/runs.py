"""Runs: handler runs and upcalls as they happen, each run explained by the token it consumed."""

from dataclasses import dataclass

from evtrace.replay.belief import Belief
from evtrace.replay.causes import Circumstances, decide, routes
from evtrace.replay.fates import Fates
from evtrace.replay.results import Results
from evtrace.replay.snapshots import SeenDomain
from evtrace.replay.tokens import Channel, Consumption, TokenBook
from evtrace.timeline import RecordClass, Row
from evtrace.tracefile.coverage import CoverageMap
from evtrace.verdicts import Cause, Contribution, ContributionKind, Run, Send, WorkVerdict
from evtrace.xen.abi import PortState

EOI_SPURIOUS = 1
"""XEN_EOI_FLAG_SPURIOUS (Linux, include/xen/events.h)."""


@dataclass(slots=True)
class _Upcall:
    tsc: int
    runs: int = 0


class Runs:
    """Keeps the books of tokens, upcalls and handlers of every domain."""

    def __init__(
        self,
        belief: Belief,
        coverage: CoverageMap,
        tokens: TokenBook,
        results: Results,
    ) -> None:
        """Write verdicts into `results`; withhold them where `coverage` has gaps."""
        self._belief = belief
        self._coverage = coverage
        self._tokens = tokens
        self._results = results
        self._fates = Fates(belief, coverage, tokens)
        self._consumed: dict[Channel, Consumption] = {}
        self._running: dict[tuple[int, int, int], Run] = {}  # (dom, vcpu, irq) -> run
        self._upcalls: dict[tuple[int, int], _Upcall] = {}
        self._freed: dict[Channel, tuple[int, int]] = {}  # irq being freed: (vcpu, since)
        self._bound: dict[Channel, int] = {}
        self._last_run: dict[Channel, Run] = {}

    # --- tokens ----------------------------------------------------------------------------

    def contribute(self, channel: Channel, part: Contribution, send: Send | None) -> None:
        """Add what set the port's bit pending to its token."""
        self._tokens.add(channel, part, send)
        if send is not None:
            self._fates.sent(send, channel)

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

    def bound(self, channel: Channel, tsc: int) -> None:
        """Note that a port has a new owner since `tsc`."""
        self._bound[channel] = tsc

    def closed(self, channel: Channel) -> None:
        """Forget a port that its owner closed."""
        self._fates.closed(channel)
        for book in (self._consumed, self._freed, self._bound, self._last_run):
            book.pop(channel, None)

    def closed_all(self, dom: int) -> None:
        """Forget every port of a domain that was reset or destroyed."""
        books = (self._consumed, self._freed, self._bound, self._last_run)
        channels = {channel for channel, _ in self._tokens.remaining()}.union(*books)
        for channel in channels:
            if channel[0] == dom:
                self.closed(channel)

    def clear(self, row: Row) -> None:
        """Consume the port's token: the guest cleared the pending bit."""
        if row.port is None:
            return  # its handler's run tells
        channel, vcpu = (row.dom or 0, row.port), row.vcpu or 0
        token = self._tokens.consume(channel)
        self._belief.clear(channel)
        running = self._last_run.get(channel)
        if running is not None and running.exit_tsc is None and running.vcpu == vcpu:
            self._tokens.extend(running, token)  # an irq flow that acknowledges at its end
            return
        waiting = self._consumed.get(channel)
        if waiting is not None:
            token.parts[:0] = waiting.token.parts
        self._consumed[channel] = Consumption(token, row.tsc_lo)

    # --- upcalls and handlers ----------------------------------------------------------------

    def upcall_enter(self, row: Row) -> None:
        """Open an upcall; the one before on this vCPU was empty if no handler ran in it."""
        where = (row.dom or 0, row.vcpu or 0)
        self._end_upcall(where)
        self._upcalls[where] = _Upcall(row.tsc_lo)
        self._results.upcalls[where[0]] += 1
        self._fates.upcall(*where)
        self._belief.upcall(*where)

    def upcall_exit(self, row: Row) -> None:
        """Close an upcall."""
        self._end_upcall((row.dom or 0, row.vcpu or 0))

    def _end_upcall(self, where: tuple[int, int]) -> None:
        upcall = self._upcalls.pop(where, None)
        if upcall is not None and not upcall.runs and not self._in_handler(where):
            self._results.empty_upcalls[where[0]] += 1

    def _in_handler(self, where: tuple[int, int]) -> bool:
        return any(key[:2] == where for key in self._running)

    def handler_enter(self, row: Row) -> Run:
        """Start a run, and say why it runs."""
        dom, vcpu = row.dom or 0, row.vcpu or 0
        run = Run(row.seq, dom, vcpu, row.port, row.irq, row.tsc_lo, row.tsc_hi)
        upcall = self._upcalls.get((dom, vcpu))
        if upcall is not None:
            upcall.runs += 1
            run.upcall_tsc = upcall.tsc
        if row.port is None:
            run.reason = f"the port of irq {row.irq} is not known"
        else:
            self._belief.name_port((dom, row.port), row.irq or 0)
            self._explain(run, (dom, row.port))
            self._last_run[dom, row.port] = run
        self._running[dom, vcpu, row.irq or 0] = run
        self._results.runs.append(run)
        return run

    def handler_exit(self, row: Row) -> None:
        """End a run."""
        run = self._running.pop((row.dom or 0, row.vcpu or 0, row.irq or 0), None)
        if run is not None:
            run.exit_tsc = row.tsc_lo

    def eoi(self, row: Row) -> None:
        """Take the driver's verdict on the port's last run."""
        if row.port is None or row.a0 is None or not row.a0 & EOI_SPURIOUS:
            return
        run = self._last_run.get((row.dom or 0, row.port))
        if run is not None:
            run.work = WorkVerdict.NO_WORK

    def irq_unbound(self, row: Row) -> None:
        """Note that a port's irq is being freed."""
        if row.port is not None:
            self._freed[row.dom or 0, row.port] = (row.vcpu or 0, row.tsc_lo)

    def irq_bound(self, row: Row) -> None:
        """Note that a port has an irq."""
        if row.port is not None:
            self._freed.pop((row.dom or 0, row.port), None)

    def settle(self) -> None:
        """Settle what the end of the trace left open."""
        self._fates.settle_remaining()

    # --- the explanation ---------------------------------------------------------------------

    def _explain(self, run: Run, channel: Channel) -> None:
        consumption = self._consumed.pop(channel, None)
        inferred = "" if consumption else "the clearing of its pending bit was not seen"
        if consumption is None:
            consumption = Consumption(self._tokens.consume(channel), run.tsc)
            self._belief.clear(channel)
        else:
            run.cleared_tsc = consumption.tsc
        token, unseen = self._fates.observable(channel, consumption.token, run.tsc)
        if not token.parts:
            token = self._tokens.reclaim(channel) or token
        verdict = decide(token, self._circumstances(channel, run, unseen))
        run.cause, run.reason, run.evidence = verdict.cause, verdict.reason, verdict.evidence
        if inferred and verdict.evidence == "observed" and verdict.cause is not Cause.UNKNOWN:
            run.evidence = f"inferred({inferred})"
        run.routes = routes(token, run.vcpu, self._belief.home(channel))
        self._tokens.answer(channel, token, run, consumption.tsc)

    def _circumstances(self, channel: Channel, run: Run, unseen: str) -> Circumstances:
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
            running_elsewhere=self._runs_elsewhere(channel, run.vcpu),
            being_freed=self._being_freed(channel, run),
        )

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
        return self._coverage.missing(dom, RecordClass.CALL, since, now) or self._coverage.loss

    def _runs_elsewhere(self, channel: Channel, vcpu: int) -> bool:
        last = self._last_run.get(channel)
        return last is not None and last.exit_tsc is None and last.vcpu != vcpu

    def _being_freed(self, channel: Channel, run: Run) -> bool:
        vcpu, since = self._freed.get(channel, (-1, 0))
        return vcpu == run.vcpu and (run.upcall_tsc is None or run.upcall_tsc < since)
