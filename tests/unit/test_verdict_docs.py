"""The documentation explains every verdict and every finding, and no other."""

import re
from pathlib import Path

import pytest

from evtrace.verdicts import (
    Cause,
    EoiDelay,
    Fate,
    FindingCode,
    Route,
    UpcallVerdict,
    WorkCause,
)

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "causes.md").read_text()


SECTIONS = {
    "Why a handler ran": [*Cause, *Route],
    "Why an upcall was empty": UpcallVerdict,
    "What a driver found": [*WorkCause, *EoiDelay],
    "What became of a send": Fate,
}


@pytest.mark.parametrize(("heading", "members"), SECTIONS.items())
def test_every_member_has_its_rule_and_no_other_has(heading, members):
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section, re.MULTILINE)
    explained = [name for row in rows for name in re.findall(r"`(\w+)`", row)]

    assert sorted(map(str, members)) == sorted(explained)


def test_every_finding_has_its_number_and_severity():
    rows = re.findall(
        r"^\| `(EVT\d+)` \| `(\w+)` \| (\w+) \|", (DOCS / "faults.md").read_text(), re.MULTILINE
    )

    assert [(code.value, code.name, code.severity.value) for code in FindingCode] == rows


def test_a_number_says_whose_doing_it_is():
    hundreds = {code.blame: code.value[:4] for code in FindingCode}

    assert {"hypervisor": "EVT2", "guest": "EVT3", "capture": "EVT4"} == hundreds
