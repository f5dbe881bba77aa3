"""What the two traces are, and what is not alike in how they were made."""

from collections.abc import Iterator

from evtrace.analysis.diff.aligned import Alignment, port_name
from evtrace.analysis.diff.latencies import refusal
from evtrace.analysis.diff.side import Side
from evtrace.analysis.sentence import count_of
from evtrace.timeline import RecordClass, class_names
from evtrace.verdicts import Blame

_FORMS = {0: "2-level", 1: "FIFO"}
_LISTED = 6
_NEEDED = ~(RecordClass.HYPERCALL | RecordClass.SCHED | RecordClass.HVM | RecordClass.IRQ)
"""What verdicts and times rest on."""


def head(side: Side) -> str:
    """Say in a line how large a trace is and where it comes from."""
    facts = side.source.facts
    results = side.source.results
    parts = [f"level {side.level}"]
    parts += ["Xen {}.{}".format(*facts.xen_version)] if facts.xen_version else []
    forms = sorted({_FORMS.get(form, "?") for form in facts.forms.values()})
    parts += ["+".join(forms)] if forms else []
    parts += [f"{side.seconds:.3g} s"] if side.seconds is not None else []
    parts += [count_of(len(results.sends), "send"), count_of(len(results.runs), "run")]
    return ", ".join(parts)


def remarks(a: Side, b: Side, alignment: Alignment) -> list[str]:
    """List what is not alike, what therefore is not compared, and how numbers were paired."""
    return [*_unlike(a, b), *limits(a, b), *_paired(alignment)]


def limits(a: Side, b: Side) -> list[str]:
    """List what in the captures stands in the way of comparing them."""
    refused = refusal(a, b)
    return [
        *([refused] if refused else []),
        *_captures(a, b),
        *(line for name, side in (("A", a), ("B", b)) for line in _spoilt(name, side)),
    ]


def _unlike(a: Side, b: Side) -> Iterator[str]:
    one, other = a.source, b.source
    if one.facts.xen_version != other.facts.xen_version:
        versions = (
            "{}.{}".format(*side.facts.xen_version) if side.facts.xen_version else "?"
            for side in (one, other)
        )
        yield f"Xen {' → '.join(versions)}; replayed against {one.profile} and {other.profile}"
    for dom in sorted(one.facts.forms.keys() & other.facts.forms.keys()):
        if one.facts.forms[dom] != other.facts.forms[dom]:
            forms = (_FORMS.get(side.facts.forms[dom], "?") for side in (one, other))
            yield f"d{dom} has {' → '.join(forms)} event channels: what it does, and costs, differs"
    types = one.facts.guest_types, other.facts.guest_types
    for dom in sorted(types[0].keys() & types[1].keys()):
        if types[0][dom] != types[1][dom]:
            yield f"d{dom} is {types[0][dom].name} → {types[1][dom].name}"


def tell_alike(a: Side, b: Side) -> bool:
    """Whether both captures hold the same records, so that what one lacks did not happen."""
    damaged = a.damaged or b.damaged
    return not damaged and not list(_captures(a, b))


def _captures(a: Side, b: Side) -> Iterator[str]:
    """Say which records only one capture has: what needs them cannot be compared."""
    one, other = (RecordClass(side.source.coverage.classes()) & _NEEDED for side in (a, b))
    for name, missing in (("A", other & ~one), ("B", one & ~other)):
        if missing:
            names = ", ".join(class_names(missing))
            yield f"{name} has no {names} records; what needs them is not compared"


def _spoilt(name: str, side: Side) -> Iterator[str]:
    if side.damaged:
        yield f"{name} is damaged: what is missing there may be missing from the file only"
    for finding in side.source.results.findings:
        if finding.blame is Blame.CAPTURE:
            yield f"{name}: {finding.sentence}"
            return


def _paired(alignment: Alignment) -> Iterator[str]:
    renumbered = alignment.renumbered
    if renumbered:
        pairs = [f"{a}={b}" for a, b in renumbered]
        more = f" and {len(pairs) - _LISTED} more" if len(pairs) > _LISTED else ""
        yield f"other numbers in B, shown as in A: {', '.join(pairs[:_LISTED])}{more}"
    for doubt in alignment.doubts[:_LISTED]:
        yield f"not sure: {doubt}; --map says otherwise"
    for name, ports in (("A", alignment.only_a), ("B", alignment.only_b)):
        if ports:
            names = ", ".join(port_name(port.end) for port in ports[:_LISTED])
            more = f" and {len(ports) - _LISTED} more" if len(ports) > _LISTED else ""
            yield f"ports only in {name}: {names}{more}"
