"""The report as plain text: fits 80 columns, can be pasted into a mail."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence

import polars as pl

from evtrace.analysis.report import TIMER_CAUSES, Report, count_of
from evtrace.replay.results import Results
from evtrace.timeline import class_names
from evtrace.tracefile.family import Timing
from evtrace.verdicts import Divergence, Finding

WIDTH = 80

LISTED_RUNS = 20
"""Runs that are listed one by one; the rest is counted."""

_TIMING_WORDS = {
    Timing.UNKNOWN: "not stated by the recording",
    Timing.SCRIPTED: "scripted, no measurement",
    Timing.MODELLED: "modelled, no measurement",
    Timing.EMULATED_CPU: "of an emulated CPU: they say nothing about hardware",
    Timing.HARDWARE: "of hardware",
}


def render(report: Report) -> str:
    """Give the whole report as text."""
    sections = [
        _wrapped(report.verdict),
        _capture(report),
        replay_lines(report.results, report.profile),
        finding_lines(report.findings),
        divergence_lines(report.divergences),
        _ports(report.channels),
        _runs(report),
        _sends(report),
        _spurious(report) if report.runs.height else [],
        _latencies(report),
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Align columns: numbers to the right, text to the left; None shows as `-`."""
    body = [["-" if cell is None else _cell(cell) for cell in row] for row in rows]
    sample = list(zip(*body, strict=True)) or [()] * len(headers)
    widths = [
        max(len(header), *(len(cell) for cell in column), 0)
        for header, column in zip(headers, sample, strict=True)
    ]
    right = [bool(column) and all(map(_is_number, column)) for column in sample]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(cells, widths, right, strict=True)
        )
        return ("  " + "  ".join(padded)).rstrip()

    return [line(headers), *(line(row) for row in body)]


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(",", "").replace(".", "").lstrip("-").isdigit()


def _capture(report: Report) -> list[str]:
    facts = report.facts
    lines = [f"Capture: {report.title}, level {report.level}"]
    if facts.tsc_hz:
        source = facts.tsc_hz_source.name.lower()
        lines[0] += f", TSC {facts.tsc_hz / 1e6:,.3f} MHz ({source})"
    for dom, (lo, hi) in sorted(facts.clock_offsets.items()):
        lines.append(f"  d{dom} has a clock of its own: host = d{dom} + [{lo}, {hi}] cycles")
    rows = (
        (_scope(dom, vcpu), " ".join(class_names(classes)), str(lo), str(hi))
        for dom, vcpu, classes, lo, hi in report.coverage.iter_rows()
    )
    return lines + table(("who", "captured", "from tsc", "to tsc"), rows)


def _scope(dom: int | None, vcpu: int | None) -> str:
    if dom is None:
        return "all"
    return f"d{dom}" if vcpu is None else f"d{dom}v{vcpu}"


def replay_lines(results: Results, profile: str) -> list[str]:
    """Give the counts of a replay against the profile of Xen called `profile`."""
    found = count_of(len(results.divergences), "divergence")
    lines = [
        f"Replay against Xen {profile}: {found}",
        (
            f"  {results.hypercalls:,} hypercalls = {results.compared:,} compared + "
            f"{results.adopted:,} adopted + {results.unknown:,} unknown + "
            f"{results.uncovered:,} uncovered;"
        ),
        f"  xentrace's own record narrows {results.with_record:,} of them",
    ]
    lines += [f"  adopted {count:,}: {why}" for why, count in sorted(results.adoptions.items())]
    if results.uncovered:
        lines.append(f"  uncovered, by vCPU: {_by_vcpu(results)}")
    for check in results.snapshot_checks:
        agrees = "agrees" if not check.differences else "DIFFERS: " + "; ".join(check.differences)
        lines.append(f"  snapshot of d{check.dom} at {check.tsc}: {agrees}")
    return lines


def _by_vcpu(results: Results) -> str:
    counts = results.uncovered_by_vcpu.most_common()
    return ", ".join(
        f"{'vCPU not known' if dom is None else f'd{dom}v{vcpu}'} {count:,}"
        for (dom, vcpu), count in counts
    )


def finding_lines(findings: list[Finding]) -> list[str]:
    """Say what is wrong and whose doing it is, the first place first."""
    if not findings:
        return []
    lines = ["Findings:"]
    for found in findings[:LISTED_RUNS]:
        what = f"{found.severity} {found.code} {found.code.name}, by the {found.blame}"
        lines.append(f"  {found.tsc} #{found.seq} {what}:")
        lines += _wrapped(found.sentence, "    ")
    if len(findings) > LISTED_RUNS:
        lines.append(f"  ... and {len(findings) - LISTED_RUNS:,} more")
    return lines


def divergence_lines(divergences: list[Divergence]) -> list[str]:
    """Show each divergence with the records around it."""
    lines: list[str] = []
    for found in divergences[:LISTED_RUNS]:
        lines += [
            (
                f"Divergence at tsc {found.tsc}, d{found.dom}v{found.vcpu}, record #{found.seq}, "
                f"byte {found.file_offset}:"
            ),
            f"  {found.what}",
            f"    expected {found.expected}",
            f"    found    {found.found}",
            *(f"    | {line}" for line in found.around),
        ]
    if len(divergences) > LISTED_RUNS:
        lines.append(f"... and {len(divergences) - LISTED_RUNS:,} more divergences")
    return lines


def _ports(channels: pl.DataFrame) -> list[str]:
    if channels.is_empty():
        return []
    others = {"dom", "port", "name", "runs", "no_work"}
    causes = [name for name in channels.columns if name not in others]
    rows = (
        (
            _port(row["dom"], row["port"]),
            (row["name"] or "-")[:16],
            row["runs"],
            row["no_work"] or "-",
            " ".join(f"{cause} {row[cause]:,}" for cause in causes if row[cause]),
        )
        for row in channels.iter_rows(named=True)
    )
    return ["Handler runs by port:", *table(("port", "handler", "runs", "no work", "causes"), rows)]


def _port(dom: int, port: int | None) -> str:
    return f"d{dom}:{'?' if port is None else port}"


def _runs(report: Report) -> list[str]:
    worth = report.runs.filter(~pl.col("cause").is_in([cause.value for cause in TIMER_CAUSES]))
    if worth.is_empty():
        return []
    shown = worth.head(LISTED_RUNS)
    lines = ["Runs, the self-explaining timers and IPIs left out:"]
    for row in shown.iter_rows(named=True):
        lines += _run(row)
    if worth.height > shown.height:
        lines.append(f"  ... and {worth.height - shown.height:,} more; --port shows one port's")
    return lines


def _run(row: dict[str, object]) -> Iterator[str]:
    routes = row["routes"]
    route = " via " + " + ".join(routes) if isinstance(routes, list) and routes else ""
    where = f"{_port(int(str(row['dom'])), _optional(row['port']))} v{row['vcpu']}"
    yield f"  {row['tsc']} {where:<9} {row['cause']}{route}"
    indent = " " * (len(str(row["tsc"])) + 3)
    yield from _wrapped(str(row["reason"]), indent)
    if row["evidence"] != "observed":
        yield from _wrapped(str(row["evidence"]), indent)


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)


def _optional(value: object) -> int | None:
    return None if value is None else int(str(value))


def _sends(report: Report) -> list[str]:
    if not report.fates:
        return []
    fates = ", ".join(f"{count:,} {fate}" for fate, count in report.fates.items())
    return [f"Sends: {report.sends.height:,}: {fates}"]


def _spurious(report: Report) -> list[str]:
    spurious = report.spurious
    rows = (
        ("L1", "upcalls in which no handler ran", _seen(spurious.l1_empty_upcalls)),
        ("L2", "runs that nobody provoked", _seen(spurious.l2_unprovoked_runs)),
        ("L3", "runs in which the driver found no work", _seen(spurious.l3_no_work)),
    )
    return ["Spurious, three kinds that are never added:", *table(("", "", ""), rows)[1:]]


def _seen(count: int | None) -> str:
    return "not observable" if count is None else f"{count:,}"


def _latencies(report: Report) -> list[str]:
    if report.latencies.is_empty():
        return []
    if report.facts.tsc_hz is None:
        return ["Latencies: the TSC's frequency is not known; none can be given in time."]
    headers = ["channel", "stage", "n", "p50", "p99", "max", "max at tsc", "±"]
    rows = [
        [
            row["channel"],
            row["stage"],
            row["count"],
            *(_microseconds(row[name]) for name in ("p50_ns", "p99_ns", "max_ns")),
            str(row["max_at_tsc"]),
            _microseconds(row["uncertainty_ns"]) if row["uncertainty_ns"] else "",
        ]
        for row in report.latencies.iter_rows(named=True)
    ]
    if not any(row[-1] for row in rows):  # one clock: nothing is uncertain
        headers, rows = headers[:-1], [row[:-1] for row in rows]
    words = _TIMING_WORDS[report.facts.timing]
    return [f"Latencies in µs; times are {words}:", *table(headers, rows)]


def _microseconds(value_ns: int | None) -> str | None:
    return None if value_ns is None else f"{value_ns / 1000:,.1f}"
