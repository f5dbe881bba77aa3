"""Captions: what was decided of each step of a picture, in words and as numbered arrows."""

from collections.abc import Iterator, Sequence

from evtrace.analysis.interleaving.lanes import Arrow, Clock, Line
from evtrace.analysis.interleaving.steps import Step, name
from evtrace.replay.results import Results
from evtrace.timeline import Kind
from evtrace.verdicts import Cause, Fate, Run, Send


class Verdicts:
    """The replay's verdicts by the record that they stand on."""

    def __init__(self, results: Results) -> None:
        """Index what a replay found."""
        self.runs: dict[int, Run] = {run.seq: run for run in results.runs}
        self.sends: dict[int, Send] = {send.seq: send for send in results.sends}
        self.answers: dict[int, int] = {
            part.seq: run.seq for run in results.runs for part in run.contributors
        }
        """What set an event pending -> the run that answered it."""
        answered = {send.seq: send.run_seq for send in results.sends if send.run_seq is not None}
        self.answers |= answered

    def answer(self, seq: int) -> Run | None:
        """Give the run that answered what a record set pending."""
        return self.runs.get(self.answers.get(seq, -1))


class Captions:
    """Writes at each step what was decided of it, and numbers the arrows."""

    def __init__(self, verdicts: Verdicts, shown: Sequence[Step], clock: Clock) -> None:
        """Write for the steps that are `shown`; arrows reach no others."""
        self._verdicts = verdicts
        self._shown = shown
        self._clock = clock
        self._steps = {step.seq: step for step in shown}
        self._numbers: dict[int, int] = {}
        """A run's seq -> the number of the arrow to it."""

    def lines(self, focus: Step | None) -> list[Line]:
        """Give the lines: what begins and ends with nothing in between is one."""
        lines: list[Line] = []
        waiting = iter([*self._shown, None])
        step = next(waiting)
        while step is not None:
            after = next(waiting)
            if after is not None and step.ended is after:
                lines.append(self._line(step, whole=True))
                lines[-1].until = after.tsc
                lines[-1].is_marked = focus in {step, after}
                after = next(waiting)
            elif lines and self._repeats(lines[-1], step):
                lines[-1].repeats += 1
                lines[-1].text = f"{step.text} x{lines[-1].repeats + 1}"
                lines[-1].is_marked |= step is focus
            else:
                lines.append(self._line(step, whole=False))
                lines[-1].is_marked = step is focus
            step = after
        for line in lines:
            line.uncertain = any(_meet(line.step, other.step) for other in lines)
        return lines

    @staticmethod
    def _repeats(line: Line, step: Step) -> bool:
        """Whether a step is the hypercall that stands on the line before once more."""
        last = line.step
        both = step.row.kind == last.row.kind == Kind.HYPERCALL
        return both and step.lane == last.lane and step.text == last.text

    def _line(self, step: Step, *, whole: bool) -> Line:
        if step.row.kind in {Kind.CALL_EXIT, Kind.UPCALL_EXIT, Kind.HANDLER_EXIT}:
            return Line(step, self._closing(step))
        opens = step.ended is not None and not whole
        if step.row.kind == Kind.HANDLER_ENTER:
            return Line(step, self._handler(step, whole=whole), opens=opens)
        text, arrow = self._caused(step)
        if opens:
            text = f"{step.text}{text} {{"
        elif whole and step.ended is not None and step.row.kind == Kind.CALL_ENTER:
            text = f"{step.text} {step.ended.text}".rstrip() + text
        elif whole:
            text = f"{step.text} {{ }}"
        else:
            text = step.text + text
        return Line(step, text, opens=opens, arrow=arrow)

    def _closing(self, step: Step) -> str:
        """Say what ends, where that is not plain from the bars."""
        began = step.began
        seen = began is not None and began.seq in self._steps
        what = "" if seen else f" {began.text}" if began is not None else " (its entry not seen)"
        return f"}}{what} {step.text}".rstrip()

    def _handler(self, step: Step, *, whole: bool) -> str:
        run = self._verdicts.runs.get(step.seq)
        parts = [step.text]
        if run is not None:
            parts += self._because(run)
        if whole and step.ended is not None:
            parts.append(f"{{ {self._clock.lasts(step.ended.tsc - step.tsc)} }}")
        elif step.ended is not None:
            parts.append("{")
        return " ".join(parts)

    def _because(self, run: Run) -> Iterator[str]:
        """Say why a handler ran: by arrows, and by its cause where no arrow says as much."""
        causes = {part.seq for part in run.contributors}
        seen = causes & self._steps.keys()
        before = ""
        if seen:
            yield f"<-({self._number(run)})"
        elif run.contributors and run.contributors[0].seq:
            first = run.contributors[0]
            before = f"(from #{first.seq}, {self._clock.lasts(run.tsc - first.tsc)} before)"
        if not (seen and run.cause in {Cause.SEND, Cause.IPI}):
            yield run.cause.value
        if before:
            yield before
        if run.routes:
            yield "via " + " + ".join(run.routes)

    def _caused(self, step: Step) -> tuple[str, Arrow | None]:
        """Say what became of an event that a step set pending."""
        send = self._verdicts.sends.get(step.seq)
        run = self._verdicts.answer(step.seq)
        if run is None:
            return (f": {send.fate.value}" if send else "", None)
        merged = " COALESCED" if send is not None and send.fate is Fate.COALESCED else ""
        if run.seq not in self._steps:
            later = self._clock.lasts(run.tsc - step.lo)
            into = f" into #{run.seq}" if merged else f" -> #{run.seq}"
            return f"{merged}{into} on {name((run.dom, run.vcpu))}, {later} later", None
        number = f"({self._number(run)})"
        if (run.dom, run.vcpu) == step.lane:
            return f"{merged} {'into ' if merged else ''}{number}", None
        arrives = f"{run.port}{merged or ' pending'}"
        return "", Arrow((run.dom, run.vcpu), number, arrives)

    def _number(self, run: Run) -> int:
        return self._numbers.setdefault(run.seq, len(self._numbers) + 1)


def _meet(step: Step, other: Step) -> bool:
    """Whether two steps of different vCPUs may have come in either order."""
    if step.lane == other.lane or step.lo == step.hi:
        return False
    return step.lo <= other.hi and other.lo <= step.hi
