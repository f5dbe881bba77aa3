"""ftrace text (Linux, `cat trace` and `trace-cmd report`), line by line.

A line is `TASK-PID [CPU] FLAGS TSC: EVENT`. What surrounds the text on a console is skipped; what
does not parse inside it is counted, with an example of each kind.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from evtrace.errors import UsageError

_LINE = re.compile(
    r"\s*(?P<task>\S.*?)-(?P<pid>\d+)\s+(?:\(\s*[-\d]+\s*\)\s+)?\[(?P<cpu>\d+)\]"
    r"\s+(?:\S+\s+)?(?P<time>\d+(?:\.\d+)?):\s+(?P<event>\S.*)$",
)
_ENTRIES = re.compile(r"# entries-in-buffer/entries-written:\s*(\d+)/(\d+)")
_LOST = re.compile(r"\s*CPU:(\d+) \[LOST (\d+) EVENTS\]")
_FUNCTION = re.compile(r"(?:function:\s+)?([\w.]+)\s+<-+\s*([\w.]+)")
_NAMED = re.compile(r"([\w.:/-]+):\s*(.*)$")
_VALUE = re.compile(r"(\w+)=(\"[^\"]*\"|\S+)")


@dataclass(frozen=True, slots=True)
class Line:
    """One event of the text."""

    number: int
    task: str
    """`TASK-PID`; for the idle task of each CPU its own name."""
    cpu: int
    """The vCPU, as the guest numbers it."""
    tsc: int
    name: str
    """Event or probe name; for a traced function the function's."""
    caller: str
    """Of a traced function; empty otherwise."""
    values: dict[str, str]
    """`key=value` pairs of a probe or trace event."""


@dataclass(slots=True)
class FtraceText:
    """A whole text: its events in order, and what was not read."""

    name: str
    lines: list[Line] = field(default_factory=list)
    unparsed: Counter[str] = field(default_factory=Counter)
    """Kind of a line that did not parse -> how many."""
    examples: dict[str, str] = field(default_factory=dict)
    """Kind -> its first line, with the line's number."""
    surroundings: int = 0
    """Lines before the first event and after the last: the console's."""
    overwritten: bool = False
    """The ring was full: the oldest events are missing."""
    gaps: dict[int, list[int]] = field(default_factory=dict)
    """CPU -> numbers of the lines behind which events were lost."""


def parse_ftrace(name: str, text: Iterable[str]) -> FtraceText:
    """Read a text; `name` is for messages. Raises `UsageError` if its clock is not the TSC."""
    parsed = FtraceText(name)
    strange: list[tuple[int, str]] = []
    for number, raw in enumerate(text, 1):
        line = raw.rstrip("\r\n")
        match = _LINE.match(line)
        if match is not None:
            _settle_strange(parsed, strange)
            parsed.lines.append(_event(name, number, match))
        elif not _header(parsed, number, line) and line.strip():
            strange.append((number, line))
    parsed.surroundings += len(strange)
    return parsed


def _settle_strange(parsed: FtraceText, strange: list[tuple[int, str]]) -> None:
    """Count lines that did not parse: inside the text they are its own, before it the console's."""
    if not parsed.lines:
        parsed.surroundings += len(strange)
    else:
        for number, line in strange:
            kind = re.sub(r"\d+", "N", re.sub(r"0x[0-9a-f]+", "N", line.strip()))[:60]
            parsed.unparsed[kind] += 1
            parsed.examples.setdefault(kind, f"line {number}: {line.strip()}")
    strange.clear()


def _header(parsed: FtraceText, number: int, line: str) -> bool:
    """Take a comment of the text: it tells whether events are missing."""
    entries = _ENTRIES.match(line)
    if entries is not None:
        parsed.overwritten = int(entries[1]) < int(entries[2])
    lost = _LOST.match(line)
    if lost is not None:
        parsed.gaps.setdefault(int(lost[1]), []).append(number)
    return lost is not None or line.lstrip().startswith("#") or line.startswith("cpus=")


def _event(name: str, number: int, match: re.Match[str]) -> Line:
    if "." in match["time"]:
        message = (
            f"{name}: line {number}: the time {match['time']} is in seconds; "
            "record with `echo x86-tsc > trace_clock`, so that it can be joined with xentrace"
        )
        raise UsageError(message)
    cpu = int(match["cpu"])
    idle = match["pid"] == "0"
    task = f"<idle>/{cpu}" if idle else f"{match['task']}-{match['pid']}"
    event = match["event"]
    function = _FUNCTION.fullmatch(event)
    if function is not None:
        return Line(number, task, cpu, int(match["time"]), function[1], function[2], {})
    named = _NAMED.match(event)
    if named is None:
        return Line(number, task, cpu, int(match["time"]), event, "", {})
    values = dict(_VALUE.findall(named[2]))
    return Line(number, task, cpu, int(match["time"]), named[1], "", values)
