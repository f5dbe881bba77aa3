"""`evtrace info`: what is in a trace, without sorting it."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from evtrace.commands.options import Format, TracePath, warn_of_damage

if TYPE_CHECKING:
    from evtrace.timeline import RecordClass
    from evtrace.tracefile.facts import Coverage
    from evtrace.tracefile.reader import TraceReader


def info(
    trace: TracePath,
    output: Annotated[Format, typer.Option("--format", help="Text or JSON.")] = Format.TEXT,
) -> None:
    """Say what a trace holds: records by event, CPUs, times, gaps, damage, and how complete."""
    from evtrace.tracefile.reader import open_trace  # noqa: PLC0415  loaded when the command runs

    with open_trace(trace) as reader:
        if output is Format.JSON:
            print(json.dumps(as_json(reader), indent=2))  # noqa: T201  a command prints
        else:
            print("\n".join(as_text(reader)))  # noqa: T201
        warn_of_damage(trace, reader.damage)


def as_json(reader: "TraceReader") -> dict[str, object]:
    """Give what a trace holds by `schemas/info.schema.json`."""
    from evtrace.tracefile.events import event_name  # noqa: PLC0415  loads construct

    survey, facts = reader.survey, reader.facts
    first, last = survey.extent or (None, None)
    events = survey.records_by_event.most_common()
    return {
        "schema": "evtrace-info/1",
        "trace": reader.name,
        "bytes": reader.size_bytes,
        "windows": len(reader.windows),
        "records": survey.records,
        "records_by_event": {f"{event:08x}": count for event, count in events},
        "event_names": {f"{event:08x}": event_name(event) for event, _ in events},
        "pcpus": len(survey.pcpus),
        "records_by_stream": {str(s): n for s, n in sorted(survey.records_by_stream.items())},
        "lost_records": sum(gap.count for gap in survey.lost),
        "gaps": [asdict(gap) for gap in survey.lost],
        "damage": [asdict(found) for found in reader.damage],
        "tsc_first": first,
        "tsc_last": last,
        "tsc_hz": facts.tsc_hz,
        "tsc_hz_source": facts.tsc_hz_source.name.lower(),
        "duration_s": _seconds(reader),
        "timing": facts.timing.name.lower(),
        "level": reader.coverage.overall_level(),
        "coverage": [coverage_json(interval) for interval in reader.coverage.intervals],
        "domains": [domain_json(reader, dom) for dom in domains(reader)],
        "xen_version": ".".join(map(str, facts.xen_version)) if facts.xen_version else None,
        "sources": facts.sources,
        "unknown_family_records": survey.unknown_kinds + facts.unknown_records,
        "unparsed_lines": facts.unparsed_lines,
    }


def domains(reader: "TraceReader") -> list[int]:
    """Name the domains that the trace speaks of."""
    seen = {dom for dom, _ in reader.survey.vcpus}
    return sorted(seen | {c.dom for c in reader.facts.coverage if c.dom is not None})


def coverage_json(interval: "Coverage") -> dict[str, object]:
    """Give an interval of coverage, its classes by name."""
    return asdict(interval) | {"classes": class_names(interval.classes)}


def class_names(classes: "RecordClass") -> list[str]:
    """Name the classes in a set of them."""
    return [cls.name.lower() for cls in classes if cls.name]


def domain_json(reader: "TraceReader", dom: int) -> dict[str, object]:
    """Give what the trace says of one domain."""
    facts = reader.facts
    seen = sum(owner == dom for owner, _ in reader.survey.vcpus)
    form = facts.forms.get(dom)
    guest = facts.guest_types.get(dom)
    offset = facts.clock_offsets.get(dom)
    return {
        "dom": dom,
        "name": facts.domain_names.get(dom),
        "vcpus": facts.vcpus.get(dom, seen),
        "form": None if form is None else ("fifo" if form else "2-level"),
        "guest_type": None if guest is None else guest.name.lower(),
        "level": reader.coverage.level(dom),
        "clock_offset": None if offset is None else list(offset),
    }


def as_text(reader: "TraceReader") -> Iterator[str]:
    """Give what a trace holds as lines of text."""
    yield from _summary(reader)
    yield from _domain_lines(reader)
    for gap in reader.survey.lost:
        ran = "" if gap.dom is None else f", d{gap.dom}v{gap.vcpu} running at the end"
        span = f"{gap.first_tsc}..{gap.tsc}"
        yield f"lost      {gap.count:,} records of pcpu {gap.pcpu}, tsc {span}{ran}"
    yield from _event_lines(reader)


def _summary(reader: "TraceReader") -> Iterator[str]:
    survey, facts = reader.survey, reader.facts
    size, windows = reader.size_bytes, len(reader.windows)
    held = f"{size:,} bytes, {windows:,} windows, {survey.records:,} records"
    yield f"trace     {reader.name}: {held}"
    by_pcpu = (f"{pcpu}: {survey.records_by_stream[pcpu]:,}" for pcpu in survey.pcpus)
    yield f"pcpus     {len(survey.pcpus)} ({', '.join(by_pcpu)} records)"
    if survey.extent:
        seconds = _seconds(reader)
        took = "" if seconds is None else f", {seconds:.3f} s"
        yield f"time      tsc {survey.extent[0]}..{survey.extent[1]}{took}"
    if facts.tsc_hz:
        yield f"tsc       {facts.tsc_hz / 1e6:,.3f} MHz ({facts.tsc_hz_source.name.lower()})"
    else:
        yield "tsc       frequency unknown"
    if facts.xen_version:
        yield f"xen       {'.'.join(map(str, facts.xen_version))}"
    yield f"level     {reader.coverage.overall_level()}"
    for source in facts.sources:
        yield f"source    {source}"
    unknown = survey.unknown_kinds + facts.unknown_records
    if unknown:
        yield f"skipped   {unknown:,} records of evtrace's family that this version does not know"


def _domain_lines(reader: "TraceReader") -> Iterator[str]:
    for dom in domains(reader):
        told = domain_json(reader, dom)
        parts = [str(told[key]) for key in ("name", "guest_type", "form") if told[key]]
        classes = class_names(reader.coverage.classes(dom))
        parts.append(f"{told['vcpus']} vcpus, level {told['level']}: {' '.join(classes)}")
        yield f"d{dom:<8} {', '.join(parts)}"
        if told["clock_offset"]:
            lo, hi = reader.facts.clock_offsets[dom]
            yield f"          host tsc = its tsc + [{lo}, {hi}]"


def _event_lines(reader: "TraceReader") -> Iterator[str]:
    from evtrace.tracefile.events import event_name  # noqa: PLC0415  loads construct

    yield ""
    for event, count in reader.survey.records_by_event.most_common():
        yield f"{count:>12,}  {event:08x}  {event_name(event)}"


def _seconds(reader: "TraceReader") -> float | None:
    extent, tsc_hz = reader.survey.extent, reader.facts.tsc_hz
    return None if extent is None or tsc_hz is None else (extent[1] - extent[0]) / tsc_hz
