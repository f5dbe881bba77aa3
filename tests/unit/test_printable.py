"""Text that a terminal cannot obey."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evtrace.printable import printable, printable_lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vif1.0-q0-rx ä → µ", "vif1.0-q0-rx ä → µ"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("a\nb\r\tc", "a\\x0ab\\x0d\\x09c"),
        ("\u202egnp", "\\u202egnp"),
        ("\u2028", "\\u2028"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_what_does_not_print_is_shown_by_its_code(text, expected):
    assert expected == printable(text)


def test_lines_stay_lines():
    assert "one\ntwo\\x1b" == printable_lines("one\ntwo\x1b")


@given(st.text())
def test_any_text_becomes_printable_and_stays_so(text):
    once = printable(text)

    assert once.isprintable()
    assert once == printable(once)
