"""The judge: recorded answers of Xen's own code against the answers of the model.

Each line of a program is run and compared in this order: result (`ret`, `err`, `out`), effects,
state. The first difference ends the program, for what follows would say little.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum, unique
from itertools import zip_longest
from pathlib import Path
from typing import Final

from evtrace.replay.conform.steps import Step, prepare
from evtrace.replay.conform.vectors import (
    BadVectorError,
    Line,
    Program,
    find_vector_files,
    read_programs,
)
from evtrace.xen.abi import Errno, EvtchnOp
from evtrace.xen.dump import Json, dump_machine
from evtrace.xen.effects import EFFECT_FIELDS, Effect, EffectKind
from evtrace.xen.machine import Answer, Machine
from evtrace.xen.profiles import HEAD, Profile

_RESULT_KEYS: Final = ("ret", "err", "out")

CONTEXT_LINES: Final = 5
"""Lines before a difference that are kept to show it."""


class NoCallerError(BadVectorError):
    """A line is called by a vCPU that its program has not."""

    def __init__(self, line: Line) -> None:
        """Name the caller."""
        super().__init__(line.path, line.number, f"no vcpu {line.vcpu} of a domain {line.dom}")


@unique
class Aspect(StrEnum):
    """What of a line differs."""

    RESULT = "result"
    EFFECTS = "effects"
    STATE = "state"


@dataclass(frozen=True, slots=True)
class Difference:
    """The first line of a program on which model and record disagree."""

    number: int
    """Line in the file, from 1."""
    text: str
    aspect: Aspect
    expected: Json
    found: Json
    before: tuple[str, ...]
    """The lines before it, as they stand in the file."""

    @property
    def divergence(self) -> "tuple[str, Json, Json]":
        """The first place where the two differ: its path, what was expected, what was found."""
        return first_divergence(self.expected, self.found)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a program came to; `bad` if one of its lines is no vector: then it was not run whole."""

    path: Path
    number: int
    name: str
    operations: int
    seconds: float
    """Time that the model took, reading and comparing left out."""
    difference: Difference | None = None
    bad: BadVectorError | None = None

    @property
    def passed(self) -> bool:
        """Every line gave what was recorded."""
        return self.difference is None and self.bad is None


def judge_files(paths: list[Path], profile: Profile = HEAD) -> Iterator[Verdict]:
    """Judge all programs of files and folders; `NoInputError` if there is nothing to read."""
    for path in find_vector_files(paths):
        for program in read_programs(path):
            yield judge_program(program, profile)


def judge_program(program: Program, profile: Profile = HEAD) -> Verdict:
    """Run one program on an empty machine, up to the first difference."""
    run = _Run(program, Machine(profile))
    difference, bad = None, program.fault
    if bad is None:
        try:
            difference = run.find_difference()
        except BadVectorError as fault:
            bad = fault
    return Verdict(
        program.path, program.number, program.name, run.operations, run.seconds, difference, bad
    )


class _Run:
    """A program being run."""

    def __init__(self, program: Program, machine: Machine) -> None:
        self.program = program
        self.machine = machine
        self.operations = 0
        self.seconds = 0.0

    def find_difference(self) -> Difference | None:
        """Run line by line; stop at the first that differs."""
        for index, line in enumerate(self.program.lines):
            found = self._compare_dump(line) if line.op == "dump" else self._compare_step(line)
            if found is not None:
                aspect, expected, actual = found
                before = self.program.lines[max(0, index - CONTEXT_LINES) : index]
                texts = tuple(earlier.text for earlier in before)
                return Difference(line.number, line.text, aspect, expected, actual, texts)
        return None

    def _compare_dump(self, line: Line) -> tuple[Aspect, Json, Json] | None:
        expected = line.recorded.get("state")
        if expected is None:
            return None
        expected, found = comparable_states(expected, dump_machine(self.machine))
        return None if expected == found else (Aspect.STATE, expected, found)

    def _compare_step(self, line: Line) -> tuple[Aspect, Json, Json] | None:
        step = prepare(line)
        self._check_caller(line)
        answer, effects = self._run_step(step)
        recorded = line.recorded
        if "ret" in recorded:
            expected: Json = {key: recorded[key] for key in _RESULT_KEYS if key in recorded}
            found: Json = render_answer(step, answer)
            if expected != found:
                return Aspect.RESULT, expected, found
        if "effects" in recorded:
            rendered: list[Json] = [render_effect(effect) for effect in effects]
            if recorded["effects"] != rendered:
                return Aspect.EFFECTS, recorded["effects"], rendered
        return None

    def _check_caller(self, line: Line) -> None:
        """Refuse a line whose caller is not there: no recorded program has one."""
        if line.dom < 0:
            return
        domain = self.machine.domains.get(line.dom)
        if domain is None or not 0 <= line.vcpu < len(domain.vcpus):
            raise NoCallerError(line)

    def _run_step(self, step: Step) -> tuple[Answer, list[Effect]]:
        machine = self.machine
        start = time.perf_counter()
        answer = step.run(machine)
        effects = machine.take_effects()
        self.seconds += time.perf_counter() - start
        self.operations += 1
        return answer, effects


def render_answer(step: Step, answer: Answer) -> dict[str, Json]:
    """Write an answer as a vector line does: `ret`, `err` if negative, `out` if any."""
    ret = answer.ret
    rendered: dict[str, Json] = {"ret": None if step.returns_nothing and ret == 0 else ret}
    if ret < 0:
        rendered["err"] = Errno(-ret).name
    out = step.name_outputs(answer.out)
    if out is not None and not (step.returns_nothing and ret < 0):
        rendered["out"] = out
    return rendered


_HEXADECIMAL: Final = {EffectKind.SEL: "#x", EffectKind.WORD: "#010x"}


def render_effect(effect: Effect) -> dict[str, Json]:
    """Write an effect as a vector line does."""
    kind = EffectKind(effect[0])
    rendered: dict[str, Json] = {"t": kind.name.lower()}
    rendered |= zip(EFFECT_FIELDS[kind], effect[1:], strict=True)
    if rendered.get("n") == 1:
        del rendered["n"]
    if kind in _HEXADECIMAL:
        rendered["v"] = format(effect[-1], _HEXADECIMAL[kind])
    if kind == EffectKind.CONTINUATION:
        rendered["op"] = EvtchnOp(effect[1]).name.lower()
    return rendered


_INNER: Final = frozenset(
    {
        "active",
        "free_saved_pending",
        "guest",
        "lastq",
        "next_reset",
        "saved_pending",
        "tails",
        "xen",
    }
)
"""Fields of a state that mean nothing to a guest."""

_NOT_ALWAYS_RECORDED: Final = frozenset({"valid"})


def comparable_states(expected: Json, found: Json) -> tuple[Json, Json]:
    """Strip two states of what is not compared: inner fields, and what the record leaves out."""
    recorded = _keys_of(expected)
    ignored = _INNER | (_NOT_ALWAYS_RECORDED - recorded)
    return _strip(expected, ignored), _strip(found, ignored)


def first_divergence(expected: Json, found: Json, path: str = "") -> tuple[str, Json, Json]:
    """Narrow two values down to the first place where they differ: (path, expected, found)."""
    match expected, found:
        case dict(), dict():
            for key in [*expected, *(key for key in found if key not in expected)]:
                ours, theirs = expected.get(key), found.get(key)
                if ours != theirs:
                    return first_divergence(ours, theirs, f"{path}.{key}" if path else key)
        case list(), list():
            for index, (ours, theirs) in enumerate(zip_longest(expected, found)):
                if ours != theirs:
                    return first_divergence(ours, theirs, f"{path}[{index}]")
    return path, expected, found


def _keys_of(value: Json) -> set[str]:
    """Collect the keys of all objects in a value."""
    match value:
        case dict():
            return set(value).union(*map(_keys_of, value.values()))
        case list():
            return set[str]().union(*map(_keys_of, value))
        case _:
            return set()


def _strip(value: Json, ignored: frozenset[str]) -> Json:
    match value:
        case list():
            return [_strip(item, ignored) for item in value]
        case dict():
            no_priority = value.get("state") == "ECS_RESERVED" or "xen_consumer" in value
            left_out = ignored | {"prio"} if no_priority else ignored
            return {key: _strip(v, ignored) for key, v in value.items() if key not in left_out}
        case _:
            return value
