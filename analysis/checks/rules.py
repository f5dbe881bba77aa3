"""The language of rules: `p99(send→handler) <= 50us`, `cause.UNKNOWN / runs <= 1%`.

    rule    = product OP product              OP: <= < >= > == !=
    product = factor { ("*" | "/") factor }
    factor  = NUMBER [unit] | NAME | FUNCTION "(" STAGE ")"
    unit    = ns | us | ms | s | %

A time is held against a time, a number against a number. What a name, function or stage can be is
in `quantities`; what is not observed makes a rule neither hold nor fail.
"""

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, TypeAlias

from evtrace.analysis.checks.parts import WHOLE, Measured, Part, Reach, with_arrow
from evtrace.analysis.checks.quantities import (
    Value,
    find_function,
    find_quantity,
    find_stage,
    quantile,
)
from evtrace.analysis.tables import duration
from evtrace.errors import UsageError

_UNITS: Final = {"ns": 1.0, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9}
_SIGNS: Final = {"≤": "<=", "≥": ">=", "≠": "!=", "=": "=="}
_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}
_FEWER: Final = {"<=", "<", "=="}
"""Comparisons that more than there is on the right breaks."""

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<call>[A-Za-z]\w*)\s*\((?P<stage>[^()]*)\)"
    r"|(?P<number>\d[\d_]*(?:\.\d+)?)\s*(?P<unit>%|[a-zµ]+)?"
    r"|(?P<name>[A-Za-z]\w*(?:\.\w+)?)"
    r"|(?P<compare><=|>=|==|!=|[<>=≤≥≠])"
    r"|(?P<sign>[*/]))\s*"
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number, or a time in nanoseconds."""

    value: float
    is_time: bool = False

    def measure(self, _measured: Measured, _part: Part) -> Value:
        """Give itself."""
        return self.value


@dataclass(frozen=True, slots=True)
class Named:
    """A quantity by its name."""

    name: str
    is_time: bool = False

    def measure(self, measured: Measured, part: Part) -> Value:
        """Count it in a part of a trace."""
        return find_quantity(self.name).value(measured, part)


@dataclass(frozen=True, slots=True)
class Times:
    """A function of the times that a stage took."""

    function: str
    stage: str

    @property
    def is_time(self) -> bool:
        """Whether it is in nanoseconds."""
        return self.function != "count"

    def measure(self, measured: Measured, part: Part) -> Value:
        """Measure it in a part of a trace."""
        return quantile(measured, part, self.function, self.stage)


Factor: TypeAlias = Number | Named | Times


@dataclass(frozen=True, slots=True)
class Product:
    """Factors that are multiplied with and divided by each other, from left to right."""

    factors: tuple[Factor, ...]
    signs: tuple[str, ...] = ()

    @property
    def times(self) -> int:
        """The power of time that it has: 0 a number, 1 a time."""
        first, *others = (int(factor.is_time) for factor in self.factors)
        steps = zip(self.signs, others, strict=True)
        return first + sum(power if sign == "*" else -power for sign, power in steps)

    @property
    def names(self) -> list[str]:
        """The quantities in it."""
        return [factor.name for factor in self.factors if isinstance(factor, Named)]

    def measure(self, measured: Measured, part: Part) -> Value:
        """Give its value; None where a factor is not observed, or one divides by nothing."""
        values = [factor.measure(measured, part) for factor in self.factors]
        result = values[0]
        for sign, value in zip(self.signs, values[1:], strict=True):
            if result is None or value is None or (sign == "/" and not value):
                return None
            result = result * value if sign == "*" else result / value
        return result

    def show(self, value: float) -> str:
        """Give a value of it in words."""
        if self.times:
            return duration(round(value))
        if any(isinstance(factor, Named | Times) for factor in self.factors) and "/" in self.signs:
            return f"{value:.3g}"
        return f"{value:,.10g}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rule comes to in one part of a trace."""

    part: Part
    holds: bool | None
    """None: something that it asks about was not observed."""
    found: str = ""
    wanted: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A comparison, and the parts of a trace in which it has to hold."""

    text: str
    left: Product
    compare: str
    right: Product
    on: Part = WHOLE
    each: Reach | None = None
    """It has to hold in each part of this kind."""
    traces: tuple[str, ...] = ("*",)
    """Patterns of the names of the traces that it is about."""

    def is_about(self, trace: str) -> bool:
        """Whether a trace of this name is to be held to it."""
        return any(fnmatchcase(trace, pattern) for pattern in self.traces)

    @property
    def name(self) -> str:
        """What it says, and where."""
        place = "" if self.on == WHOLE else f" on {self.on.name}"
        if self.each is not None:
            place = f" in each {self.each.value}"
        among = "" if self.traces == ("*",) else f" ({', '.join(self.traces)})"
        return f"{self.text}{place}{among}"

    @property
    def breaks_by_claims(self) -> bool:
        """Whether only more verdicts than it allows can break it, so no gap in a capture can."""
        counts = [factor for factor in self.left.factors if isinstance(factor, Named)]
        plain = not self.left.signs and all(isinstance(f, Number) for f in self.right.factors)
        claims = all(find_quantity(factor.name).is_claim for factor in counts)
        return bool(counts) and plain and claims and self.compare in _FEWER

    def answers(self, measured: Measured) -> Iterator[Answer]:
        """Answer it in each of its parts; in none where the trace has none of them."""
        parts = measured.each(self.each) if self.each else iter([self.on])
        yield from (self._answer(measured, part) for part in parts if measured.holds(part))

    def _answer(self, measured: Measured, part: Part) -> Answer:
        left, right = self.left.measure(measured, part), self.right.measure(measured, part)
        if left is None or right is None:
            return Answer(part, None)
        holds = _COMPARE[self.compare](left, right)
        found, wanted = self.left.show(left), self.left.show(right)
        if found == wanted and left != right:
            found, wanted = f"{left:,.9g}", f"{right:,.9g}"
        return Answer(part, holds, found, f"{self.compare} {wanted}")


def read_rule(
    text: str, on: Part = WHOLE, each: Reach | None = None, traces: tuple[str, ...] = ("*",)
) -> Rule:
    """Read a rule; raises `UsageError`, with the nearest name where one is not known."""
    tokens = list(_tokens(text))
    signs = [place for place, token in enumerate(tokens) if token.lastgroup == "compare"]
    if len(signs) != 1:
        message = f"{text!r}: expected one comparison, such as fate.LOST == 0"
        raise UsageError(message)
    (middle,) = signs
    compare = tokens[middle]["compare"]
    left, right = _product(text, tokens[:middle]), _product(text, tokens[middle + 1 :])
    rule = Rule(text.strip(), left, _SIGNS.get(compare, compare), right, on, each, traces)
    _refuse_units(rule)
    _refuse_reach(rule)
    return rule


def _tokens(text: str) -> Iterator[re.Match[str]]:
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            message = f"{text!r}: cannot be read from {text[place:].strip()!r} on"
            raise UsageError(message)
        yield match
        place = match.end()


def _product(text: str, tokens: list[re.Match[str]]) -> Product:
    """Read one side of a rule."""
    kinds = ["sign" if token["sign"] else "factor" for token in tokens]
    expected = ["sign" if place % 2 else "factor" for place in range(len(tokens))]
    if kinds != expected or len(tokens) % 2 == 0:
        message = f"{text!r}: expected a number or a name on either side of each sign"
        raise UsageError(message)
    factors = tuple(_factor(text, token) for token in tokens[::2])
    return Product(factors, tuple(token["sign"] for token in tokens[1::2]))


def _factor(text: str, token: re.Match[str]) -> Factor:
    try:
        if token["call"]:
            stage = with_arrow(token["stage"]).replace(" ", "")
            return Times(find_function(token["call"]), find_stage(stage))
        if token["name"]:
            return Named(find_quantity(token["name"]).name)
        return _number(token["number"].replace("_", ""), token["unit"])
    except UsageError as error:
        message = f"{text!r}: {error}"
        raise UsageError(message) from None


def _number(digits: str, unit: str | None) -> Number:
    if unit is None:
        return Number(float(digits))
    if unit == "%":
        return Number(float(digits) / 100)
    if unit not in _UNITS:
        message = f"there is no unit {unit}; there are {', '.join([*_UNITS, '%'])}"
        raise UsageError(message)
    return Number(float(digits) * _UNITS[unit], is_time=True)


def _refuse_units(rule: Rule) -> None:
    """Refuse to hold a time against a number."""
    if rule.left.times == rule.right.times and rule.left.times in {0, 1}:
        return
    hint = "; a time has its unit: 50us" if rule.left.times != rule.right.times else ""
    message = f"{rule.text!r}: the two sides are not of one kind{hint}"
    raise UsageError(message)


def _refuse_reach(rule: Rule) -> None:
    """Refuse to ask a part of a trace what only a larger one can tell."""
    reach = rule.each or rule.on.reach
    for name in rule.left.names + rule.right.names:
        able = find_quantity(name).reaches
        if reach not in able:
            where = " or ".join(f"a {one.value}" for one in able)
            message = f"{rule.name!r}: {name} can be told of {where}, not of a {reach.value}"
            raise UsageError(message)
