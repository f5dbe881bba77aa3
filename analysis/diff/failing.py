"""`--fail-on`: which differences fail a run, in words, by the names of `evtrace check`."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from evtrace.analysis.checks.parts import with_arrow
from evtrace.analysis.checks.quantities import QUANTILES, find_named, quantities
from evtrace.analysis.diff.compared import Scale
from evtrace.analysis.diff.comparison import Diff
from evtrace.analysis.diff.faults import LOSSES
from evtrace.analysis.diff.verdict import About, Difference, stage_of
from evtrace.analysis.latency import STAGES
from evtrace.errors import UsageError

_EXPRESSION: Final = re.compile(r"\s*(?P<name>[^<>]+?)\s*(?:>\s*(?P<times>\d+(?:\.\d+)?)x?\s*)?")

Judge = Callable[[Difference], bool]


def _is_worse(about: About) -> Judge:
    return lambda one: one.about is about and one.is_worse is not False


WORDS: Final[dict[str, tuple[str, Judge]]] = {
    "any": ("any difference", lambda _: True),
    "worse": ("whatever is surely for the worse", lambda one: one.is_worse is True),
    "faults": ("a finding, a divergence, a lost event that is new", _is_worse(About.FAULTS)),
    "lost": (
        "an event that did not arrive",
        lambda one: one.is_worse is True and bool(LOSSES & set(one.quantities)),
    ),
    "answers": ("another answer of Xen", lambda one: one.about is About.ANSWERS),
    "spurious": ("more runs for nothing, of any kind", _is_worse(About.SPURIOUS)),
    "slower": ("a time that rose", _is_worse(About.LATENCY)),
    "faster": (
        "a time that fell",
        lambda one: one.about is About.LATENCY and one.is_worse is False,
    ),
    "sends": ("other fates of sends", lambda one: one.about is About.SENDS),
    "runs": ("other causes or routes of runs", lambda one: one.about is About.RUNS),
    "channels": ("a channel that only one has", lambda one: one.about is About.CHANNELS),
    "load": ("many more, or fewer, sends between two domains", lambda _: False),
}
"""What can be failed on beside the quantities of `evtrace check`: in words, and how it is told."""

_TIMES: Final = frozenset({"slower", "faster"})


@dataclass(frozen=True, slots=True)
class Condition:
    """One `--fail-on`."""

    text: str
    name: str
    more_than: float | None = None
    """Of a time: how many times that of A it has to be."""

    @property
    def is_of_times(self) -> bool:
        """Whether it asks for times."""
        return self.name in _TIMES or self.name in QUANTILES or _is_time(self.name)

    def holds(self, one: Difference) -> bool:
        """Whether a difference meets it."""
        if self.name in WORDS:
            return WORDS[self.name][1](one) and self._is_enough(one.ratios.values())
        ratios = {name: ratio for name, ratio in one.ratios.items() if self._names(name)}
        named = bool(ratios) or any(map(self._names, one.quantities))
        return named and self._is_enough(ratios.values())

    def _names(self, quantity: str) -> bool:
        function = quantity.partition("(")[0]
        return self.name in {quantity, stage_of(quantity), function if "(" in quantity else None}

    def _is_enough(self, ratios: Iterable[float]) -> bool:
        if self.more_than is None:
            return True
        faster = self.name == "faster"
        return any((1 / ratio if faster else ratio) > self.more_than for ratio in ratios)

    def is_answered(self, diff: Diff) -> bool:
        """Whether anything was compared that it asks about."""
        if self.is_of_times:
            return any(
                one.scale is Scale.TIME and (self.name in _TIMES or self._names(one.quantity))
                for one in diff.compared
            )
        if self.name == "answers":
            return diff.walked.shared is not None
        return diff.is_told


def _is_time(name: str) -> bool:
    return name in STAGES or "(" in name


def read_condition(text: str) -> Condition:
    """Read a `--fail-on`; raises `UsageError`, with the nearest name for one that there is not."""
    match = _EXPRESSION.fullmatch(with_arrow(text))
    if match is None:
        message = f"--fail-on {text!r}: expected a name, or a time such as slower > 1.5x"
        raise UsageError(message)
    name = _find(match["name"].replace(" ", ""), text)
    more_than = float(match["times"]) if match["times"] else None
    found = Condition(text, name, more_than)
    if more_than is not None and not found.is_of_times:
        message = f"--fail-on {text!r}: only of a time can be said how many times it is the other"
        raise UsageError(message)
    return found


def _find(name: str, text: str) -> str:
    known = [*WORDS, *quantities(), *STAGES, *QUANTILES]
    known += [f"{function}({stage})" for function in QUANTILES for stage in STAGES]
    complaint = f"--fail-on {text!r}: there is no {name}"
    return find_named(name, {one: one for one in known}, complaint)


@dataclass(frozen=True, slots=True)
class Failure:
    """A condition that was met, or that nothing could answer."""

    condition: Condition
    by: tuple[int, ...]
    """Numbers of the differences that meet it."""
    why: str = ""
    """Where no difference does: why it fails."""

    @property
    def sentence(self) -> str:
        """Say why the run fails."""
        if self.why:
            return f"--fail-on {self.condition.text}: {self.why}"
        numbers = ", ".join(map(str, self.by))
        return f"--fail-on {self.condition.text}: difference {numbers}"


def failures(diff: Diff, conditions: Iterable[Condition]) -> list[Failure]:
    """Hold a comparison to conditions; what none could answer fails, for it guards nothing."""
    found = []
    for condition in conditions:
        met = [n for n, one in enumerate(diff.differences, 1) if condition.holds(one)]
        why = "" if met else _otherwise(diff, condition)
        if met or why:
            found.append(Failure(condition, tuple(met), why))
    return found


def _otherwise(diff: Diff, condition: Condition) -> str:
    """Say why a condition that no difference meets fails; empty if it does not."""
    if condition.name == "load" and diff.load:
        return diff.load[0].text
    return "" if condition.is_answered(diff) else "nothing that it asks about was compared"
