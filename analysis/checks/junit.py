"""What checks came to as JUnit XML: a suite for each trace, a case for each check.

As CI systems read it: a failed check is a failure, a trace that cannot be read an error, what
could not be judged is skipped. GitLab shows the text of these elements and not their messages,
Jenkins takes what stands behind the last dot of a `classname` for the class: so the message is in
the text, too, and there is no dot.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from evtrace.analysis.checks.judgement import Check, Judged, Outcome
from evtrace.analysis.checks.stored import Stored
from evtrace.printable import printable

_ELEMENTS = {
    Outcome.FAILED: "failure",
    Outcome.BROKEN: "error",
    Outcome.WITHHELD: "skipped",
    Outcome.UNANSWERED: "skipped",
}


def as_junit(judged: Sequence[Judged]) -> str:
    """Give everything as one `testsuites` document."""
    known = Counter(_class_name(one.trace) for one in judged)
    suites = [_suite(one, is_alone=known[_class_name(one.trace)] == 1) for one in judged]
    sums = _sums(judged)
    del sums["skipped"]  # which Jenkins' schema does not know here
    root = ET.Element("testsuites", {"name": "evtrace check", **sums})
    root.extend(suites)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(judged: Judged, *, is_alone: bool) -> ET.Element:
    suite = ET.Element("testsuite", {"name": printable(judged.trace), **_sums([judged])})
    said = {"about": judged.about, "recorded": judged.recorded, "verdict": judged.verdict}
    if any(said.values()):
        properties = ET.SubElement(suite, "properties")
    for key, value in said.items():
        if value:
            ET.SubElement(properties, "property", {"name": key, "value": printable(value)})
    name = _class_name(judged.trace) if is_alone else _without_dots(judged.trace)
    suite.extend(_case(name, check) for check in judged.checks)
    return suite


def _class_name(trace: str) -> str:
    """Give the path of a trace without its ending."""
    return _without_dots(str(Path(trace).with_name(Stored(trace).name)))


def _without_dots(path: str) -> str:
    return printable(path.removeprefix("./").replace(".", "_"))


def _sums(judged: Sequence[Judged]) -> dict[str, str]:
    counts = {"tests": sum(len(one.checks) for one in judged)}
    for name, outcomes in (
        ("failures", (Outcome.FAILED,)),
        ("errors", (Outcome.BROKEN,)),
        ("skipped", (Outcome.WITHHELD, Outcome.UNANSWERED)),
    ):
        counts[name] = sum(len(one.of(*outcomes)) for one in judged)
    seconds = sum(one.seconds for one in judged)
    return {name: str(count) for name, count in counts.items()} | {"time": f"{seconds:.3f}"}


def _case(trace: str, check: Check) -> ET.Element:
    case = ET.Element("testcase", {"classname": trace, "name": printable(check.name), "time": "0"})
    element = _ELEMENTS.get(check.outcome)
    if element is not None:
        message = printable(check.message)
        if check.outcome is Outcome.WITHHELD:
            message += "; withheld: the capture, which is not as expected, can explain it"
        told = {"message": message} | ({} if element == "skipped" else {"type": element})
        ET.SubElement(case, element, told).text = "\n".join(
            [message, *map(printable, check.details)]
        )
    return case
