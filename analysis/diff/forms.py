"""A comparison as text of one screen, as Markdown for a review, and as JSON."""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from math import isfinite

import polars as pl

from evtrace.analysis.diff.aligned import port_name
from evtrace.analysis.diff.calls import Made
from evtrace.analysis.diff.compared import Compared, Scale
from evtrace.analysis.diff.comparison import Diff
from evtrace.analysis.diff.failing import Failure
from evtrace.analysis.diff.heads import head
from evtrace.analysis.diff.listing import finite, tables
from evtrace.analysis.diff.operations import FirstDifference, Place, call_text
from evtrace.analysis.diff.verdict import Difference, factor, stage_of
from evtrace.analysis.forms.machine import plain, tables_as_markdown
from evtrace.analysis.forms.text import grid
from evtrace.analysis.sentence import count_of
from evtrace.analysis.tables import Table
from evtrace.printable import printable

WIDTH = 80
LISTED = 10
"""Differences that are listed; the rest is counted."""

_WHOLE = "send→handler"
_CHANNELS = 3
"""Channels of which it is said how small a slowdown would have been seen."""


# --- text --------------------------------------------------------------------------------------


def as_text(diff: Diff, failed: Sequence[Failure] = (), *, whole: bool = False) -> str:
    """Give a comparison as text; `whole`: every difference, and tables of what was compared."""
    sections = [
        [diff.verdict[0].upper() + diff.verdict[1:], *_differences(diff, whole=whole)],
        _heads(diff),
        _with_load(diff),
        _what_was_compared(diff),
        _first_operation(diff),
        *(_table_lines(table) for table in tables(diff) if whole),
        [line for one in failed for line in _wrapped(f"Fails: {one.sentence}.", "", "  ")],
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _differences(diff: Diff, *, whole: bool) -> Iterator[str]:
    listed = diff.differences if whole else diff.differences[:LISTED]
    for number, one in enumerate(listed, 1):
        yield from _wrapped(one.sentence, f"{number:2}. ", "    ")
    more = len(diff.differences) - len(listed)
    if more:
        yield f"    ... and {more} more; --all lists them"


def _heads(diff: Diff) -> list[str]:
    lines = []
    for name, side in (("A", diff.a), ("B", diff.b)):
        lines += _wrapped(f"{side.title}: {head(side)}", f"{name}  ", "   ")
    for remark in diff.remarks:
        lines += _wrapped(remark, "   ", "     ")
    return lines


def _with_load(diff: Diff) -> list[str]:
    if not diff.load:
        return []
    lines = _wrapped(load_sentence(diff), "", "  ")
    for one in diff.with_load[:_CHANNELS]:
        lines += _wrapped(one.sentence, "  ~ ", "    ")
    more = len(diff.with_load) - _CHANNELS
    return lines + ([f"    ... and {more} more"] if more > 0 else [])


def load_sentence(diff: Diff) -> str:
    """Say that the load is another one, and what may be its doing."""
    texts = [change.text for change in diff.load[:_CHANNELS]]
    texts += [f"{len(diff.load) - _CHANNELS} more"] if len(diff.load) > _CHANNELS else []
    what = "; what changed with it may be its doing:" if diff.with_load else "."
    return f"The load is another one: {', '.join(texts)}{what}"


def _what_was_compared(diff: Diff) -> list[str]:
    return [line for text in notes(diff) for line in _wrapped(text, "", "  ")]


def notes(diff: Diff) -> Iterator[str]:
    """Say what was compared, how small a difference would have been seen, what is too rare."""
    times = [one for one in diff.compared if one.scale is Scale.TIME]
    shares = [one for one in diff.compared if one.scale is Scale.SHARE]
    if diff.compared:
        channels = len({one.part for one in diff.compared})
        what = f"{count_of(len(times), 'time')} and {count_of(len(shares), 'share')}"
        yield (
            f"Compared: {what} of {count_of(channels, 'channel')}, all intervals together 95 % "
            f"sure; a change below {100 * diff.ignored:g} % is not told."
        )
    seen = list(_seen_from(times))
    if seen:
        yield f"A slowdown of {_WHOLE} that would be seen 19 times in 20: {', '.join(seen)}."
    for name in () if diff.is_limited else ("A", "B"):
        others = [one for one in diff.channels if not one.is_told and one.is_in_b == (name == "A")]
        if others:
            more = f" and {len(others) - _CHANNELS} more" if len(others) > _CHANNELS else ""
            texts = ", ".join(one.text for one in others[:_CHANNELS])
            yield f"Nothing happens in {name} on {texts}{more}: no difference by itself."
    if diff.rare:
        yield f"Too rare to tell: {', '.join(diff.rare)}."


def _seen_from(times: Sequence[Compared]) -> Iterator[str]:
    """Say of the busiest channels which slowdown of the whole way would have been seen."""
    best: dict[str, Compared] = {}
    for one in times:
        if stage_of(one.quantity) == _WHOLE:
            known = best.setdefault(one.part, one)
            if one.seen_from < known.seen_from:
                best[one.part] = one
    busiest = sorted(best.values(), key=lambda one: -min(one.count_a, one.count_b))
    for one in busiest[:_CHANNELS]:
        slow = f"{factor(one.seen_from)}x" if isfinite(one.seen_from) else "none"
        yield f"{one.part} {slow}"
    if len(busiest) > _CHANNELS:
        worst = max(busiest, key=lambda one: one.seen_from)
        slow = f"{factor(worst.seen_from)}x" if isfinite(worst.seen_from) else "none"
        yield f"the least known of {len(busiest)}, {worst.part}, {slow}"


# --- operations --------------------------------------------------------------------------------


def _first_operation(diff: Diff) -> list[str]:
    """Show the first operation that differs, one that is answered otherwise before all others."""
    title, found = first_operation(diff)
    lines = _wrapped(title, "", "  ")
    return lines + (list(_side_by_side(found)) if found else [])


def first_operation(diff: Diff) -> tuple[str, FirstDifference | None]:
    """Give the operation to be shown, and a sentence about it."""
    walked = diff.walked
    if walked.shared is None:
        return "", None
    if walked.answers:
        return f"First answer that differs: {walked.answers[0].what}:", walked.answers[0]
    if not walked.is_comparable:
        share = f"only {walked.shared:.0%} of them are common"
        return f"Operations are not compared: {share}; this is not the same work.", None
    if walked.first is None:
        same = "the same calls with the same answers, to the end of the shorter trace"
        return f"Operations: {same}, on {count_of(walked.vcpus, 'vCPU')}.", None
    return f"First operation that differs: {walked.first.what}:", walked.first


def _side_by_side(found: FirstDifference) -> Iterator[str]:
    width = WIDTH // 2 - 3
    for mark, a, b in _lines_around(found.a, found.b):
        left = (a if len(a) <= width else a[: width - 3] + "...").ljust(width)
        right = b if len(b) <= width else b[: width - 3] + "..."
        yield f"  {mark} {left} {right}".rstrip()


def _lines_around(a: Place, b: Place) -> Iterator[tuple[str, str, str]]:
    yield " ", "A", "B"
    before = zip_longest(reversed(a.before), reversed(b.before))
    for one, other in reversed(list(before)):
        yield " ", _call(one), _call(other)
    yield ">", _call(a.made), _call(b.made)
    for one, other in zip_longest(a.after, b.after):
        yield " ", _call(one), _call(other)


def _call(made: Made | None) -> str:
    return "" if made is None else f"#{made.seq} {call_text(made)} = {made.answer}"


def _wrapped(text: str, first: str, others: str) -> list[str]:
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _table_lines(table: Table) -> list[str]:
    return [] if table.is_empty else [f"{table.title}:", *grid(table)]


# --- Markdown ----------------------------------------------------------------------------------


def as_markdown(diff: Diff, failed: Sequence[Failure] = (), *, whole: bool = False) -> str:
    """Give a comparison as Markdown, for a comment on a change."""
    verdict = diff.verdict[0].upper() + diff.verdict[1:]
    lines = [f"**{plain(verdict)}**", ""]
    lines += [f"❌ {_plain(one.sentence)}" for one in failed] + ([""] if failed else [])
    lines += [f"{number}. {_plain(one.sentence)}" for number, one in enumerate(diff.differences, 1)]
    if diff.load:
        lines += ["", _plain(load_sentence(diff)), ""]
        lines += [f"- {_plain(one.sentence)}" for one in diff.with_load]
    lines += ["", "| | trace | |", "|---|---|---|"]
    for name, side in (("A", diff.a), ("B", diff.b)):
        lines.append(f"| {name} | {_plain(side.title)} | {_plain(head(side))} |")
    lines += ["", *(f"- {_plain(text)}" for text in (*diff.remarks, *notes(diff)))]
    title, found = first_operation(diff)
    if title:
        lines += ["", _plain(title)]
    if found:
        lines += ["", "```", *(printable(line) for line in _side_by_side(found)), "```"]
    shown = [table for table in tables(diff) if whole and not table.is_empty]
    text = "\n".join(lines).rstrip("\n") + "\n"
    return text + ("\n" + tables_as_markdown(shown) if shown else "")


def _plain(text: str) -> str:
    return plain(printable(text))


# --- JSON --------------------------------------------------------------------------------------


def as_json(diff: Diff, failed: Sequence[Failure] = ()) -> dict[str, object]:
    """Give a comparison by `schemas/diff.schema.json`."""
    found = first_operation(diff)[1]
    return {
        "schema": "evtrace-diff/1",
        "verdict": diff.verdict,
        "a": {"trace": diff.a.title, "about": head(diff.a)},
        "b": {"trace": diff.b.title, "about": head(diff.b)},
        "ignored": diff.ignored,
        "failed": [
            {"on": one.condition.text, "differences": list(one.by), "sentence": one.sentence}
            for one in failed
        ],
        "differences": [_difference_as_json(one) for one in diff.differences],
        "with_load": [_difference_as_json(one) for one in diff.with_load],
        "load": [
            {
                "from": change.start,
                "to": change.end,
                "sends_a": change.count_a,
                "sends_b": change.count_b,
                "rate_ratio": finite(change.times),
            }
            for change in diff.load
        ],
        "remarks": diff.remarks,
        "notes": list(notes(diff)),
        "alignment": {
            "domains": {f"d{a}": f"d{b}" for b, a in sorted(diff.alignment.doms.items())},
            "ports": {port_name(a): port_name(b) for b, a in sorted(diff.alignment.ports.items())},
            "only_in_a": [port_name(port.end) for port in diff.alignment.only_a],
            "only_in_b": [port_name(port.end) for port in diff.alignment.only_b],
            "doubts": diff.alignment.doubts,
        },
        "operations": {
            "shared": diff.walked.shared,
            "first": None if found is None else _first_as_json(found),
        },
        **{table.name: _rows_as_json(table) for table in tables(diff)},
    }


def _difference_as_json(one: Difference) -> dict[str, object]:
    return {
        "about": one.about.value,
        "part": one.part,
        "sentence": one.sentence,
        "worse": one.is_worse,
        "quantities": list(one.quantities),
        "ratios": {name: finite(value) for name, value in one.ratios.items()},
    }


def _first_as_json(found: FirstDifference) -> dict[str, object]:
    return {
        "what": found.what,
        "is_answer": found.is_answer,
        **{
            name: None
            if place.made is None
            else {"seq": place.made.seq, "tsc": place.made.tsc, "call": _call(place.made)}
            for name, place in (("a", found.a), ("b", found.b))
        },
    }


def _rows_as_json(table: Table) -> list[dict[str, object]]:
    frame = table.frame.with_columns(pl.col("told") == "*")
    return frame.to_dicts()
