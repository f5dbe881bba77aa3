"""The differences between two traces, each one sentence, the most important first."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, unique
from itertools import groupby
from typing import Final

from evtrace.analysis.diff.compared import Compared, Scale
from evtrace.analysis.tables import duration
from evtrace.verdicts import UNPROVOKED_CAUSES, Fate


@unique
class About(StrEnum):
    """What a difference is about, the most important first."""

    FAULTS = "faults"
    """Findings, divergences, events that are lost."""
    ANSWERS = "answers"
    """The same operation answered otherwise."""
    SPURIOUS = "spurious"
    """Empty upcalls, runs that nobody provoked, runs that found no work."""
    LATENCY = "latency"
    SENDS = "sends"
    """What becomes of sends."""
    RUNS = "runs"
    """Causes and routes of runs."""
    CHANNELS = "channels"
    """What only one of the traces has."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference: a sentence, and what it rests on."""

    about: About
    part: str
    """Whose it is: a channel, a domain, `trace`."""
    sentence: str
    is_worse: bool | None
    """True: B is worse; False: better; None: neither can be said."""
    quantities: tuple[str, ...] = ()
    """What differs, as rules of `evtrace check` write it, the first one told."""
    size: float = 0.0
    """How large it is among its like."""
    ratios: dict[str, float] = field(default_factory=dict)
    """Of times: how many times that of A."""


_ORDER: Final = {about: place for place, about in enumerate(About)}


def ordered(differences: Iterable[Difference]) -> list[Difference]:
    """Order differences: what got worse first, by what it is about, the largest first."""
    return sorted(
        differences,
        key=lambda one: (_ORDER[one.about], one.is_worse is False, -one.size, one.part),
    )


def from_comparisons(compared: Sequence[Compared]) -> Iterator[Difference]:
    """Make one difference of all that changed in one part in one way."""
    told = sorted((one for one in compared if one.is_told), key=_bundle)
    for _, bundle in groupby(told, key=_bundle):
        same = list(bundle)
        yield _of_times(same) if same[0].scale is Scale.TIME else _of_shares(same)


def _bundle(one: Compared) -> tuple[str, str, bool]:
    if one.scale is Scale.TIME:
        return one.part, About.LATENCY.value, one.rises
    return one.part, _about_share(one.quantity).value, False


# --- times -------------------------------------------------------------------------------------

_WHOLE: Final = "send→handler"


def stage_of(quantity: str) -> str:
    """Give the stage of a quantity of times."""
    return quantity.partition("(")[2].removesuffix(")")


def _of_times(same: list[Compared]) -> Difference:
    """Tell the whole way if it changed, and the stages that did."""
    largest = sorted(same, key=lambda one: -one.size)
    whole = [one for one in largest if stage_of(one.quantity) == _WHOLE]
    first = (whole or largest)[0]
    others: dict[str, Compared] = {}
    for one in largest:
        if stage_of(one.quantity) not in {_WHOLE, stage_of(first.quantity)}:
            others.setdefault(stage_of(one.quantity), one)
    text = f"{_function(first)} of {first.part} {stage_of(first.quantity)} {_times(first)}"
    also = [f"{_function(one)} of {stage} {_times(one)}" for stage, one in others.items()]
    sentence = "; ".join([text, *also])
    ratios = {one.quantity: one.change.value for one in same}
    names = (first.quantity, *(one.quantity for one in largest if one is not first))
    about = About.LATENCY
    return Difference(about, first.part, sentence, first.rises, names, first.size, ratios)


def _function(one: Compared) -> str:
    return one.quantity.partition("(")[0]


def _times(one: Compared) -> str:
    verb = "rose" if one.rises else "fell"
    change = one.change
    values = f"{duration(round(one.a))} → {duration(round(one.b))}"
    return f"{verb} {factor(change.value)}x ({_bounds(change.low, change.high)}), {values}"


def _bounds(low: float, high: float) -> str:
    return f"{factor(low)} .. {factor(high)}"


def factor(value: float) -> str:
    """Show how many times one is the other."""
    if value >= 99.5:
        return f"{value:,.0f}"
    return (
        f"{value:.1f}" if value >= 9.95 else f"{value:.2f}" if value >= 0.0995 else f"{value:.2g}"
    )


# --- shares ------------------------------------------------------------------------------------

_UNPROVOKED: Final = {f"cause.{cause.value}" for cause in UNPROVOKED_CAUSES}

_NOT_RECEIVED: Final = frozenset(
    f"fate.{fate.value}"
    for fate in Fate
    if fate not in {Fate.DELIVERED, Fate.COALESCED, Fate.XEN_CONSUMER, Fate.UNKNOWN}
)
"""Fates of sends that reached nobody."""

_WORDS: Final = {
    "spurious.L3": "of runs found no work (spurious.L3)",
    "upcall": "of upcalls were empty ({})",
    "cause": "of runs were {}",
    "route": "of runs came by {}",
    "work_cause": "of runs found no work by {}",
    "eoi_delay": "of runs were unmasked late ({})",
    "fate": "of sends were {}",
}


def _about_share(quantity: str) -> About:
    kind = quantity.partition(".")[0]
    if quantity in _UNPROVOKED or kind in {"spurious", "upcall", "work_cause"}:
        return About.SPURIOUS
    return About.SENDS if kind == "fate" else About.RUNS


def _of_shares(same: list[Compared]) -> Difference:
    largest = sorted(same, key=lambda one: (one.quantity != "spurious.L3", -one.size))
    first = largest[0]
    about = _about_share(first.quantity)
    more = [one for one in largest[1:] if _is_news(one, first)]
    texts = [f"{first.part}: {_share(first)}", *(_share(one) for one in more[:2])]
    judged = about is About.SPURIOUS or first.quantity in _NOT_RECEIVED
    worse = first.rises if judged else None
    names = tuple(one.quantity for one in largest)
    return Difference(about, first.part, "; ".join(texts), worse, names, first.size)


def _is_news(one: Compared, first: Compared) -> bool:
    """Whether it says more than that the others are the fewer, or who made runs find no work."""
    mirrored = abs(one.change.value + first.change.value) < 1e-9
    return not mirrored and one.quantity.partition(".")[0] != "work_cause"


def _share(one: Compared) -> str:
    kind, _, name = one.quantity.partition(".")
    words = _WORDS.get(one.quantity) or _WORDS[kind].format(name)
    ends = one.change.low, one.change.high
    places = 0 if min(map(abs, ends)) >= 0.02 else 2
    low, high = (f"{100 * end:+.{places}f}" for end in ends)
    return f"{one.a:.1%} → {one.b:.1%} {words}, {low} .. {high} points"
