"""What checks came to, as text, Markdown for a review, and JSON."""

import textwrap
from collections.abc import Iterator, Sequence

from evtrace.analysis.checks.judgement import Check, Judged, Outcome
from evtrace.analysis.forms.machine import plain
from evtrace.analysis.sentence import count_of
from evtrace.printable import printable

WIDTH = 80


# --- text --------------------------------------------------------------------------------------


def trace_lines(judged: Judged) -> Iterator[str]:
    """Give what one trace came to: a line, and below it what failed."""
    yield f"{'ok  ' if judged.passed else 'FAIL'}  {printable(judged.trace)}: {_tally(judged)}"
    for check in judged.failed:
        yield from _check_lines(check)
    yield from (printable(f"    {line}") for line in judged.difference.splitlines())


def _tally(judged: Judged) -> str:
    checks = count_of(len(judged.checks), "check")
    failed, withheld = len(judged.failed), len(judged.of(Outcome.WITHHELD))
    parts = [f"{failed} of {checks} failed" if failed else checks]
    parts += [f"{withheld} withheld: the capture can explain them"] if withheld else []
    unanswered = len(judged.of(Outcome.UNANSWERED))
    parts += [f"{count_of(unanswered, 'rule')} not about it"] if unanswered else []
    parts += [] if judged.has_expectations or judged.is_rules else ["no expectations"]
    return ", ".join(parts)


def _check_lines(check: Check) -> Iterator[str]:
    yield from _wrapped(f"{check.name}: {check.message}", "      ")
    for line in check.details:
        yield from _wrapped(line, "        ")


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def summary(judged: Sequence[Judged]) -> str:
    """Say in a line how many traces passed."""
    traces = [one for one in judged if not one.is_rules]
    failed = sum(not one.passed for one in traces)
    text = f"{count_of(len(traces), 'trace')}: {len(traces) - failed} passed, {failed} failed"
    idle = sum(len(one.checks) for one in judged if one.is_rules)
    return text + (f"; {count_of(idle, 'rule')} that none can answer" if idle else "")


# --- Markdown ----------------------------------------------------------------------------------


def as_markdown(judged: Sequence[Judged]) -> str:
    """Give everything as Markdown: a table of the traces, and below it what failed."""
    lines = [f"**evtrace check: {summary(judged)}**", "", "| | trace | checks |", "|---|---|---|"]
    for one in judged:
        mark = "✅" if one.passed else "❌"
        lines.append(f"| {mark} | {plain(printable(one.trace))} | {_tally(one)} |")
    for one in judged:
        if not one.passed:
            lines += ["", f"#### {plain(printable(one.trace))}", ""]
            lines += [line for check in one.failed for line in _bullets(check)]
        if one.difference:
            fenced = printable(one.difference.replace("```", "'''"), keep="\n")
            lines += ["", "```diff", fenced.rstrip("\n"), "```"]
    return "\n".join(lines) + "\n"


def _bullets(check: Check) -> Iterator[str]:
    yield f"- **{plain(printable(check.name))}**: {plain(printable(check.message))}"
    yield from (f"  - {plain(printable(line))}" for line in check.details)


# --- JSON --------------------------------------------------------------------------------------


def as_json(judged: Sequence[Judged]) -> dict[str, object]:
    """Give everything by `schemas/check.schema.json`."""
    return {
        "schema": "evtrace-check/1",
        "passed": all(one.passed for one in judged),
        "traces": [_trace_as_json(one) for one in judged],
    }


def _trace_as_json(judged: Judged) -> dict[str, object]:
    return {
        "trace": judged.trace,
        "passed": judged.passed,
        "about": judged.about,
        "recorded": judged.recorded,
        "verdict": judged.verdict or None,
        "has_expectations": judged.has_expectations,
        "seconds": round(judged.seconds, 3),
        "difference": judged.difference or None,
        "checks": [
            {
                "name": check.name,
                "outcome": check.outcome.value,
                "message": check.message,
                "details": list(check.details),
            }
            for check in judged.checks
        ],
    }
