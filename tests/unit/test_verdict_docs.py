"""The documentation explains every verdict and every finding, and no other."""

import re
from pathlib import Path

from evtrace.verdicts import Cause, Fate, FindingCode, Route

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "causes.md").read_text()


def test_every_cause_and_fate_has_its_rule_and_no_other_has():
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", TEXT, re.MULTILINE)
    explained = {name for row in rows for name in re.findall(r"`(\w+)`", row)}

    assert {*map(str, Cause), *map(str, Fate)} == explained


def test_every_route_is_explained():
    assert [route for route in Route if f"`{route}`" not in TEXT] == []


def test_every_finding_has_its_number_and_severity():
    rows = re.findall(
        r"^\| `(EVT\d+)` \| `(\w+)` \| (\w+) \|", (DOCS / "faults.md").read_text(), re.MULTILINE
    )

    assert [(code.value, code.name, code.severity.value) for code in FindingCode] == rows


def test_a_number_says_whose_doing_it_is():
    hundreds = {code.blame: code.value[:4] for code in FindingCode}

    assert {"hypervisor": "EVT2", "guest": "EVT3", "capture": "EVT4"} == hundreds
