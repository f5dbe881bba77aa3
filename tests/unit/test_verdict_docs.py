"""docs/causes.md explains every verdict, and no other."""

import re
from pathlib import Path

from evtrace.verdicts import Cause, Fate, Route

TEXT = (Path(__file__).parents[2] / "docs" / "causes.md").read_text()


def test_every_cause_and_fate_has_its_rule_and_no_other_has():
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", TEXT, re.MULTILINE)
    explained = {name for row in rows for name in re.findall(r"`(\w+)`", row)}

    assert {*map(str, Cause), *map(str, Fate)} == explained


def test_every_route_is_explained():
    assert [route for route in Route if f"`{route}`" not in TEXT] == []
