"""What is expected of a trace: NAME.toml beside NAME.bin (docs/check.md)."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from evtrace.analysis.checks.parts import Part, read_part, with_arrow
from evtrace.analysis.checks.quantities import (
    QUANTILES,
    find_quantity,
    find_stage,
    quantities,
)
from evtrace.analysis.checks.rulefile import take_rules
from evtrace.analysis.checks.rules import Rule
from evtrace.errors import UsageError
from evtrace.fields import Fields, read_toml
from evtrace.tracefile.selection import parse_duration
from evtrace.verdicts import FindingCode

T = TypeVar("T")

TOLERANCE: Final = "10%"
"""How far a latency may be off, unless its table says otherwise."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a time may be off to either side: a share of it, or so many nanoseconds."""

    text: str = TOLERANCE
    share: float = 0.1
    ns: int = 0

    def allows(self, expected_ns: float, found_ns: float) -> bool:
        """Whether what was found is near enough to what was expected."""
        return abs(found_ns - expected_ns) <= max(self.ns, abs(expected_ns) * self.share)


@dataclass(frozen=True, slots=True)
class ExpectedLatency:
    """What a stage is to take in one part of a trace."""

    part: Part
    stage: str
    values: dict[str, int]
    """Function of `quantities.QUANTILES` -> nanoseconds, or the count."""
    tolerance: Tolerance = field(default_factory=Tolerance)


@dataclass(frozen=True, slots=True)
class Token:
    """A run, a send or a record that must appear; what is None or empty may be anything."""

    kind: str
    """run, send, record"""
    name: str
    """The port of the run, or that of the send; the event of the record."""
    verdict: str | None = None
    """The cause of the run, the fate of the send."""
    other: str | None = None
    """The port that provoked the run, or that the send went to."""
    routes: tuple[str, ...] | None = None
    tsc: int | None = None
    at_least: int = 1

    def __str__(self) -> str:
        """Say what must appear."""
        parts = [f"{self.kind} {self.name}"]
        parts += [f"{'from' if self.kind == 'run' else 'to'} {self.other}"] if self.other else []
        parts += [self.verdict] if self.verdict else []
        parts += [f"via {' + '.join(self.routes)}"] if self.routes else []
        parts += [f"at {self.tsc}"] if self.tsc is not None else []
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Expectations:
    """What is expected of a trace; the defaults hold where there is no file."""

    about: str = ""
    recorded: str = ""
    xen: str | None = None
    """Profile of Xen to replay against; None: that of the trace's own version."""
    damaged: bool = False
    lost_records: int = 0
    levels: dict[str, str] = field(default_factory=dict)
    """`trace` or a domain (`d0`) -> C0 to C5."""
    counts: dict[str, int] = field(default_factory=lambda: {"divergences": 0})
    """Name of a quantity -> how many there are in the whole trace."""
    sets: frozenset[str] = frozenset({"finding"})
    """Sets of verdicts of which there are no others than `counts` has."""
    latencies: tuple[ExpectedLatency, ...] = ()
    tokens: tuple[Token, ...] = ()
    rules: tuple[Rule, ...] = ()


def read_expectations(path: Path) -> Expectations:
    """Read what is expected of a trace; raises `UsageError`, `NoInputError`."""
    fields = read_toml(path)
    about = fields.take("about", str) or ""
    recorded = fields.take("recorded", str) or ""
    xen = fields.take("xen", str)
    rules = tuple(take_rules(fields))
    expected = fields.table("expect") or Fields(str(path), {})
    fields.finish()
    damaged = expected.take("damaged", bool) or False
    lost = expected.take("lost_records", int) or 0
    levels = _levels(expected)
    latencies = tuple(_each(expected.tables("latency"), _latency))
    tokens = tuple(_each(expected.tables("token"), _token))
    sets = {"finding"} | {key for key in verdict_sets() if expected.holds(key)}
    counts = {"divergences": 0} | dict(_counts(expected))
    return Expectations(
        *(about, recorded, xen, damaged, lost, levels, counts),
        *(frozenset(sets), latencies, tokens, rules),
    )


def _each(tables: Iterator[Fields], read: Callable[[Fields], T]) -> Iterator[T]:
    """Read each table; what is refused in one says which."""
    for entry in tables:
        with entry.named():
            found = read(entry)
        yield found


def verdict_sets() -> list[str]:
    """Name the sets of verdicts that can be counted: cause, fate, spurious, finding and others."""
    return list(dict.fromkeys(name.partition(".")[0] for name in quantities() if "." in name))


def members(which: str) -> list[str]:
    """Name the quantities of a set of verdicts, each once."""
    named = [name for name in quantities() if name.startswith(f"{which}.")]
    return [name for name in named if not re.search(r"\.EVT\d+$", name)]


def _levels(expected: Fields) -> dict[str, str]:
    given = expected.table("level")
    if given is None:
        return {}
    levels = given.left()
    for name, level in levels.items():
        if not re.fullmatch(r"trace|d\d+", name) or not re.fullmatch("C[0-5]", str(level)):
            given.refuse(f"{name} = {level!r}: expected trace or a domain, and C0 to C5")
    return {name: str(level) for name, level in levels.items()}


def _counts(expected: Fields) -> Iterator[tuple[str, int]]:
    """Read the counts: of sets of verdicts, a table each; of the whole, a key each."""
    for which in verdict_sets():
        table = expected.table(which)
        for key, count in table.left().items() if table else ():
            yield _count(table or expected, f"{which}.{key}", count)
    for key, count in expected.left().items():
        yield _count(expected, key, count)


def _count(fields: Fields, name: str, count: object) -> tuple[str, int]:
    if type(count) is not int:
        fields.refuse(f"{name} = {count!r}: expected a whole number")
    with fields.named():
        name = find_quantity(name).name
    return _by_name(name), count


def _by_name(name: str) -> str:
    """Give the name of a finding that is given by its code."""
    which, _, code = name.partition(".")
    return f"{which}.{FindingCode(code).name}" if re.fullmatch(r"EVT\d+", code) else name


def _latency(entry: Fields) -> ExpectedLatency:
    part = read_part(entry.take("on", str) or "")
    stage = find_stage(with_arrow(entry.need("stage", str)))
    tolerance = _tolerance(entry.take("tolerance", str) or TOLERANCE)
    count = entry.take("count", int)
    values = {} if count is None else {"count": count}
    for name in QUANTILES:
        text = entry.take(name, str) if name != "count" else None
        if text is not None:
            values[name] = read_time(name, text)
    entry.finish()
    return ExpectedLatency(part, stage, values, tolerance)


def read_time(key: str, text: str) -> int:
    """Read a time in nanoseconds; across two clocks it may be negative."""
    value = parse_duration(key, text.strip().removeprefix("-"))
    return -value if text.strip().startswith("-") else value


def _tolerance(text: str) -> Tolerance:
    share = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", text.strip())
    if share:
        return Tolerance(text, float(share[1]) / 100)
    return Tolerance(text, 0.0, parse_duration("tolerance", text))


def _token(entry: Fields) -> Token:
    found = {kind: name for kind in _TOKENS if (name := entry.take(kind, str))}
    if len(found) != 1:
        message = f"expected one of {', '.join(_TOKENS)}"
        raise UsageError(message)
    ((kind, name),) = found.items()
    at_least = entry.take("at_least", int)
    routes = entry.texts("routes")
    verdict, other = _TOKENS[kind]
    token = Token(
        kind,
        name,
        verdict=_verdict(verdict, entry.take(verdict, str)) if verdict else None,
        other=entry.take(other, str) if other else None,
        routes=routes and tuple(_verdict("route", route) or "" for route in routes),
        tsc=entry.take("tsc", int) if verdict else None,
        at_least=1 if at_least is None else at_least,
    )
    entry.finish()
    return token


_TOKENS: Final = {"run": ("cause", "from"), "send": ("fate", "to"), "record": ("", "")}
"""Kind of token -> the keys of its verdict and of its other end."""


def _verdict(which: str, name: str | None) -> str | None:
    """Read the name of a verdict, in any case."""
    return None if name is None else find_quantity(f"{which}.{name}").name.partition(".")[2]
