"""The selection grammar of every command: domains, ports, kinds, times, and around a record.

`--dom 0 --port d0:33 --kind call_enter --from TSC|+SECONDS --to TSC|+SECONDS --around SEQ[:N]`.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

import polars as pl

from evtrace.errors import UsageError
from evtrace.timeline import Kind
from evtrace.xen.abi import EvtchnOp
from evtrace.xen.ops import arg_names, output_names

if TYPE_CHECKING:
    from evtrace.tracefile.reader import TraceReader

T = TypeVar("T")

AROUND = 10
"""Records shown before and after the one named by `--around` unless it says how many."""

_PORT_NAMES = ("port", "local_port")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of a timeline is wanted; empty or None: all of it."""

    doms: frozenset[int] = frozenset()
    ports: frozenset[tuple[int, int]] = frozenset()
    """(domain, port)."""
    kinds: frozenset[Kind] = frozenset()
    tsc_from: int | None = None
    tsc_to: int | None = None
    seqs: tuple[int, int] | None = None
    """First and last `seq`."""
    middle: int | None = None
    """The `seq` that `seqs` lie around, where there is one."""

    def expr(self) -> pl.Expr:
        """Give the filter for frames with the timeline's columns."""
        wanted = [pl.lit(value=True)]
        if self.doms:
            wanted.append(pl.col("dom").is_in(sorted(self.doms)))
        if self.ports:
            wanted.append(pl.any_horizontal(_about(*end) for end in sorted(self.ports)))
        if self.kinds:
            wanted.append(pl.col("kind").is_in(sorted(map(int, self.kinds))))
        if self.tsc_from is not None:
            wanted.append(pl.col("tsc_hi") >= self.tsc_from)
        if self.tsc_to is not None:
            wanted.append(pl.col("tsc_lo") <= self.tsc_to)
        if self.seqs is not None:
            wanted.append(pl.col("seq").is_between(*self.seqs))
        return pl.all_horizontal(wanted)


def make_selection(
    reader: "TraceReader",
    doms: Iterable[str] | None = None,
    ports: Iterable[str] | None = None,
    kinds: Iterable[str] | None = None,
    tsc_from: str | None = None,
    tsc_to: str | None = None,
    around: str | None = None,
) -> Selection:
    """Read the options of a command line, relative times by the clock of the trace.

    Raises `UsageError` where an option cannot be meant as it stands.
    """
    return Selection(
        frozenset(parse_dom(text) for text in doms or ()),
        frozenset(parse_port(text) for text in ports or ()),
        frozenset(parse_kind(text) for text in kinds or ()),
        None if tsc_from is None else parse_time("--from", tsc_from, reader),
        None if tsc_to is None else parse_time("--to", tsc_to, reader),
        None if around is None else parse_around(around),
        None if around is None else int(around.strip().partition(":")[0]),
    )


def parse_dom(text: str) -> int:
    """Read a domain: `0` or `d0`."""
    return _matched("--dom", text, r"d?(\d+)", "a domain such as 0 or d0", lambda m: int(m[1]))


def parse_port(text: str) -> tuple[int, int]:
    """Read a port: `d0:33` or `0:33`."""
    return _matched(
        "--port",
        text,
        r"d?(\d+):(\d+)",
        "a domain and its port such as d0:33",
        lambda m: (int(m[1]), int(m[2])),
    )


def parse_kind(text: str) -> Kind:
    """Read the name of a kind of row, in any case."""
    name = text.upper().replace("-", "_")
    if name in Kind.__members__:
        return Kind[name]
    near = get_close_matches(name, Kind.__members__, n=1, cutoff=0)
    message = f"--kind {text}: there is no such kind; the nearest is {near[0].lower()}"
    raise UsageError(message)


def parse_around(text: str) -> tuple[int, int]:
    """Read a record's number and how many to show on either side: `1200` or `1200:50`."""

    def bounds(match: re.Match[str]) -> tuple[int, int]:
        middle, reach = int(match[1]), int(match[2] or AROUND)
        return max(0, middle - reach), middle + reach

    expected = "a record's seq, and after a colon how many on either side"
    return _matched("--around", text, r"(\d+)(?::(\d+))?", expected, bounds)


def parse_time(option: str, text: str, reader: "TraceReader") -> int:
    """Read a TSC, or `+SECONDS` after the first record where the frequency is known."""
    expected = "a TSC, or +SECONDS after the first record"
    if not text.startswith("+"):
        return _matched(option, text, r"\d+", expected, lambda m: int(m[0]))
    seconds = _matched(option, text, r"\+(\d+(?:\.\d*)?)s?", expected, lambda m: float(m[1]))
    extent, tsc_hz = reader.survey.extent, reader.facts.tsc_hz
    if extent is None or tsc_hz is None:
        message = f"{option} {text}: the trace does not tell its TSC frequency; give a TSC"
        raise UsageError(message)
    return extent[0] + round(seconds * tsc_hz)


_UNITS_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}


def parse_duration(option: str, text: str) -> int:
    """Read a time with its unit as nanoseconds: `1ms`, `500us`, `1.5s`, `10000ns`."""
    expected = "a time and its unit: 10000ns, 500us, 1.5ms, 2s"
    pattern = rf"(\d+(?:\.\d+)?) ?({'|'.join(_UNITS_NS)})"
    return _matched(option, text, pattern, expected, lambda m: round(float(m[1]) * _UNITS_NS[m[2]]))


def _matched(
    option: str, text: str, pattern: str, expected: str, make: Callable[[re.Match[str]], T]
) -> T:
    match = re.fullmatch(pattern, text.strip())
    if match is None:
        message = f"{option} {text}: expected {expected}"
        raise UsageError(message)
    return make(match)


def _about(dom: int, port: int) -> pl.Expr:
    """Whether a row is about a domain's port: in its column, or in the words of a call."""
    named = pl.col("port") == port
    for kind, names in ((Kind.CALL_ENTER, arg_names), (Kind.CALL_EXIT, output_names)):
        for op in EvtchnOp:
            for place, name in enumerate(names(op)):
                if name in _PORT_NAMES:
                    is_call = (pl.col("kind") == kind) & (pl.col("op") == op)
                    named |= is_call & (pl.col(f"a{place}") == port)
    return (pl.col("dom") == dom) & named
