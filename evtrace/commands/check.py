"""`evtrace check`: stored traces against what is expected of them, for CI."""

import json
import os
import signal
import time
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum, unique
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evtrace.errors import EvtraceError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evtrace.analysis.checks.judgement import Judged
    from evtrace.analysis.checks.rules import Rule
    from evtrace.analysis.checks.stored import Stored


@unique
class CheckFormat(StrEnum):
    """What the outcome is printed as."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"
    JUNIT = "junit"


def check(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Traces, or folders of NAME.bin or NAME.bin.zst."),
    ],
    rules: Annotated[
        Path | None,
        typer.Option("--rules", metavar="RULES.toml", help="Rules that all traces have to keep."),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Rewrite NAME.toml to what is found; show the changes.")
    ] = False,
    form: Annotated[
        CheckFormat, typer.Option("--format", help="What to print it as.")
    ] = CheckFormat.TEXT,
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", min=1, help="Traces at a time; else one a CPU.")
    ] = None,
) -> None:
    """Hold stored traces to their expectations and to rules; exit 1 if one fails.

    What is expected of NAME.bin stands in NAME.toml beside it. Without, there must be no damage,
    no divergence and no finding.
    """
    from evtrace.analysis.checks.forms import summary, trace_lines  # noqa: PLC0415  when it runs
    from evtrace.analysis.checks.rulefile import read_rules  # noqa: PLC0415
    from evtrace.analysis.checks.stored import find_traces  # noqa: PLC0415

    stored = find_traces(paths)
    read = read_rules(rules) if rules else []
    judged: list[Judged] = []
    for one in judge_all(stored, read, jobs or os.cpu_count() or 1, update=update):
        judged.append(one)
        if form is CheckFormat.TEXT:
            print("\n".join(trace_lines(one)), flush=True)  # noqa: T201  a command prints
    judged.sort(key=lambda one: one.trace)
    unanswered = judge_rules(str(rules), read, judged)
    if unanswered is not None:
        judged.append(unanswered)
    if form is CheckFormat.TEXT:
        last = [] if unanswered is None else trace_lines(unanswered)
        print("\n".join([*last, summary(judged)]))  # noqa: T201
    else:
        print(_render(judged, form).removesuffix("\n"))  # noqa: T201
    if not all(one.passed for one in judged):
        raise typer.Exit(ExitCode.FINDING)


def _render(judged: "Sequence[Judged]", form: CheckFormat) -> str:
    from evtrace.analysis.checks.forms import as_json, as_markdown  # noqa: PLC0415  when it runs
    from evtrace.analysis.checks.junit import as_junit  # noqa: PLC0415

    match form:
        case CheckFormat.MARKDOWN:
            return as_markdown(judged)
        case CheckFormat.JUNIT:
            return as_junit(judged)
        case _:
            return json.dumps(as_json(judged), indent=2)


def judge_rules(file: str, rules: "Sequence[Rule]", judged: "Sequence[Judged]") -> "Judged | None":
    """Fail the rules that no trace could answer: they guard nothing."""
    from evtrace.analysis.checks.judgement import Check, Judged, Outcome  # noqa: PLC0415

    answered = {
        check.name
        for one in judged
        for check in one.checks
        if check.outcome is not Outcome.UNANSWERED
    }
    message = "no trace can answer it: what it asks about was not observed in any"
    idle = [
        Check(name, Outcome.FAILED, message)
        for rule in rules
        if (name := f"rule {rule.name}") not in answered
    ]
    return Judged(file, tuple(idle), is_rules=True) if idle else None


# --- many traces at once -----------------------------------------------------------------------


def judge_all(
    stored: "Sequence[Stored]", rules: "Sequence[Rule]", jobs: int, *, update: bool
) -> "Iterator[Judged]":
    """Judge traces in processes of their own, and give each when it is done.

    What goes wrong with one, up to the death of its process, is that one's failure.
    """
    alone = list(stored) if len(stored) == 1 else []
    if not alone:
        with _processes(min(jobs, len(stored))) as pool:
            futures = {pool.submit(judge_stored, one, rules, update=update): one for one in stored}
            for future in as_completed(futures):
                if isinstance(future.exception(), BrokenProcessPool):
                    alone.append(futures[future])
                else:
                    yield _outcome(futures[future], future)
    for one in alone:  # one of them ended the processes; which one shows when each has its own
        with _processes(1) as pool:
            future = pool.submit(judge_stored, one, rules, update=update)
            yield _outcome(one, future)


@contextmanager
def _processes(jobs: int) -> "Iterator[ProcessPoolExecutor]":
    """Start processes that share nothing with this one: polars has threads, which no fork keeps."""
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_leave_ctrl_c)
    try:
        yield pool
    except KeyboardInterrupt:
        for process in active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_ctrl_c() -> None:
    """Let the parent alone be interrupted."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _outcome(stored: "Stored", future: "Future[Judged]") -> "Judged":
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, BrokenProcessPool):
        return _broken(stored, "its process died while it was judged: out of memory, or killed")
    return _broken(stored, f"evtrace failed at it: {type(error).__name__}: {error}")


def _broken(stored: "Stored", message: str) -> "Judged":
    from evtrace.analysis.checks.judgement import Check, Judged, Outcome  # noqa: PLC0415

    return Judged(stored.path, (Check("readable", Outcome.BROKEN, message),))


# --- one trace ---------------------------------------------------------------------------------


def judge_stored(stored: "Stored", rules: "Sequence[Rule]", *, update: bool = False) -> "Judged":
    """Judge one trace; what cannot be read of it is its failure."""
    start = time.perf_counter()
    asked = [rule for rule in rules if rule.is_about(stored.name)]
    try:
        judged = _judge(stored, asked, update=update)
    except EvtraceError as error:
        judged = _broken(stored, str(error))
    seconds = time.perf_counter() - start
    return replace(judged, seconds=seconds)


def _judge(stored: "Stored", rules: "Sequence[Rule]", *, update: bool) -> "Judged":
    from evtrace.analysis.checks.expectations import Expectations, read_expectations  # noqa: PLC0415
    from evtrace.analysis.checks.judgement import Evidence, Judged, judge  # noqa: PLC0415
    from evtrace.api import Trace  # noqa: PLC0415

    has_expectations = stored.expectations.exists()
    path = stored.expectations
    expected = read_expectations(path) if has_expectations else Expectations()
    with Trace(stored.path) as trace:
        evidence = Evidence(trace.report(expected.xen), trace.reader)
        difference = ""
        if update:
            from evtrace.analysis.checks.update import update_expectations  # noqa: PLC0415

            difference = update_expectations(path, expected, evidence)
            expected = read_expectations(path)
        checks = judge(evidence, expected, rules)
    return Judged(
        stored.path,
        tuple(checks),
        evidence.report.verdict,
        expected.about,
        expected.recorded,
        has_expectations=has_expectations or update,
        difference=difference,
    )
