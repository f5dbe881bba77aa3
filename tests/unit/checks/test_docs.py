"""The examples of docs/check.md and docs/ci.md can be read."""

import re
import textwrap
from pathlib import Path

from evtrace.analysis.checks.expectations import read_expectations, verdict_sets
from evtrace.analysis.checks.quantities import QUANTILES, quantities
from evtrace.analysis.checks.rulefile import read_rules

DOCS = Path(__file__).parents[3] / "docs"


def examples(name, start):
    """Give the indented blocks of a page that begin with a text."""
    text = (DOCS / name).read_text()
    blocks = re.findall(r"(?:^    .*\n|^\n)+", text, re.MULTILINE)
    return [block for block in map(textwrap.dedent, blocks) if block.lstrip().startswith(start)]


def test_the_expectations_that_are_shown_can_be_read(tmp_path):
    (text,) = examples("check.md", "about")
    path = tmp_path / "x.toml"
    path.write_text(text)
    expected = read_expectations(path)

    assert ("4.17", 3, 1) == (expected.xen, len(expected.tokens), len(expected.rules))
    assert ["0.1"] == [str(want.tolerance.share) for want in expected.latencies]


def test_the_rules_that_are_shown_can_be_read(tmp_path):
    path = tmp_path / "rules.toml"
    shown = [text for name in ("check.md", "ci.md") for text in examples(name, "[[rule]]")]
    for text in shown:
        path.write_text(text)
        assert len(read_rules(path)) == text.count("[[rule]]")

    assert len(shown) == 2


def test_everything_that_can_be_asked_for_is_listed():
    text = (DOCS / "check.md").read_text()
    names = {name for name in quantities() if "." not in name} | set(QUANTILES)

    assert [name for name in names if f"`{name}`" not in text] == []
    assert [which for which in verdict_sets() if f"`{which}." not in text] == []
