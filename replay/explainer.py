"""Explanations: why a handler runs, by the token that its guest consumed for it."""

from evtrace.replay.belief import Belief
from evtrace.replay.books import Books
from evtrace.replay.causes import Circumstances, Verdict, decide, routes
from evtrace.replay.delivery import Delivery
from evtrace.replay.fates import Fates
from evtrace.replay.findings import Findings
from evtrace.replay.habits import Habits
from evtrace.replay.tokens import Channel, Consumption, Token, TokenBook
from evtrace.timeline import RecordClass
from evtrace.tracefile.coverage import CoverageMap
from evtrace.verdicts import UNPROVOKED_CAUSES, Cause, Run
from evtrace.xen.abi import PortState


class Explainer:
    """Explains each run when it starts, as far as what was captured allows."""

    def __init__(
        self,
        belief: Belief,
        coverage: CoverageMap,
        tokens: TokenBook,
        delivery: Delivery,
        findings: Findings,
        habits: Habits,
        fates: Fates,
        books: Books,
    ) -> None:
        """Read what `books` hold; write verdicts into runs, and what is wrong into `habits`."""
        self._belief = belief
        self._coverage = coverage
        self._tokens = tokens
        self._delivery = delivery
        self._findings = findings
        self._habits = habits
        self._fates = fates
        self._books = books

    def explain(self, run: Run, channel: Channel) -> None:
        """Say why a handler runs: by the event that its guest took for it."""
        consumption = self._books.consumed.pop(channel, None)
        elsewhere = self._taken_elsewhere(channel, run)
        if consumption is None and elsewhere and not self._memory_missing(channel, run.tsc):
            consumption = Consumption(Token(), run.tsc)  # what this vCPU cleared, another has taken
        elif consumption is None and not self._being_freed(channel, run):
            consumption = self._without_clearing(run, channel)
        inferred = "" if consumption else "the clearing of its pending bit was not seen"
        if consumption is None:
            consumption = Consumption(self._tokens.consume(channel), run.tsc)
            self.clear(channel, run.tsc)
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
        if run.cause is Cause.STALE_PENDING_REUSE and channel in self._books.left_over:
            seq, tsc = self._books.left_over[channel]
            self._habits.kept_over_close(channel, seq, tsc, run)
        self._books.left_over.pop(channel, None)
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
        return max(run.upcall_tsc, self._books.exits.get((run.dom, run.vcpu), 0))

    def _without_clearing(self, run: Run, channel: Channel) -> Consumption | None:
        """Take the event of a run whose guest did not clear the bit, where that can be told."""
        since = run.tsc if run.upcall_tsc is None else run.upcall_tsc
        if not self._findings.can_tell(channel[0], since, run.tsc):
            return None
        self._delivery.cleared(channel)
        token = Token()
        if not self._habits.repeats(run, self._books.last_run.get(channel)):
            token = self._tokens.consume(channel)
        self._habits.uncleared(run, channel, has_event=bool(token.parts))
        return Consumption(token, run.tsc)

    def check_vcpu(self, run: Run, channel: Channel) -> None:
        """Hold the vCPU of a run against the port's, in the 2-level form."""
        home, began = self._belief.home(channel), run.upcall_tsc
        if home is None or home[0] == run.vcpu or began is None:
            return
        bound = max(self._books.moved.get(channel, 0), self._books.bound.get(channel, 0))
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
            bound_tsc=self._books.bound.get(channel),
            raises_captured=not self._coverage.missing(
                channel[0],
                RecordClass.RAISE,
                since,
                run.tsc,
            ),
            taken_elsewhere=taken_elsewhere,
            repeats=run.excused and not self._habits.leaves_set(channel),
            left_over=channel in self._books.left_over,
            being_freed=self._being_freed(channel, run),
        )

    def _memory_missing(self, channel: Channel, tsc: int) -> bool:
        return bool(self._coverage.missing(channel[0], RecordClass.MEMORY, tsc, tsc))

    def _since(self, channel: Channel) -> int:
        """Give the time since which an event can have been set: bound, consumed, or the start."""
        times = [self._belief.known_since(channel[0])]
        times += [self._books.bound[channel]] if channel in self._books.bound else []
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
        passed = self._books.uncovered.get(dom, -1)
        if not missing and since <= passed <= now:
            missing = f"the arguments of a hypercall of d{dom} at {passed} were not captured"
        return missing

    def _taken_elsewhere(self, channel: Channel, run: Run) -> bool:
        """Tell whether another vCPU handles the port, or has since this one began to scan."""
        others = [other for other in self._books.running.values() if other.vcpu != run.vcpu]
        bound = self._books.bound.get(channel, 0)
        if any((other.dom, other.port) == channel and other.tsc >= bound for other in others):
            return True
        last = self._books.last_run.get(channel)
        if last is None or last.vcpu == run.vcpu or run.upcall_tsc is None:
            return False
        return last.tsc > run.upcall_tsc

    def _being_freed(self, channel: Channel, run: Run) -> bool:
        vcpu, since = self._books.freed.get(channel, (-1, 0))
        if vcpu != run.vcpu or (run.upcall_tsc is not None and run.upcall_tsc >= since):
            return False
        return self._coverage.covered(channel[0], RecordClass.UPCALL, since, run.tsc)

    def clear(self, channel: Channel, tsc: int) -> None:
        """Take the event out of the model; off its queue, too, unless records show that apart.

        Between the two the port may have been linked again.
        """
        if self._coverage.missing(channel[0], RecordClass.QUEUE, tsc, tsc):
            self._belief.consume(channel)
        self._belief.clear(channel)
