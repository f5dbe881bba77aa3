"""The oracle: whether a part of a trace shows a fact as the whole does, and nothing new.

Leaving something out must not make up what is shown. So the fact has to be that of the same
record, explained as in the whole trace; every other verdict on what is left has to be the one that
it had there; and nothing may be found wrong that was not wrong there.
"""

from collections.abc import Callable, Iterable

from evtrace.replay.belief import Belief
from evtrace.replay.follow import Follow
from evtrace.replay.minimise.showing import Fact, facts
from evtrace.replay.results import MAX_EMPTY_UPCALLS, Results
from evtrace.timeline import Row
from evtrace.tracefile.coverage import CoverageMap


class Oracle:
    """Replays parts of one trace."""

    def __init__(
        self, belief: Callable[[], Belief], coverage: CoverageMap, whole: Results, fact: Fact
    ) -> None:
        """Compare with what the `whole` trace showed; `belief` gives the state before it."""
        self._belief = belief
        self._coverage = coverage
        self._fact = fact
        self.replays = 0
        self._causes = {run.seq: run.cause for run in whole.runs}
        self._fates = {send.seq: send.fate for send in whole.sends}
        self._adopted, self._unknown = whole.adopted, whole.unknown
        empty = {upcall.seq: upcall.verdict for upcall in whole.empty}
        self._empty = None if len(whole.empty) >= MAX_EMPTY_UPCALLS else empty
        self._findings = {(one.code, one.seq, one.dom, one.port) for one in whole.findings}
        self._divergences = {(one.seq, one.expected, one.found) for one in whole.divergences}

    def shows(self, rows: Iterable[Row], end: int | None = None) -> bool:
        """Tell whether `rows`, in the order of the timeline, show the fact honestly.

        `end`: the host TSC at which they end; what was captured later is not claimed.
        """
        self.replays += 1
        coverage = self._coverage if end is None else self._coverage.until(end)
        results = Follow(self._belief(), coverage).follow(rows)
        return self._is_there(results) and self._is_unchanged(results)

    def _is_there(self, results: Results) -> bool:
        wanted = self._fact
        return any(
            found.seq == wanted.seq
            and found.kind == wanted.kind
            and found.explanation == wanted.explanation
            for found in facts(results)
        )

    def _is_unchanged(self, results: Results) -> bool:
        """Tell whether all that is left is judged as in the whole trace."""
        return (
            results.adopted <= self._adopted
            and results.unknown <= self._unknown
            and all(self._causes.get(run.seq) is run.cause for run in results.runs)
            and all(self._fates.get(send.seq) is send.fate for send in results.sends)
            and self._has_no_new_empty_upcall(results)
            and all(
                (one.code, one.seq, one.dom, one.port) in self._findings for one in results.findings
            )
            and all(
                (one.seq, one.expected, one.found) in self._divergences
                for one in results.divergences
            )
        )

    def _has_no_new_empty_upcall(self, results: Results) -> bool:
        known = self._empty
        return known is None or all(known.get(up.seq) is up.verdict for up in results.empty)
