"""ftrace text (Linux: `cat trace`, and what `trace-cmd report` prints), line by line.

A line is `TASK-PID [CPU] FLAGS TSC: EVENT`. What surrounds the text on a console is skipped; what
does not parse inside it is counted, with an example of each kind.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from evtrace.errors import NotATraceError, UsageError

_LINE = re.compile(
    r"\s*(?P<task>\S.*?)-(?P<pid>\d+)\s+(?:\(\s*[-\d]+\s*\)\s+)?\[(?P<cpu>\d+)\]"
    r"\s*(?:(?P<flags>\S+)\s+)?(?P<time>\d+(?:\.\d+)?):\s+(?P<event>\S.*?)\s*$",
)
_CUT_LINE = re.compile(r"\s*\S.*?-\d+\s+(?:\(\s*[-\d]+\s*\)\s+)?\[\d+\]")
_CONSOLE = re.compile(r"(?:<\d>)?\[\s*\d+\.\d+\]|\(XEN\)|(?:version|cpus) *=")
_ENTRIES = re.compile(r"# entries-in-buffer/entries-written:\s*(\d+)/(\d+)")
_LOST = re.compile(r"\s*CPU:(\d+) \[(?:LOST \d+ EVENTS|(?:\d+ )?EVENTS DROPPED)\]")
_SYMBOL = r"([\w.$]+)(?:\+0x[\da-f]+(?:/0x[\da-f]+)?)?(?: \[\w+\])?"
_FUNCTION = re.compile(rf"(?:function:\s+)?{_SYMBOL}\s+<-+\s*{_SYMBOL}")
_BARE_FUNCTION = re.compile(rf"function:\s+{_SYMBOL}")
_NAMED = re.compile(r"([\w.:/-]+):\s*(.*)$")
_VALUE = re.compile(r"(\w+)=(\"[^\"]*\"|\S+)")
_HANDLER = re.compile(r"irq=(\S+) name=(.*)")

LISTED_MARK = "evtrace=listed"
"""What stands in the text where a list of the channels, begun inside it, was complete."""

_MAX_KINDS = 20
"""Kinds of unparsed lines told apart; binary rubbish would make a kind of every line."""


@dataclass(frozen=True, slots=True)
class Line:
    """One event of the text."""

    number: int
    task: str
    """The task's PID, whose name may change; for the idle task of each CPU a name of its own."""
    cpu: int
    """The vCPU, as the guest numbers it."""
    in_irq: bool | None
    """Whether a hardware interrupt was being handled; None if the flags do not tell."""
    tsc: int
    name: str
    """Event or probe name; for a traced function the function's."""
    caller: str
    """Of a traced function; empty otherwise."""
    values: dict[str, str]
    """`key=value` pairs of a probe or trace event."""

    @property
    def context(self) -> tuple[str, bool]:
        """What the CPU was doing: an interrupt's code is not that of the task it interrupts."""
        return self.task, bool(self.in_irq)

    @property
    def is_listed_mark(self) -> bool:
        """Tell whether it is the `LISTED_MARK`."""
        return self.name == "tracing_mark_write" and self.values.get("evtrace") == "listed"


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
    """Lines of the console around the text and in it."""
    overwritten: bool = False
    """The ring was full: the oldest events are missing."""
    gaps: list[tuple[int, int]] = field(default_factory=list)
    """(CPU, number of the line) where the ring says that events of the CPU were lost."""

    def complain(self, number: int, line: str) -> None:
        """Count a line that could not be read, and keep the first of its kind."""
        kind = re.sub(r"\d+", "N", re.sub(r"0x[0-9a-f]+", "N", line.strip()))[:60]
        if kind not in self.unparsed and len(self.unparsed) >= _MAX_KINDS:
            kind = "other lines"
        self.unparsed[kind] += 1
        self.examples.setdefault(kind, f"line {number}: {line.strip()[:200]}")


def parse_ftrace(name: str, text: Iterable[str]) -> FtraceText:
    """Read a text; `name` is for messages. The events come in order of time.

    Raises `UsageError` if its clock is not the TSC, `NotATraceError` if it is no ftrace text.
    """
    parsed = FtraceText(name)
    strange: list[tuple[int, str]] = []
    is_ftrace = False
    for number, raw in enumerate(text, 1):
        line = raw.rstrip("\r\n")
        match = _LINE.match(line)
        if match is not None:
            _settle_strange(parsed, strange)
            parsed.lines.append(_event(name, number, match))
        elif _header(parsed, number, line):
            is_ftrace = is_ftrace or line.startswith("# tracer:")
        elif _CUT_LINE.match(line):
            parsed.complain(number, line)
        elif _CONSOLE.match(line):
            parsed.surroundings += 1
        elif line.strip():
            strange.append((number, line))
    parsed.surroundings += len(strange)
    parsed.lines.sort(key=lambda line: line.tsc)  # a pipe may give a late CPU's lines late
    if not parsed.lines and not is_ftrace:
        found = f"{parsed.surroundings} lines that are none"
        hint = "give what `cat /sys/kernel/tracing/trace` printed in the domain"
        raise NotATraceError(name, 0, "lines of ftrace text", found, hint)
    return parsed


def _settle_strange(parsed: FtraceText, strange: list[tuple[int, str]]) -> None:
    """Count lines that did not parse: inside the text they are its own, before it the console's."""
    if not parsed.lines:
        parsed.surroundings += len(strange)
    else:
        for number, line in strange:
            parsed.complain(number, line)
    strange.clear()


def _header(parsed: FtraceText, number: int, line: str) -> bool:
    """Take a comment of the text: it tells whether events are missing."""
    entries = _ENTRIES.match(line)
    if entries is not None:
        parsed.overwritten = int(entries[1]) < int(entries[2])
    lost = _LOST.match(line)
    if lost is not None:
        parsed.gaps.append((int(lost[1]), number))
    return lost is not None or line.lstrip().startswith("#")


def _event(name: str, number: int, match: re.Match[str]) -> Line:
    if "." in match["time"]:
        message = (
            f"{name}: line {number}: the time {match['time']} is in seconds; "
            "record with `echo x86-tsc > trace_clock`, so that it can be joined with xentrace"
        )
        raise UsageError(message)
    cpu = int(match["cpu"])
    task = f"<idle>/{cpu}" if match["pid"] == "0" else match["pid"]
    what, caller, values = _what(match["event"])
    return Line(
        number, task, cpu, _in_irq(match["flags"]), int(match["time"]), what, caller, values
    )


def _in_irq(flags: str | None) -> bool | None:
    """Read the third flag: h and H are a hardware interrupt, s and . none, z and Z an NMI."""
    if flags is None or len(flags) < 4:
        return None
    return {"h": True, "H": True, "s": False, ".": False}.get(flags[2])


def _what(event: str) -> tuple[str, str, dict[str, str]]:
    """Split an event into its name, its caller and its values."""
    function = _FUNCTION.fullmatch(event)
    if function is not None:
        return function[1], function[2], {}
    bare = _BARE_FUNCTION.fullmatch(event)
    if bare is not None:
        return bare[1], "", {}
    named = _NAMED.match(event)
    if named is None:
        return event, "", {}
    name = named[1].rpartition(":")[2].rpartition("/")[2]
    handler = _HANDLER.fullmatch(named[2]) if name == "irq_handler_entry" else None
    if handler is not None:  # an action's name may hold spaces
        return name, "", {"irq": handler[1], "name": handler[2]}
    return name, "", dict(_VALUE.findall(named[2]))
