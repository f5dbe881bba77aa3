"""`evtrace diff` held to its promise: two seeds of a scenario, and a stage slowed down by a fifth.

    python -m tests.diff.acceptance [SCENARIO…] [--pairs N] [--set NAME=VALUE]…

Records pairs of seeds of each scenario on the emulator and compares them: how many are told to
have no difference. Then one stage of the busiest channel of the second trace is made 20 % slower,
by stretching time in it, and it is counted how often that is told. Exit 1 if either is below 95 %
where it can be promised: a stage with so few values that the comparison itself says that it would
not see such a slowdown is left out of that, and marked.
"""

import argparse
import sys
import tempfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

import polars as pl

from evtrace.analysis.diff.comparison import Diff
from evtrace.analysis.diff.verdict import About, stage_of
from evtrace.analysis.latency import STAGES, GroupBy, group, stage_times, with_devices
from evtrace.api import Trace
from evtrace.timeline import Row
from evtrace.tracefile.coverage import CoverageMap
from evtrace.tracefile.facts import Facts
from evtrace.tracer.emulator.catalogue import find_scenario, list_scenarios, read_parameters
from evtrace.tracer.emulator.lab import Lab, Settings
from evtrace.tracer.emulator.session import record
from evtrace.tracer.emulator.timing import find_timing

SLOWER = 1.2
PROMISED = 0.95


class Warp:
    """Time that runs slower in some intervals."""

    def __init__(self, intervals: Sequence[tuple[int, int]], times: float) -> None:
        """Stretch these intervals, in which nothing is counted twice."""
        self._starts, self._ends = [], []
        end = None
        for first, stop in sorted(intervals):
            start = first if end is None else max(first, end)
            if stop > start:
                self._starts.append(start)
                self._ends.append(stop)
                end = stop
        lengths = [stop - start for start, stop in zip(self._starts, self._ends, strict=True)]
        self._before = [0, *accumulate(lengths)]
        self._more = times - 1

    def __call__(self, tsc: int) -> int:
        """Give the later time at which something happens."""
        place = bisect_right(self._starts, tsc)
        slow = self._before[place]
        if place:
            slow -= max(0, self._ends[place - 1] - tsc)
        return tsc + round(slow * self._more)


class SlowerTrace(Trace):
    """A trace in which one stage of one channel takes longer, and all else is as it was."""

    def __init__(self, path: Path, channel: str, stage: str, times: float = SLOWER) -> None:
        """Find the stage's intervals in the trace as it is."""
        super().__init__(path)
        stages = stages_of(Trace(path)).filter(
            (pl.col("group") == channel) & (pl.col("stage") == stage)
        )
        self._warp = Warp(
            [(tsc - cycles, tsc) for tsc, cycles in stages.select("tsc", "cycles").iter_rows()],
            times,
        )

    def rows(self) -> Iterator[Row]:
        """Yield the rows at their later times."""
        for row in super().rows():
            yield row._replace(tsc_lo=self._warp(row.tsc_lo), tsc_hi=self._warp(row.tsc_hi))

    @property
    def facts(self) -> Facts:
        """What the trace says of itself, its coverage at later times."""
        facts = self.reader.facts
        coverage = [
            replace(one, tsc_lo=self._warp(one.tsc_lo), tsc_hi=self._warp(one.tsc_hi))
            for one in facts.coverage
        ]
        return replace(facts, coverage=coverage)

    @property
    def coverage(self) -> CoverageMap:
        """What was captured, at later times."""
        return CoverageMap(self.facts, self.reader.survey)


def stages_of(trace: Trace) -> pl.DataFrame:
    """Give the measured stages of a trace, with their channels."""
    results = trace.replay()
    runs = with_devices(results.runs_frame(), trace.facts.irq_names)
    stages = stage_times(runs, results.sends_frame(), trace.facts.clock_widths)
    return stages.with_columns(group(GroupBy.CHANNEL))


def recorded(scenario: str, path: Path, parameters: Sequence[str] = (), **settings: object) -> Path:
    """Record a scenario."""
    function = find_scenario(scenario)
    values = read_parameters(function, list(parameters))
    lab = Lab(Settings(**settings))  # type: ignore[arg-type]
    record(lab, lambda lab: function(lab, **values), path, source=scenario, force=True)
    return path


def busiest(path: Path) -> tuple[str, list[str]]:
    """Give the channel with most measured ways, and its stages that take any time."""
    stages = stages_of(Trace(path))
    counts = stages.filter(pl.col("stage") == "send→handler")["group"].value_counts()
    if counts.is_empty():
        return "", []
    channel = counts.sort("count", "group", descending=[True, False])["group"][0]
    its = stages.filter((pl.col("group") == channel) & (pl.col("cycles") > 30))
    median = its.group_by("stage").agg(pl.len()).sort(pl.col("stage").cast(pl.Enum(STAGES)))
    most = median["len"].max()
    return channel, median.filter(pl.col("len") * 2 > most)["stage"].to_list()


def finds(diff: Diff, channel: str, stage: str) -> bool:
    """Whether the comparison tells that the stage of the channel is slower."""
    return any(
        one.about is About.LATENCY
        and one.is_worse
        and one.part == channel
        and stage in {stage_of(quantity) for quantity in one.quantities}
        for one in diff.differences
    )


def can_see(diff: Diff, channel: str, stage: str) -> bool:
    """Whether the comparison says that it would see such a slowdown of the stage."""
    return any(
        one.part == channel and stage_of(one.quantity) == stage and one.seen_from <= SLOWER
        for one in diff.compared
    )


@dataclass(slots=True)
class Outcome:
    """What the pairs of one scenario came to."""

    pairs: int = 0
    quiet: int = 0
    """Pairs without a difference."""
    found: Counter[str] = field(default_factory=Counter)
    """Stage -> how often its slowdown was told."""
    able: Counter[str] = field(default_factory=Counter)
    """Stage -> how often the comparison said that it would be."""
    alarms: list[str] = field(default_factory=list)


def judge(
    scenario: str,
    pairs: int,
    folder: Path,
    parameters: Sequence[str] = (),
    *,
    slower: bool = True,
    **settings: object,
) -> Outcome:
    """Compare pairs of seeds, as they are and with each stage slowed down."""
    outcome = Outcome()
    for pair in range(pairs):
        a, b = (
            recorded(scenario, folder / f"{name}.bin", parameters, seed=2 * pair + at, **settings)
            for at, name in enumerate("ab")
        )
        one = Trace(a)
        diff = one.diff(Trace(b))
        outcome.pairs += 1
        outcome.quiet += not diff.differences
        outcome.alarms += [f"pair {pair}: {found.sentence}" for found in diff.differences]
        channel, stages = busiest(b) if slower else ("", [])
        for stage in stages:
            changed = one.diff(SlowerTrace(b, channel, stage))
            outcome.found[stage] += finds(changed, channel, stage)
            outcome.able[stage] += can_see(diff, channel, stage)
    return outcome


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--chaos", action="store_true")
    parser.add_argument("--timing", default="pinned-x86")
    parser.add_argument("--alike", action="store_true", help="only pairs of seeds as they are")
    options = parser.parse_args()
    names = options.scenarios or [entry.name for entry in list_scenarios()]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            found = judge(
                name,
                options.pairs,
                Path(folder),
                options.set,
                slower=not options.alike,
                chaos=options.chaos,
                timing=find_timing(options.timing),
            )
            failed += found.quiet < PROMISED * found.pairs
            print(f"{name}: no difference in {found.quiet} of {found.pairs} pairs", flush=True)
            for stage, able in found.able.items():
                promised = able >= PROMISED * found.pairs
                failed += promised and found.found[stage] < PROMISED * found.pairs
                note = "" if promised else f"  (promised in {able})"
                print(f"    {stage} 20 % slower: found in {found.found[stage]}{note}")
            print("".join(f"    ! {text}\n" for text in found.alarms[:8]), end="", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
