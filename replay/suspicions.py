"""Suspicions: what nothing explains, unless the TSC of one pCPU is ahead of another's.

A run without an event, or an answer that is not the model's, may be a fault of the machine, or the
records are not in their true order. The second needs a call of another pCPU that would explain it,
had it come earlier or later, and clocks that can be so far apart: what vCPUs did on two pCPUs
before, and do afterwards, says how far they can (`offsets`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from evtrace.replay.belief import ALLOCATING, Belief
from evtrace.replay.calls import CHANGES_PORTS, Call
from evtrace.replay.offsets import Limits, Offsets
from evtrace.replay.races import Races, Shift
from evtrace.replay.tokens import Channel, Token
from evtrace.timeline import Row
from evtrace.verdicts import Contribution, Run
from evtrace.xen.abi import EvtchnOp
from evtrace.xen.machine import Answer

NEAR_CYCLES = 200_000
"""Clocks are hardly further apart; two things must show it, and what follows must bear it out."""
FAR_CYCLES = 3_000_000
"""Clocks are taken to be no further apart."""

MAX_SUSPICIONS = 100
"""So many are kept, and the last one."""


@dataclass(slots=True)
class _Suspicion:
    """Something that nothing explains."""

    row: Row
    tsc: int
    """When its event was taken, or its call took effect."""
    about: Channel | Call
    """The port of a run, or what was answered otherwise."""
    before: Limits
    after: Offsets
    """What earlier and later records tell of the clocks."""
    shifts: list[Shift] = field(default_factory=list)
    """Each would explain it."""

    def possible(self) -> list[Shift]:
        """Give those for which clocks can be far enough apart from now on."""
        limits = self.after.at(self.tsc)
        return [shift for shift in self.shifts if self._is_possible(shift, limits)]

    @staticmethod
    def _is_possible(shift: Shift, limits: Limits) -> bool:
        if shift.ahead == shift.behind or not 0 <= shift.cycles < FAR_CYCLES:
            return False
        most = limits.most(shift.ahead, shift.behind)
        return shift.cycles < NEAR_CYCLES if most is None else shift.cycles <= most

    def was_so(self, shift: Shift) -> bool:
        """Tell whether it shows by itself that they are, and can have been so before."""
        if shift.is_race or shift.cycles >= NEAR_CYCLES:
            return False
        most = self.before.most(shift.ahead, shift.behind)
        return most is None or shift.cycles <= most

    def is_run_by(self, sent_astray: Callable[[Channel, int], bool]) -> bool:
        """Tell whether it is a run that an event of another port may have caused."""
        return not isinstance(self.about, Call) and sent_astray(self.about, self.row.seq)


class Suspicions:
    """Collects them, and what would explain each."""

    def __init__(self, belief: Belief) -> None:
        """Start with none."""
        self._belief = belief
        self._offsets = Offsets()
        self._races = Races(belief)
        self._kept: list[_Suspicion] = []
        self._pcpus: dict[tuple[int, int], int] = {}  # vCPU -> where it made its last call

    def first(self, sent_astray: Callable[[Channel, int], bool]) -> Row | None:
        """Give the first that clocks explain.

        One alone is not enough if it tells of no more than a race; if the clocks were closer
        together before: they would have been set in between, and have shown in nothing else; or if
        `sent_astray` knows of a lost event that a run of this (port, seq) can be.
        """
        found = [kept for kept in self._kept if kept.possible()]
        if _count_apart(found) == 1:
            found = [kept for kept in found if any(map(kept.was_so, kept.possible()))]
            found = [kept for kept in found if not kept.is_run_by(sent_astray)]
        return found[0].row if found else None

    def forget(self) -> None:
        """Forget all: records were lost."""
        self._kept.clear()
        self._offsets = Offsets()

    def follows(self, cause: Row, effect: Row) -> None:
        """Take two changes of runstate of a vCPU, one after the other."""
        if cause.pcpu != effect.pcpu:
            for offsets in [self._offsets, *(kept.after for kept in self._kept)]:
                offsets.take(cause, effect)

    # --- what nothing explains -------------------------------------------------------------------

    def run(self, row: Row, run: Run, previous: Run | None, waiting: Token | None) -> None:
        """Take a run for which nothing was pending.

        `previous` is the run of its port before, which may answer too much, and `waiting` what
        came to the port after its guest had looked.
        """
        if row.pcpu is None or row.port is None:
            return
        tsc = run.cleared_tsc or run.tsc
        kept = self._keep(row, tsc, (run.dom, row.port))
        taken = previous.cleared_tsc or previous.tsc if previous else 0
        for when in (tsc, taken) if previous and previous.vcpu == run.vcpu else (tsc,):
            kept.shifts += self._races.of_run(row, when, (run.dom, row.port))
        for part in waiting.contributions if waiting else ():
            self._shift(kept, part, part.tsc - tsc, came_later=True)
        for part in previous.contributors[1:] if previous else ():
            self._shift(kept, part, taken - part.tsc_hi, came_later=False)

    def answer(self, call: Call, predicted: Answer) -> None:
        """Take a call that was answered otherwise than the model would."""
        if call.enter.pcpu is None:
            return
        kept = self._keep(call.enter, call.lo, call)
        if _differs_by_port(call, predicted):
            channel = (self._belief.owner(call), min(predicted.out[0], call.outputs[0]))
            kept.shifts += self._races.of_number(channel)

    def _keep(self, row: Row, tsc: int, about: Channel | Call) -> _Suspicion:
        kept = _Suspicion(row, tsc, about, self._offsets.at(tsc), Offsets())
        del self._kept[MAX_SUSPICIONS:]
        self._kept.append(kept)
        return kept

    def _shift(
        self, kept: _Suspicion, part: Contribution, cycles: int, *, came_later: bool
    ) -> None:
        """Note that it would be explained if a send had come before, or after, what it did."""
        own, other = kept.row.pcpu, self._pcpus.get((part.dom, part.vcpu))
        if own is not None and other is not None:
            pair = (other, own) if came_later else (own, other)
            kept.shifts.append(Shift(*pair, cycles, part.seq))

    # --- calls ------------------------------------------------------------------------------------

    def closes(self, call: Call) -> None:
        """Note that a port is about to be closed."""
        self._races.closes(call)

    def passed(self, call: Call) -> None:
        """Take a call that may explain what came before it."""
        pcpu = call.enter.pcpu
        if pcpu is None:
            return
        self._pcpus[call.dom, call.vcpu] = pcpu
        self._races.passed(call)
        for kept in self._kept:
            gap = call.lo - kept.tsc
            if kept.row.pcpu is not None and gap < FAR_CYCLES and self._explains(call, kept):
                kept.shifts.append(Shift(pcpu, kept.row.pcpu, gap, call.enter.seq))

    def _explains(self, call: Call, kept: _Suspicion) -> bool:
        """Tell whether something would be explained by a later call, had it come first."""
        if isinstance(kept.about, Call):
            changes = call.op in CHANGES_PORTS and call.enter.seq > kept.row.seq
            return changes and bool(call.touches() & kept.about.touches())
        args = call.args or (0,)
        match call.op:
            case EvtchnOp.SEND:
                return self._belief.target_of_send((call.dom, args[0])) == kept.about
            case EvtchnOp.BIND_INTERDOMAIN:
                opened = (call.dom, *call.outputs[:1])
                return kept.about in {opened, args[:2]}
            case EvtchnOp.INIT_CONTROL | EvtchnOp.EXPAND_ARRAY:
                return call.dom == kept.about[0]
        return False


def _count_apart(kept: list[_Suspicion]) -> int:
    """Count those for which there is a record of its own that would be in another place."""
    taken: set[int] = set()
    for one in kept:
        free = [shift.seq for shift in one.possible() if shift.seq not in taken]
        taken.update(free[:1])
    return len(taken)


def _differs_by_port(call: Call, predicted: Answer) -> bool:
    """Tell whether another port was given than the model would give."""
    if call.op not in ALLOCATING or predicted.ret < 0 or (call.rc or 0) < 0:
        return False
    return bool(predicted.out and call.outputs)
