"""The selection grammar and what it selects."""

import pytest

from evtrace.errors import UsageError
from evtrace.timeline import Kind
from evtrace.tracefile.family import ALL_DOMAINS, FACTS_STREAM, FactKey
from evtrace.tracefile.records import encode_fact, encode_family
from evtrace.tracefile.selection import (
    make_selection,
    parse_around,
    parse_dom,
    parse_kind,
    parse_port,
)
from tests.tinytrace import opened, rows, tiny_trace, window

TRACE = tiny_trace(
    window(FACTS_STREAM, encode_fact(FactKey.TSC_HZ, ALL_DOMAINS, 1000, 1, tsc=0)),
    window(
        0,
        encode_family(Kind.CALL_ENTER, 0, 0, [4 | 1 << 8, 33], 100),
        encode_family(Kind.CALL_EXIT, 0, 0, [4 | 1 << 8, 0], 110),
        encode_family(Kind.CALL_ENTER, 1, 0, [0 | 2 << 8, 0, 33], 120),
        encode_family(Kind.CALL_EXIT, 1, 0, [0 | 2 << 8, 0, 8], 130),
        encode_family(Kind.HANDLER_ENTER, 0, 0, [52, 33], 140),
        encode_family(Kind.HANDLER_ENTER, 1, 0, [52, 8], 150),
    ),
)


@pytest.fixture
def selected(tmp_path):
    def select(**options):
        path = tmp_path / "tiny.bin"
        with opened(path, TRACE) as reader:
            wanted = make_selection(reader, **options)
        return rows(path, TRACE).filter(wanted.expr())["tsc_lo"].to_list()

    return select


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 100, 110, 120, 130, 140, 150]),
        ({"doms": ["0"]}, [100, 110, 140]),
        ({"doms": ["d0", "1"]}, [100, 110, 120, 130, 140, 150]),
        ({"ports": ["d0:33"]}, [100, 140]),
        ({"ports": ["1:8"]}, [130, 150]),
        ({"ports": ["1:33"]}, []),
        ({"kinds": ["handler_enter"]}, [140, 150]),
        ({"kinds": ["Handler-Enter", "call_exit"], "doms": ["1"]}, [130, 150]),
        ({"tsc_from": "120", "tsc_to": "140"}, [120, 130, 140]),
        ({"tsc_from": "+0.03"}, [130, 140, 150]),
        ({"tsc_to": "+0.02s"}, [0, 100, 110, 120]),
        ({"around": "3:1"}, [110, 120, 130]),
        ({"around": "0:0"}, [0]),
    ],
)
def test_what_is_asked_for_is_selected(selected, options, expected):
    assert selected(**options) == expected


@pytest.mark.parametrize(
    ("parse", "text", "says"),
    [
        (parse_dom, "x0", "--dom x0: expected a domain"),
        (parse_port, "33", "--port 33: expected a domain and its port such as d0:33"),
        (parse_port, "d0:33:1", "--port d0:33:1"),
        (parse_kind, "handler_entry", "the nearest is handler_e"),
        (parse_kind, "hypercal", "the nearest is hypercall"),
        (parse_around, "-3", "--around -3: expected a record's seq"),
    ],
)
def test_what_cannot_be_meant_is_refused(parse, text, says):
    with pytest.raises(UsageError, match=says):
        parse(text)


@pytest.mark.parametrize("text", ["soon", "+", "+x", "1.5", "-3"])
def test_times_that_cannot_be_meant_are_refused(selected, text):
    with pytest.raises(UsageError, match="expected a TSC, or \\+SECONDS"):
        selected(tsc_from=text)


def test_seconds_need_a_frequency(tmp_path):
    data = window(0, encode_family(Kind.UPCALL_ENTER, 0, 0, [], 1))
    with (
        opened(tmp_path / "tiny.bin", data) as reader,
        pytest.raises(UsageError, match="give a TSC"),
    ):
        make_selection(reader, tsc_to="+1")


def test_around_shows_ten_records_on_either_side():
    assert parse_around("100") == (90, 110)
    assert parse_around("4") == (0, 14)
