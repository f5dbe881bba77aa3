"""Colours: every cause has its own, and each can be seen on light ground and on dark."""

import re
from pathlib import Path

import pytest

from evtrace.analysis.page import colours
from evtrace.analysis.page.colours import CAUSE_COLOURS, CHANNEL_COLOURS, cause_legend
from evtrace.verdicts import Cause

CSS = (Path(colours.__file__).parent / "page.css").read_text()
GROUNDS = re.findall(r"--ground: (#\w{6})", CSS)


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    high, low = sorted([luminance(one), luminance(other)], reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_each_cause_has_a_colour_of_its_own():
    assert set(Cause) == set(CAUSE_COLOURS)
    assert len(CAUSE_COLOURS) == len(set(CAUSE_COLOURS.values()))


@pytest.mark.parametrize("ground", sorted(set(GROUNDS)))
@pytest.mark.parametrize("colour", sorted({*CAUSE_COLOURS.values(), *CHANNEL_COLOURS}))
def test_a_colour_stands_out_from_the_ground(colour, ground):
    assert contrast(colour, ground) >= 2.9


def test_the_legend_names_what_occurs_the_most_frequent_first():
    legend = cause_legend({"VIRQ": 5, "BIND_CONSERVATIVE": 1, "SEND": 5})

    assert ["SEND", "VIRQ", "BIND_CONSERVATIVE"] == [entry["name"] for entry in legend]
    assert [False, False, True] == [entry["flagged"] for entry in legend]
