"""Recognition: which snapshots a text holds, told by its content."""

import re
from dataclasses import replace

from evtrace.errors import NotATraceError, UsageError
from evtrace.snapshot import Snapshot
from evtrace.tracer.importers.debug_keys import parse_dumps
from evtrace.tracer.importers.event_list import (
    EMULATED_DOMAIN,
    errors_of_qmp,
    parse_hmp,
    parse_qmp,
)
from evtrace.tracer.importers.snapshots import parse_lsevtchn

_DUMP = re.compile(r"Event channel information for domain|\d+ \[[01]/[01]/[^]]*\]: s=\d")
_LIST = re.compile(r"^.*[#$]\s*\S*lsevtchn\s+\d|^[>\s]*\d+: VCPU \d+: ", re.MULTILINE)
_OF_A_LIST = re.compile(
    r"\d+ \[|\]: s=|\d: V|vcpu:|Event chan|Polling|^(?:.*\(XEN\))?[\s>]*(?:port *)?\d+ ?$"
)
_QMP = re.compile(r'"vcpu"\s*:|"return"\s*:\s*\[')
_HMP = re.compile(r"^[>\s]*port +\d+: vcpu: \d", re.MULTILINE)


def read_snapshots(name: str, text: str, dom: int | None) -> list[Snapshot]:
    """Give the snapshots that the text of `name` holds, each kind's in order of time.

    `dom` is the domain whose ports are listed, for the kinds that do not say it. Raises
    `UsageError` if that is needed, `NotATraceError` if there is no snapshot.
    """
    lines = text.splitlines()
    cut = ""
    if lines and not text.endswith(("\n", "\r")) and _OF_A_LIST.search(lines[-1]):
        cut = lines.pop()
    found: list[Snapshot] = []
    if (first := _DUMP.search(text)) is not None:
        dom_given = None if first[0].startswith("Event") else dom
        found += _with_cut_line(_dumps(name, lines, dom_given), cut)
    if _LIST.search(text):
        found += _with_cut_line([_listed(name, lines, dom)], cut)
    emulated = EMULATED_DOMAIN if dom is None else dom
    if _QMP.search(text):
        found.append(parse_qmp(text, emulated))
    if _HMP.search(text):
        found += _with_cut_line([parse_hmp(lines, emulated)], cut)
    if not found:
        complaint = next(errors_of_qmp(text), "none of their lines")
        expected = "what debug key e, lsevtchn or xen-event-list print"
        raise NotATraceError(name, 0, expected, complaint, "check the file")
    return found


def _dumps(name: str, lines: list[str], dom: int | None) -> list[Snapshot]:
    """Give the dumps that show a domain; the list that the text starts with may be `dom`'s."""
    header = [] if dom is None else [f"Event channel information for domain {dom}:"]
    dumps = [dump for dump in parse_dumps([*header, *lines]) if dump.domains]
    if dom is not None:
        dumps[0].extent.from_start = False
        dumps[0].extent.damaged.add(dom)
    if not dumps:
        message = f"{name}: the line that says whose ports these are is missing; give DOM=FILE"
        raise UsageError(message)
    return dumps


def _listed(name: str, lines: list[str], dom: int | None) -> Snapshot:
    snapshot = parse_lsevtchn(lines, dom)
    if not snapshot.domains:
        message = f"{name}: lsevtchn does not say whose ports it lists; give DOM=FILE"
        raise UsageError(message)
    return snapshot


def _with_cut_line(snapshots: list[Snapshot], cut: str) -> list[Snapshot]:
    """Count a last line that does not end among the unread: its last number may be cut."""
    if not snapshots or not cut.strip() or snapshots[-1].extent.to_end:
        return snapshots
    last = snapshots[-1]
    extent = replace(last.extent, unread=[*last.extent.unread, cut.rstrip()])
    return [*snapshots[:-1], replace(last, extent=extent, strange=last.strange + 1)]
