"""The examples of the documentation give what they say."""

import doctest
from dataclasses import fields
from pathlib import Path

from evtrace.xen.profiles import Profile

MODEL = Path(__file__).parents[3] / "docs" / "model.md"
PROFILES = Path(__file__).parents[3] / "docs" / "profiles.md"


def test_examples_of_the_model():
    failed, tried = doctest.testfile(str(MODEL), module_relative=False)
    assert failed == 0
    assert tried > 60


def test_every_quirk_is_documented():
    text = PROFILES.read_text()
    missing = [f.name for f in fields(Profile) if f.name != "name" and f"`{f.name}`" not in text]
    assert missing == []
