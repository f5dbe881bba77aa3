"""The interleaving: what vCPUs did side by side around an event, as maintainers draw it in mails.

Arrows go from what set an event pending to where it was handled; what the replay decided stands at
both ends. ASCII, a line a step.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import polars as pl

from evtrace.analysis.interleaving.captions import Captions, Verdicts
from evtrace.analysis.interleaving.lanes import STATES, Clock, Drawing, Line
from evtrace.analysis.interleaving.steps import (
    EVERYWHERE,
    SHOWN_KINDS,
    Lane,
    Step,
    StepTeller,
    name,
)
from evtrace.errors import UsageError
from evtrace.replay.results import Results
from evtrace.timeline import Kind, Row, Runstate
from evtrace.tracefile.coverage import CoverageMap
from evtrace.tracefile.facts import Facts
from evtrace.tracefile.selection import AROUND, Selection
from evtrace.verdicts import Cause, Run

MAX_LANES = 4
"""Columns that fit on a line."""

MAX_STEPS = 200
"""Steps drawn of a stretch of time; the rest is counted."""

REACH = 10_000
"""Records read on either side: calls that began there, vCPUs that ran there."""

EXTENSION = 40
"""Steps by which a picture grows to show the other end of the arrow asked about."""

EXCERPT = 3
"""Steps before and after that other end where it is farther away."""

_DIRECT, _RELATED = 1000, 100
"""Weights of a vCPU at the other end of the event asked about, of its channel; others count 1."""

NOTHING = "nothing to draw: no step of a vCPU was recorded in what is selected"

READ_STEPS = 4 * MAX_STEPS
"""Steps read of a stretch of time, from which the vCPUs to show are chosen."""

Channel = tuple[int, int]
Frames = Callable[[], Iterable[pl.DataFrame]]


def interleaving(
    frames: Frames,
    selection: Selection,
    results: Results,
    facts: Facts,
    coverage: CoverageMap,
) -> list[str]:
    """Draw the steps that `selection` asks for, of up to four vCPUs.

    Around a record: so many steps on either side, of its vCPU and of those at the other ends of
    its arrows; else the steps of a stretch of time. `frames` gives the timeline. Raises
    `UsageError` where there is nothing to draw.
    """
    verdicts = Verdicts(results)
    teller = StepTeller(coverage)
    story = _Story(verdicts, selection)
    rows = story.read(frames, teller)
    focus = story.focus(rows) if selection.middle is not None else None
    lanes, left_out = story.lanes(focus)
    shown = story.window(focus, lanes)
    if not shown:
        raise UsageError(NOTHING)
    lanes = [lane for lane in lanes if any(step.lane == lane for step in shown)]
    clock = Clock((focus or shown[0]).tsc, facts.tsc_hz)
    lines = Captions(verdicts, shown, clock).lines(focus)
    story.note_gaps(lines, lanes)
    intervals = [step for step in story.steps if step.ended is not None]
    drawing = Drawing(lanes, clock, teller.state, intervals, facts.domain_names)
    return [
        *_head(focus, selection, clock),
        "",
        *drawing.draw(lines),
        "",
        *_foot(lines, left_out, facts, is_cut=focus is None and len(shown) == MAX_STEPS),
    ]


class _About:
    """Which steps have to do with the ports asked about; all of them if none is."""

    def __init__(self, verdicts: Verdicts, ports: frozenset[Channel]) -> None:
        self.channels: set[Channel] = set(ports)
        for send in verdicts.sends.values():
            ends = {(send.dom, send.port)}
            if send.to_dom is not None and send.to_port is not None:
                ends.add((send.to_dom, send.to_port))
            if ends & ports:
                self.channels |= ends
        self._waits: dict[Lane, list[tuple[int, int]]] = {}
        """When a vCPU had an event of these ports to handle."""
        runs = verdicts.runs.values() if ports else ()
        for run in (run for run in runs if (run.dom, run.port) in self.channels):
            since = min([run.tsc, *(part.tsc for part in run.contributors)])
            waits = self._waits.setdefault((run.dom, run.vcpu), [])
            waits.append((min(since, run.upcall_tsc or since), run.tsc))
        for waits in self._waits.values():
            waits.sort()

    def covers(self, step: Step) -> bool:
        """Whether a step is to be shown."""
        if not self.channels or step.lane == EVERYWHERE:
            return True
        if step.port is not None:
            return (step.lane[0], step.port) in self.channels
        if step.row.kind == Kind.CALL_ENTER and step.ended is not None:
            results = step.ended.row.words[:1]
            return any((step.lane[0], port) in self.channels for port in results)
        if step.began is not None:
            return self.covers(step.began)
        waits = self._waits.get(step.lane, [])
        at = bisect_right(waits, step.lo, key=lambda wait: wait[0]) - 1
        return at >= 0 and step.lo <= waits[at][1]


class _Story:
    """Everything that was read, and what of it to show."""

    def __init__(self, verdicts: Verdicts, selection: Selection) -> None:
        self.steps: list[Step] = []
        self.verdicts = verdicts
        self.selection = selection
        self._about = _About(verdicts, selection.ports)

    def read(self, frames: Frames, teller: StepTeller) -> list[Row]:
        """Take the steps to show and enough before them to know what was going on then."""
        middle = self.selection.middle
        first = self._first(frames) if middle is None else middle
        kinds = pl.col("kind").is_in([int(kind) for kind in SHOWN_KINDS])
        beside: list[Row] = []
        last = 0
        for batch in frames():
            wanted = batch.filter(kinds & (pl.col("seq") + REACH >= first))
            if middle is not None:
                wanted = wanted.filter(pl.col("seq") <= middle + REACH)
            rows = list(map(Row._make, wanted.iter_rows()))
            beside += [row for row in rows if row.seq == middle]
            teller.take(rows)
            last = max(last, int(batch["seq"][-1]) if batch.height else 0)
            if self._has_enough(teller, last):
                break
        if middle is not None and middle > last:
            message = f"--around {middle}: the last record is #{last}"
            raise UsageError(message)
        self.steps = [step for step in teller.steps if self._about.covers(step)]
        return beside

    def _first(self, frames: Frames) -> int:
        """Find the first record of a stretch of time."""
        kinds = pl.col("kind").is_in([int(kind) for kind in SHOWN_KINDS])
        for batch in frames():
            wanted = batch.filter(kinds & self.selection.expr())
            if wanted.height:
                return int(wanted["seq"][0])
        raise UsageError(NOTHING)

    def _has_enough(self, teller: StepTeller, last: int) -> bool:
        """Whether all to be shown was read; of a stretch of time, forget what is not shown."""
        middle, to = self.selection.middle, self.selection.tsc_to
        if middle is not None:
            return last > middle + REACH
        teller.keep(self._about.covers)
        ended = to is not None and teller.steps and teller.steps[-1].lo > to
        return bool(ended) or sum(1 for _ in self._selected(teller.steps)) > READ_STEPS

    def focus(self, rows: Sequence[Row]) -> Step:
        """Give the step that the record asked about is part of, or the nearest one."""
        middle = self.selection.middle or 0
        at = next((step for step in self.steps if middle in step.seqs), None)
        if at is not None:
            return at
        row = next((row for row in rows if row.seq == middle), None)
        same = [s for s in self.steps if row is not None and s.lane == (row.dom, row.vcpu)]
        near = [s for s in same or self.steps if s.lane != EVERYWHERE]
        if not near:
            message = (
                f"--around {middle}: near it, no record tells what a vCPU did that is asked about"
            )
            raise UsageError(message)
        return min(near, key=lambda step: abs(step.seq - middle))

    def lanes(self, focus: Step | None) -> tuple[list[Lane], Counter[Lane]]:
        """Choose the vCPUs that take part; and count what those left out have to do with them."""
        weights = self._weights_around(focus) if focus else self._weights_of_all()
        if self.selection.doms:
            inside = self.selection.doms | ({focus.lane[0]} if focus else set())
            weights = Counter({k: v for k, v in weights.items() if k[0] in inside})
        ranked = [lane for lane, _ in weights.most_common() if not focus or lane != focus.lane]
        direct = [lane for lane in ranked if weights[lane] >= _RELATED]
        wide = bool(self.selection.doms) or focus is None
        chosen = ranked if wide else direct or ranked[:1]
        chosen = ([focus.lane] if focus else []) + chosen
        chosen = chosen[:MAX_LANES]
        left_out = Counter({lane: weights[lane] for lane in ranked if lane not in chosen})
        return sorted(chosen), left_out

    def _weights_around(self, focus: Step) -> Counter[Lane]:
        """Weigh vCPUs by what joins them with the event asked about, and with its vCPU then."""
        weights: Counter[Lane] = Counter()
        for lane in self._other_ends(focus):
            weights[lane] += _DIRECT
        rival = self._rival(focus)
        if rival is not None:
            weights[rival.dom, rival.vcpu] += _DIRECT
        for lane in self._ends_of_channel(focus):
            weights[lane] += _RELATED
        own = [step for step in self.steps if step.lane == focus.lane]
        at, reach = own.index(focus), self._reach()
        near = own[max(0, at - reach) : at + reach + 1]
        lo, hi = near[0].lo, near[-1].hi
        for step in self.steps:
            if lo <= step.lo <= hi:
                ends = {step.lane, *self._other_ends(step)}
                if focus.lane in ends:
                    weights.update(ends - {focus.lane})
                elif self.selection.doms:
                    weights[step.lane] += 0
        return weights

    def _weights_of_all(self) -> Counter[Lane]:
        """Weigh vCPUs by the arrows that they are part of in the stretch asked about."""
        weights: Counter[Lane] = Counter()
        for step in self._selected(self.steps):
            if step.lane != EVERYWHERE:
                weights.update({step.lane, *self._other_ends(step)})
        return weights

    def _other_ends(self, step: Step) -> set[Lane]:
        """Give the vCPUs at the other ends of a step's arrows."""
        run = self.verdicts.answer(step.seq)
        handled = self.verdicts.runs.get((step.began or step).seq)
        ends = {(run.dom, run.vcpu)} if run else set()
        ends |= {step.by} if step.by is not None else set()
        if handled is not None:
            ends |= {(part.dom, part.vcpu) for part in handled.contributors}
        return ends - {step.lane}

    def _rival(self, focus: Step) -> Run | None:
        """Give the run on another vCPU that had taken the event of a DOUBLE_HANDLE."""
        double = self.verdicts.runs.get((focus.began or focus).seq)
        if double is None or double.cause is not Cause.DOUBLE_HANDLE:
            return None
        others = [
            run
            for run in self.verdicts.runs.values()
            if (run.dom, run.port) == (double.dom, double.port) and run.vcpu != double.vcpu
        ]
        return min(others, key=lambda run: abs(run.seq - double.seq), default=None)

    def _ends_of_channel(self, focus: Step) -> set[Lane]:
        """Give the vCPUs at the peer of the port that a step is about: of the nearest send."""
        if focus.port is None:
            return set()
        channel = (focus.lane[0], focus.port)
        sends = [
            send
            for send in self.verdicts.sends.values()
            if channel in {(send.dom, send.port), (send.to_dom, send.to_port)}
        ]
        if not sends:
            return set()
        near = min(sends, key=lambda send: abs(send.seq - focus.seq))
        run = self.verdicts.answer(near.seq)
        ends = {(near.dom, near.vcpu)} | ({(run.dom, run.vcpu)} if run else set())
        return ends - {focus.lane}

    def window(self, focus: Step | None, lanes: Sequence[Lane]) -> list[Step]:
        """Give the steps to draw."""
        wanted = {*lanes, EVERYWHERE}
        if focus is None:
            chosen = [step for step in self._selected(self.steps) if step.lane in wanted]
            return chosen[:MAX_STEPS]
        beside = [step for step in self.steps if step.lane in wanted]
        at, reach = beside.index(focus), self._reach()
        first, last = max(0, at - reach), at + reach
        far: set[int] = set()
        for end in self._ends_in_time(focus):
            place = next((i for i, step in enumerate(beside) if step.seq == end), at)
            if abs(place - at) <= reach + EXTENSION:
                first, last = min(first, place), max(last, place)
            else:
                far.update(_excerpt(beside, place))
        places = sorted(far | set(range(first, min(last + 1, len(beside)))))
        return [beside[place] for place in places]

    def note_gaps(self, lines: Sequence[Line], lanes: Sequence[Lane]) -> None:
        """Note at each line how many steps of these vCPUs before it are not shown."""
        places = {
            step: place
            for place, step in enumerate(step for step in self.steps if step.lane in lanes)
        }
        shown = [line for line in lines if line.step in places]
        for before, line in pairwise(shown):
            ended = before.step.ended if not before.opens else None
            at = places[before.step if ended is None else ended] + before.repeats
            line.skipped = places[line.step] - at - 1

    def _ends_in_time(self, focus: Step) -> Iterator[int]:
        """Give the records at the other ends of the arrows of the step asked about."""
        run = self.verdicts.answer(focus.seq)
        if run is not None:
            yield run.seq
        handled = self.verdicts.runs.get((focus.began or focus).seq)
        if handled is not None:
            yield from (part.seq for part in handled.contributors)
        rival = self._rival(focus)
        if rival is not None:
            yield from (rival.seq, *(part.seq for part in rival.contributors))
        yield from (step.seq for step in (focus.began, focus.ended) if step is not None)

    def _selected(self, steps: Iterable[Step]) -> Iterator[Step]:
        lo, hi, doms = self.selection.tsc_from, self.selection.tsc_to, self.selection.doms
        for step in steps:
            inside = (lo is None or step.hi >= lo) and (hi is None or step.lo <= hi)
            if inside and (not doms or step.lane[0] in doms or step.lane == EVERYWHERE):
                yield step

    def _reach(self) -> int:
        seqs, middle = self.selection.seqs, self.selection.middle
        return AROUND if seqs is None or middle is None else seqs[1] - middle


def _excerpt(steps: Sequence[Step], place: int) -> Iterator[int]:
    """Give the places of a step and of the few before and after it on the same vCPU."""
    lane = steps[place].lane
    same = [at for at in range(place, -1, -1) if steps[at].lane == lane][: EXCERPT + 1]
    same += [at for at in range(place, len(steps)) if steps[at].lane == lane][1 : EXCERPT + 1]
    yield from same


def _head(focus: Step | None, selection: Selection, clock: Clock) -> list[str]:
    unit = "us" if clock.tsc_hz is not None else "TSC cycles"
    if focus is None:
        return [f"Interleaving, times in {unit} from TSC {clock.zero}"]
    asked = selection.middle
    near = "" if asked in focus.seqs else f", the step nearest to #{asked}"
    return [f"Interleaving around #{focus.seq}{near},", f"times in {unit} from TSC {clock.zero}"]


def _foot(
    lines: Sequence[Line], left_out: Counter[Lane], facts: Facts, *, is_cut: bool
) -> Iterator[str]:
    """Explain the signs that occur, and say what the picture leaves out."""
    signs = [
        f"{STATES[state]} {word}"
        for state, word in (
            (Runstate.RUNNING, "runs, or is inside what has begun"),
            (Runstate.RUNNABLE, "waits for a pCPU"),
            (Runstate.BLOCKED, "blocked"),
        )
    ]
    yield "  ".join(signs)
    if any(line.uncertain for line in lines):
        yield "~ order uncertain: " + "; ".join(_uncertainty(lines, facts))
    if is_cut:
        yield f"only the first {MAX_STEPS} steps are drawn; --from, --to and --port choose"
    if left_out:
        shown = [f"{name(lane)} ({count})" for lane, count in left_out.most_common(8)]
        rest = f" and {len(left_out) - 8} more" if len(left_out) > 8 else ""
        yield f"left out, with what they share: {', '.join(shown)}{rest}; --dom chooses"


def _uncertainty(lines: Sequence[Line], facts: Facts) -> Iterator[str]:
    for dom in sorted({line.step.lane[0] for line in lines if line.uncertain}):
        lo, hi = facts.clock_offsets.get(dom, (0, 0))
        if hi > lo and facts.tsc_hz:
            half_us = (hi - lo) / 2 * 1e6 / facts.tsc_hz
            yield f"d{dom}'s clock is known to {half_us:.1f} us before or after what is shown"
        else:
            yield f"d{dom}'s records without a TSC"
