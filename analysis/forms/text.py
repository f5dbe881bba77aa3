"""The report as plain text that can be pasted into a mail."""

import textwrap
from collections.abc import Callable, Iterator, Sequence

from evtrace.analysis.outliers.explained import outlier_lines
from evtrace.analysis.report import Report
from evtrace.analysis.sentence import count_of
from evtrace.analysis.tables import Table
from evtrace.replay.results import Results
from evtrace.verdicts import Divergence, Finding

WIDTH = 80

LISTED = 20
"""Findings and divergences that are listed one by one; the rest is counted."""

_OWN_FORM = {"coverage", "findings", "divergences", "outliers", "outlier_chains"}
"""Tables that a whole report shows in a form of their own."""


def render(report: Report) -> str:
    """Give the whole report as text."""
    source = report.source
    sections = [
        _wrapped(report.verdict),
        _capture(report),
        replay_lines(source.results, source.profile),
        finding_lines(source.results.findings),
        divergence_lines(source.results.divergences),
        _sends(report),
        list(outlier_lines(report.outliers)) if report.outliers else [],
        *(table_lines(table) for table in report.tables if table.name not in _OWN_FORM),
    ]
    return _joined(sections)


def render_tables(tables: Sequence[Table]) -> str:
    """Give some tables as text, with all their rows."""
    return _joined(
        [
            [f"{table.title}: none."] if table.is_empty else _grid_section(table.whole())
            for table in tables
        ],
    )


def _joined(sections: Sequence[Sequence[str]]) -> str:
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def table_lines(table: Table) -> list[str]:
    """Give a table as lines, in the form that suits it; nothing of one that has no rows."""
    if table.is_empty or not table.listed:
        return []
    return _FORMS.get(table.name, _grid_section)(table)


def _grid_section(table: Table) -> list[str]:
    lines = [f"{table.title}:", *grid(table)]
    if table.unlisted:
        lines.append(f"  ... and {table.unlisted:,} more; --table {table.name} shows them")
    return lines + _wrapped(table.note, "  ")


def grid(table: Table) -> list[str]:
    """Align the columns of a table: numbers to the right, text to the left."""
    body = list(table.cells())
    headings = table.headings()
    columns = zip(headings, *body, strict=True)
    widths = [max(map(len, column)) for column in columns]
    right = [table.is_number(name) for name in table.shown]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(cells, widths, right, strict=True)
        )
        return ("  " + "  ".join(padded)).rstrip()

    return [line(headings), *(line(row) for row in body)]


def _run_list(table: Table) -> list[str]:
    """List runs, each with its reason below it."""
    lines = [f"{table.title}:"]
    for row in table.frame.head(table.listed).iter_rows(named=True):
        lines += _run(row)
    if table.unlisted:
        lines.append(f"  ... and {table.unlisted:,} more; --port shows one port's")
    return lines


def _run(row: dict[str, object]) -> Iterator[str]:
    routes = row["routes"]
    route = " via " + " + ".join(routes) if isinstance(routes, list) and routes else ""
    who = f" ({row['work_cause']})" if row["work_cause"] else ""
    work = f", {row['work']}{who}" if row["work"] else ""
    work += f", {row['eoi_delay']}" if row["eoi_delay"] else ""
    yield f"  {row['tsc']} {row['port']} {row['vcpu']}  {row['cause']}{route}{work}"
    indent = " " * (len(str(row["tsc"])) + 3)
    yield from _wrapped(str(row["reason"]), indent)
    if row["evidence"] != "observed":
        yield from _wrapped(str(row["evidence"]), indent)


_FORMS: dict[str, Callable[[Table], list[str]]] = {"notable_runs": _run_list}


def _capture(report: Report) -> list[str]:
    source = report.source
    facts = source.facts
    lines = [f"Capture: {source.title}, level {report.level}"]
    if facts.tsc_hz:
        origin = facts.tsc_hz_source.name.lower()
        lines[0] += f", TSC {facts.tsc_hz / 1e6:,.3f} MHz ({origin})"
    for dom, (lo, hi) in sorted(facts.clock_offsets.items()):
        lines.append(f"  d{dom} has a clock of its own: host = d{dom} + [{lo}, {hi}] cycles")
    return lines + grid(report.table("coverage"))


def _sends(report: Report) -> list[str]:
    if not report.fates:
        return []
    fates = ", ".join(f"{count:,} {fate}" for fate, count in report.fates.items())
    return [f"Sends: {report.sends.height:,}: {fates}"]


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
    for found in findings[:LISTED]:
        what = f"{found.severity} {found.code} {found.code.name}, by the {found.blame}"
        lines.append(f"  {found.tsc} #{found.seq} {what}:")
        lines += _wrapped(found.sentence, "    ")
    if len(findings) > LISTED:
        lines.append(f"  ... and {len(findings) - LISTED:,} more")
    return lines


def divergence_lines(divergences: list[Divergence]) -> list[str]:
    """Show each divergence with the records around it."""
    lines: list[str] = []
    for found in divergences[:LISTED]:
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
    if len(divergences) > LISTED:
        lines.append(f"... and {len(divergences) - LISTED:,} more divergences")
    return lines


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
