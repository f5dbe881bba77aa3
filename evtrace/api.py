"""Trace(path): what the commands and a notebook use to get from a trace file to its verdicts."""

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from evtrace.replay.belief import Belief
from evtrace.replay.follow import FOLLOWED_KINDS, SCHEDULER_KINDS, Follow
from evtrace.replay.results import Results
from evtrace.timeline import Kind, RecordClass, Row
from evtrace.tracefile.coverage import CoverageMap
from evtrace.tracefile.facts import Facts
from evtrace.tracefile.reader import TraceReader, open_trace
from evtrace.tracefile.rows import timeline
from evtrace.xen.abi import HYPERVISOR_event_channel_op, HYPERVISOR_sched_op
from evtrace.xen.profiles import HEAD, Profile, find_profile, profile_for_version

if TYPE_CHECKING:
    import polars as pl


POLL = 3
"""SCHEDOP_poll"""


class Trace:
    """One trace file, read when asked.

    Use it as a context manager. Raises `NoInputError` where there is no such file and
    `NotATraceError` where nothing in it is readable.
    """

    def __init__(self, path: str | Path) -> None:
        """Open the trace at `path`; `-` is standard input, `*.zst` is decompressed."""
        self.reader: TraceReader = open_trace(path)

    def __enter__(self) -> Self:
        """Give the trace itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.reader.close()

    @property
    def facts(self) -> Facts:
        """What the trace says of itself."""
        return self.reader.facts

    @property
    def coverage(self) -> CoverageMap:
        """Which record classes were captured, for whom and when."""
        return self.reader.coverage

    def batches(self) -> Iterator["pl.DataFrame"]:
        """Yield the timeline in time-ordered batches (`evtrace.timeline.schema`)."""
        return timeline(self.reader)

    def rows(self) -> Iterator[Row]:
        """Yield the rows of the timeline that the replay needs."""
        wanted = self._wanted()
        for batch in self.batches():
            yield from map(Row._make, batch.filter(wanted).iter_rows())

    def _wanted(self) -> "pl.Expr":
        """Give the filter for rows that the replay needs."""
        import polars as pl  # noqa: PLC0415

        kind, op = pl.col("kind"), pl.col("op")
        if RecordClass.RAISE not in self.coverage.classes():
            calls = (kind != Kind.HYPERCALL) | (op == HYPERVISOR_event_channel_op)
            return kind.is_in(FOLLOWED_KINDS) & calls
        polls = (op == HYPERVISOR_sched_op) & (pl.col("a0").is_null() | (pl.col("a0") == POLL))
        calls = (kind != Kind.HYPERCALL) | (op == HYPERVISOR_event_channel_op) | polls
        return kind.is_in([*FOLLOWED_KINDS, *SCHEDULER_KINDS]) & calls

    def profile(self, name: str | None = None) -> Profile:
        """Give the profile of Xen called `name`, else the trace's own version's, else HEAD."""
        if name is not None:
            return find_profile(name)
        version = self.facts.xen_version
        return profile_for_version(*version) if version else HEAD

    def belief(self, xen: str | None = None) -> Belief:
        """Give the state from which a replay starts."""
        forms = {dom: bool(form) for dom, form in self.facts.forms.items()}
        facts = self.facts
        return Belief(
            self.profile(xen),
            forms,
            facts.vcpus,
            facts.irq_names,
            facts.habits,
            facts.guest_types,
        )

    def replay_until(self, tsc: int, xen: str | None = None) -> Follow:
        """Re-execute the trace up to host TSC `tsc`; the result shows the state then."""
        follow = Follow(self.belief(xen), self.coverage)
        follow.follow(takewhile(lambda row: row.tsc_lo <= tsc, self.rows()))
        return follow

    def replay(self, xen: str | None = None) -> Results:
        """Re-execute the trace against the model and give the verdicts."""
        return Follow(self.belief(xen), self.coverage).follow(self.rows())
