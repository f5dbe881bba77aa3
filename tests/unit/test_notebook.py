"""A report's tables as a notebook shows them: escaped, limited, null as -."""

from html.parser import HTMLParser

import polars as pl

from evtrace.analysis.forms.notebook import as_html, table_html
from evtrace.analysis.tables import Table

HOSTILE = "<script>alert('x')</script>&\"\x1b[31m"


class Reader(HTMLParser):
    """Collects tags and text, and holds that every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, _):
        self.tags.append(tag)
        self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts += [data] if data.strip() else []


def test_a_table_is_shown_with_heads_numbers_and_what_is_not_known():
    frame = pl.DataFrame({"channel": ["d1:8→d0:33", "bind"], "p50_ns": [None, 4100], "n": [1, 2]})

    page = table_html(Table("latencies", "Latencies", frame, "Of modelled times."))

    said = Reader(page)
    assert said.texts == [
        *("Latencies", "channel", "p50", "n"),
        *("d1:8→d0:33", "-", "1"),
        *("bind", "4.10us", "2", "Of modelled times."),
    ]
    assert said.tags.count("th") == 3
    assert '<td style="text-align: left">bind</td><td style="text-align: right">4.10us' in page


def test_names_of_a_hostile_guest_are_text():
    frame = pl.DataFrame({"name": [HOSTILE], HOSTILE: [HOSTILE]})

    said = Reader(as_html(HOSTILE, [Table("t", HOSTILE, frame, HOSTILE)]))

    assert "script" not in said.tags
    assert said.texts == [HOSTILE] * 2 + ["name"] + [HOSTILE] * 4


def test_long_tables_are_cut_and_say_so():
    page = table_html(Table("t", "Ports", pl.DataFrame({"port": range(1_240)}), listed=40))

    assert page.count("<td") == 40
    assert "1,200 more rows" in page


def test_tables_without_rows_are_left_out():
    tables = [
        Table("t", "Nothing", pl.DataFrame({"port": []})),
        Table("t", "Unseen", pl.DataFrame({"port": [None]})),
    ]

    assert as_html("No runs.", tables) == "<p><strong>No runs.</strong></p>"
