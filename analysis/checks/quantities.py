"""What a rule can ask a trace about, by name: counts of verdicts, and quantiles of latencies."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from typing import Final, TypeVar

import polars as pl

from evtrace.analysis.checks.parts import Measured, Part, Reach
from evtrace.analysis.columns import NO_WORK, UNPROVOKED
from evtrace.analysis.latency import STAGES, nanoseconds
from evtrace.errors import UsageError
from evtrace.timeline import RecordClass
from evtrace.verdicts import (
    Cause,
    EoiDelay,
    Fate,
    FindingCode,
    Route,
    UpcallVerdict,
    WorkCause,
)

T = TypeVar("T")

Value = float | None
"""A count, or nanoseconds; None: not observed."""

_EVERYWHERE = tuple(Reach)
_DOMAINS = (Reach.TRACE, Reach.DOMAIN)


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that can be counted in a part of a trace."""

    name: str
    """As a rule writes it: `cause.SEND`."""
    value: Callable[[Measured, Part], Value]
    reaches: tuple[Reach, ...] = _EVERYWHERE
    """The parts in which it can be told."""
    is_claim: bool = True
    """Whether each that is counted is observed: a spoilt capture has fewer of them, never more."""


QUANTILES: Final[dict[str, Callable[[pl.Expr], pl.Expr]]] = {
    "count": lambda _: pl.len(),
    "min": lambda cycles: cycles.min(),
    "mean": lambda cycles: cycles.mean(),
    "p50": lambda cycles: cycles.quantile(0.5, "nearest"),
    "p90": lambda cycles: cycles.quantile(0.9, "nearest"),
    "p99": lambda cycles: cycles.quantile(0.99, "nearest"),
    "p999": lambda cycles: cycles.quantile(0.999, "nearest"),
    "max": lambda cycles: cycles.max(),
}
"""Functions of a stage's times."""


def quantile(measured: Measured, part: Part, function: str, stage: str) -> Value:
    """Give a quantile of a stage in nanoseconds, or how often it was measured; None if never."""
    times = measured.stages(part).filter(pl.col("stage") == stage)
    if function == "count":
        return float(times.height)
    hz = measured.report.source.facts.tsc_hz
    if times.is_empty() or hz is None:
        return None
    found = times.select(QUANTILES[function](pl.col("cycles")).alias("value"))
    return float(found.select(nanoseconds("value", hz)).item())


def find_quantity(name: str) -> Quantity:
    """Find a quantity by its name, in any case; else `UsageError` with the nearest name."""
    return find_named(name, quantities(), f"there is no quantity {name}")


def find_stage(name: str) -> str:
    """Find a stage by its name, in any case; else `UsageError` with the nearest name."""
    return find_named(name, {stage: stage for stage in STAGES}, f"there is no stage {name}")


def find_function(name: str) -> str:
    """Find a function of times by its name, in any case; else `UsageError` with the nearest."""
    known = {function: function for function in QUANTILES}
    return find_named(name, known, f"there is no function {name}")


def find_named(name: str, known: Mapping[str, T], complaint: str) -> T:
    """Find a thing by its name, in any case; else `UsageError`: `complaint` and the nearest."""
    by_case = {one.casefold(): one for one in known}
    if name.casefold() in by_case:
        return known[by_case[name.casefold()]]
    near = by_case[get_close_matches(name.casefold(), by_case, n=1, cutoff=0)[0]]
    message = f"{complaint}; the nearest is {near}"
    raise UsageError(message)


@cache
def quantities() -> dict[str, Quantity]:
    """Give every quantity by its name."""
    found = [
        *_of_verdicts("cause", Cause, _runs_of("cause"), RecordClass.HANDLER),
        *_of_verdicts("fate", Fate, _sends_of("fate"), RecordClass.CALL),
        *_of_verdicts("route", Route, _routes, RecordClass.HANDLER),
        *_of_verdicts("work_cause", WorkCause, _runs_of("work_cause"), RecordClass.EOI),
        *_of_verdicts("eoi_delay", EoiDelay, _runs_of("eoi_delay"), RecordClass.EOI),
        *(Quantity(f"upcall.{one.value}", _upcalls(one), _DOMAINS, False) for one in UpcallVerdict),
        *_spurious(),
        *(
            Quantity(f"finding.{name}", _findings({code}), _EVERYWHERE[:3])
            for code in FindingCode
            for name in (code.name, code.value)
        ),
        Quantity("findings", _findings(set(FindingCode)), _EVERYWHERE[:3]),
        Quantity("divergences", _divergences, _DOMAINS),
        Quantity("runs", _told(RecordClass.HANDLER, lambda m, part: m.runs(part).height)),
        Quantity("sends", _told(RecordClass.CALL, lambda m, part: m.sends(part).height)),
        *(_of_replay(name) for name in ("hypercalls", "compared", "adopted", "unknown")),
        _of_replay("uncovered"),
    ]
    return {quantity.name: quantity for quantity in found}


Count = Callable[[Measured, Part], int]


def _told(classes: RecordClass, count: Count) -> Callable[[Measured, Part], Value]:
    """Count only where the records that tell were captured."""

    def value(measured: Measured, part: Part) -> Value:
        doms = () if part.dom is None else (part.dom,)
        if not measured.report.source.coverage.tells(classes, doms):
            return None
        return float(count(measured, part))

    return value


_NOT_CLAIMED: Final = {"UNKNOWN", Fate.PENDING_AT_END.value}
"""Verdicts of which a spoilt capture may have more."""


def _of_verdicts(
    prefix: str,
    names: type[StrEnum],
    counting: Callable[[str], Count],
    classes: RecordClass,
) -> list[Quantity]:
    return [
        Quantity(
            f"{prefix}.{one.value}",
            _told(classes, counting(one.value)),
            is_claim=one.value not in _NOT_CLAIMED,
        )
        for one in names
    ]


def _runs_of(column: str) -> Callable[[str], Count]:
    return lambda name: lambda m, part: m.runs(part).filter(pl.col(column) == name).height


def _sends_of(column: str) -> Callable[[str], Count]:
    return lambda name: lambda m, part: m.sends(part).filter(pl.col(column) == name).height


def _routes(name: str) -> Count:
    """Count runs, and sends that no run answers, that came by a route."""
    taken = pl.col("routes").list.contains(name)
    return lambda m, part: sum(f.filter(taken).height for f in (m.runs(part), m.sends(part)))


def _spurious() -> list[Quantity]:
    handler = RecordClass.HANDLER
    return [
        Quantity("spurious.L1", _told(RecordClass.UPCALL | handler, _empty), _DOMAINS, False),
        Quantity(
            "spurious.L2", _told(handler, lambda m, part: m.runs(part).filter(UNPROVOKED).height)
        ),
        Quantity(
            "spurious.L3",
            _told(RecordClass.EOI, lambda m, part: m.runs(part).filter(NO_WORK).height),
        ),
    ]


def _empty(measured: Measured, part: Part) -> int:
    counts = measured.report.source.results.empty_upcalls
    return counts.total() if part.dom is None else counts[part.dom]


def _upcalls(verdict: UpcallVerdict) -> Callable[[Measured, Part], Value]:
    def count(measured: Measured, part: Part) -> int:
        counts = measured.report.source.results.upcall_verdicts
        return sum(
            number
            for (dom, why), number in counts.items()
            if why is verdict and part.dom in {None, dom}
        )

    return _told(RecordClass.UPCALL | RecordClass.HANDLER, count)


def _findings(codes: set[FindingCode]) -> Callable[[Measured, Part], Value]:
    def count(measured: Measured, part: Part) -> Value:
        return float(
            sum(
                found.code in codes
                and part.dom in {None, found.dom}
                and part.port in {None, found.port}
                for found in measured.report.source.results.findings
            )
        )

    return count


def _divergences(measured: Measured, part: Part) -> Value:
    found = measured.report.source.results.divergences
    return float(sum(part.dom in {None, one.dom} for one in found))


def _of_replay(name: str) -> Quantity:
    def count(measured: Measured, _: Part) -> Value:
        return float(getattr(measured.report.source.results, name))

    return Quantity(name, count, (Reach.TRACE,), is_claim=False)
