"""Live conformance: the model against the Xen that runs, operation by operation.

Xen and a model of the own domain are asked the same, in step. Others open and close ports of the
domain meanwhile, so the two may number ports differently: answers are compared up to renaming, and
the first answer that differs ends its program.
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Final

from evtrace.guest import bits
from evtrace.replay.conform.allocation import Returned
from evtrace.replay.conform.fence import NO_COMMAND, OPENING, Fence, HypercallPort, Reply
from evtrace.replay.conform.programs import Ask, Program
from evtrace.replay.conform.survey import Place, survey
from evtrace.replay.conform.wording import (
    name_command,
    name_result,
    show_out,
    show_reply,
    show_words,
)
from evtrace.xen.abi import DOMID_SELF, FIFO_MASKED, EvtchnOp
from evtrace.xen.machine import ARGS_UNREADABLE, Answer, Machine
from evtrace.xen.ops import arg_names, encode_outputs, output_names
from evtrace.xen.profiles import Profile

PROGRAM_LENGTH: Final = 200
"""Operations of a program, before it closes what it opened."""

CONTEXT_STEPS: Final = 8
"""Operations before a difference that are kept to show it."""

_PORT_NAMES: Final = frozenset({"port", "remote_port", "local_port"})


@unique
class Aspect(StrEnum):
    """What of an operation differs."""

    RESULT = "result"
    OUTPUTS = "outputs"
    STRUCT = "struct"
    """Xen wrote where it has no output."""
    PORT = "port"
    """Xen gave a port that it should not have given."""
    STATUS = "status"
    """What was just opened is not what should have been opened."""


@dataclass(frozen=True, slots=True)
class LiveDifference:
    """The first operation of a program on which the running Xen and the model disagree."""

    seed: int
    """Seed of the program: run alone, it gives the same."""
    number: int
    """Operation of the program, from 1."""
    text: str
    aspect: Aspect
    expected: str
    found: str
    before: tuple[str, ...]
    """The operations before it, with their answers."""


@dataclass(slots=True)
class LiveReport:
    """What all programs together came to."""

    profile: Profile
    place: Place
    seed: int
    operations: int = 0
    """Operations compared."""
    programs: int = 0
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often (operation, result) was Xen's answer; a result is `0` or the errno's name."""
    differences: list[LiveDifference] = field(default_factory=list)
    calls: int = 0
    """Calls of event_channel_op in all, the survey and looks at free ports included."""
    opened: int = 0
    taken: int = 0
    """Ports that were closed here and opened by others since."""
    left: tuple[int, ...] = ()
    """Ports that may still be open: Xen refused to close them, or gave them out wrongly."""
    interrupted: bool = False

    def ended(self, *, stop: bool) -> bool:
        """Tell whether no other program is to be run; with `stop` because of a difference."""
        return self.interrupted or (stop and bool(self.differences))

    @property
    def passed(self) -> bool:
        """No answer differs, and nothing is left open."""
        return not self.differences and not self.left


def judge_live(
    port: HypercallPort,
    profile: Profile,
    *,
    running: Collection[int],
    operations: int,
    seed: int = 0,
    keep_on: Callable[[float], bool] = lambda _: True,
    stop: bool = False,
) -> LiveReport:
    """Run programs on the Xen behind `port` until so many operations are compared.

    `running` are the vCPUs that the kernel runs. `keep_on` is told the share that is done before
    each operation; if it says no, the run ends, and with `stop` at the first difference. However it
    ends, what was opened is closed.
    """
    with Fence(port) as fence:
        place = survey(fence, running)
        fence.domid, fence.room = place.domid, place.room
        report = LiveReport(profile, place, seed)
        returned = Returned(fence)
        while report.operations < operations and not report.ended(stop=stop):
            length = min(PROGRAM_LENGTH, operations - report.operations)
            _Run(fence, returned, report, seed + report.programs).run(
                length, lambda: keep_on(report.operations / operations)
            )
            report.programs += 1
    report.calls, report.opened, report.taken = fence.calls, fence.opened, returned.taken
    report.left = tuple(sorted(fence.own | fence.distrusted))
    return report


class _Run:
    """A program being run, on Xen and on the model."""

    def __init__(self, fence: Fence, returned: Returned, report: LiveReport, seed: int) -> None:
        self._fence = fence
        self._returned = returned
        self._report = report
        self._seed = seed
        self._domid = report.place.domid
        self._machine = start_machine(report.profile, report.place)
        self._names: dict[int, int] = {}
        """Port in the model -> the same port in Xen."""
        self._texts: list[str] = []

    def run(self, length: int, keep_on: Callable[[], bool]) -> None:
        """Run up to the first difference, or until told not to go on; then close what is open."""
        domain = self._machine.domains[self._domid]
        for ask in Program(self._seed, length, self._report.place, domain):
            if not keep_on():
                self._report.interrupted = True
                break
            difference = self._step(ask)
            if difference is not None:
                self._report.differences.append(difference)
                break
        for number in sorted(self._fence.own):
            self._close(number)

    def _close(self, number: int) -> None:
        if self._fence.call(EvtchnOp.CLOSE, (number,)).ret == 0:
            self._returned.add(number)

    def _step(self, ask: Ask) -> LiveDifference | None:
        """Do one operation on both sides and compare."""
        opens = ask.command in OPENING and ask.readable
        lowest = self._returned.lowest() if opens else None
        reply = self._fence.call(ask.command, self._rename_args(ask), readable=ask.readable)
        fault = 0 if ask.readable else ARGS_UNREADABLE
        answer = self._machine.hypercall(self._domid, 0, ask.command, ask.args, fault)
        self._machine.take_effects()
        self._count(ask, reply)
        found = self._compare(ask, reply, answer, lowest)
        if found is not None:
            return self._difference(*found)
        if ask.command == EvtchnOp.CLOSE and answer.ret == 0:
            self._returned.add(self._names.pop(ask.args[0]))
        return None

    def _count(self, ask: Ask, reply: Reply) -> None:
        name = name_command(ask.command)
        shown = " ".join([name, *self._show_args(ask)])
        self._texts.append(f"{shown} -> {show_reply(reply)}")
        self._report.operations += 1
        self._report.answers[name, name_result(reply.ret)] += 1

    # Comparing

    def _compare(
        self, ask: Ask, reply: Reply, answer: Answer, lowest: int | None
    ) -> tuple[Aspect, str, str] | None:
        if reply.ret != answer.ret:
            return Aspect.RESULT, name_result(answer.ret), show_reply(reply)
        if ask.command in OPENING and answer.ret == 0:
            misgiven = self._learn(answer.out[-1], reply.out[-1], lowest)
            if misgiven is not None:
                return misgiven
        return self._compare_words(reply, self._rename_out(ask.command, answer.out))

    def _learn(self, ours: int, given: int, lowest: int | None) -> tuple[Aspect, str, str] | None:
        """Note the number that Xen gave, if it may be, and look whether it is what was asked."""
        if given == 0:
            self._fence.distrust(given)
        if given == 0 or given in self._names.values():
            return Aspect.PORT, "a port that is free", str(given)
        self._returned.take(given)
        self._names[ours] = given
        status = self._machine.hypercall(self._domid, 0, EvtchnOp.STATUS, (DOMID_SELF, ours))
        expected = self._rename_out(EvtchnOp.STATUS, status.out)
        seen = self._fence.call(EvtchnOp.STATUS, (DOMID_SELF, given))
        if seen.out != expected:
            self._fence.distrust(given)
            return Aspect.STATUS, show_out(EvtchnOp.STATUS, expected), show_reply(seen)
        if lowest is not None and lowest < given and self._returned.is_withheld(lowest):
            return Aspect.PORT, f"{lowest}, the lowest that is free", str(given)
        return None

    def _compare_words(self, reply: Reply, out: tuple[int, ...]) -> tuple[Aspect, str, str] | None:
        if reply.out != out:
            return Aspect.OUTPUTS, show_out(reply.command, out), show_reply(reply)
        expected = list(reply.sent)
        if out:
            expected = encode_outputs(EvtchnOp(reply.command), out, onto=reply.sent)
        if list(reply.words) != expected:
            return Aspect.STRUCT, show_words(expected), show_words(reply.words)
        return None

    # Renaming

    def _rename(self, number: int) -> int:
        """Give Xen's number of a port of the model; others are the same in both."""
        return self._names.get(number, number)

    def _rename_args(self, ask: Ask) -> tuple[int, ...]:
        if ask.command >= NO_COMMAND:
            return ask.args
        names = arg_names(EvtchnOp(ask.command))
        return tuple(
            self._rename(value) if name in _PORT_NAMES else value
            for name, value in zip(names, ask.args, strict=True)
        )

    def _rename_out(self, command: int, out: tuple[int, ...]) -> tuple[int, ...]:
        if not out:
            return ()
        names = output_names(EvtchnOp(command), out)
        return tuple(
            self._rename(value) if name in _PORT_NAMES else value
            for name, value in zip(names, out, strict=True)
        )

    # Showing

    def _show_args(self, ask: Ask) -> list[str]:
        if ask.command >= NO_COMMAND:
            return []
        if not ask.readable:
            return ["(unreadable)"]
        names = arg_names(EvtchnOp(ask.command))
        return [f"{name}={v}" for name, v in zip(names, self._rename_args(ask), strict=True)]

    def _difference(self, aspect: Aspect, expected: str, found: str) -> LiveDifference:
        *before, text = self._texts[-CONTEXT_STEPS - 1 :]
        number = len(self._texts)
        return LiveDifference(self._seed, number, text, aspect, expected, found, tuple(before))


def start_machine(profile: Profile, place: Place) -> Machine:
    """Make the model of the own domain: no port open, every event masked, as its kernel starts."""
    machine = Machine(profile, record_memory=False)
    domain = machine.seed_domain(place.domid, place.vcpus, place.form)
    if domain.fifo is not None:
        domain.fifo.seed_port(domain.ports[0], FIFO_MASKED)
    bits.mask_all(domain)
    return machine
