"""Tables of a report, and the forms in which they are printed."""

import csv
import io

import polars as pl
import pytest

from evtrace.analysis.forms.machine import tables_as_csv, tables_as_markdown
from evtrace.analysis.forms.text import grid, render_tables, table_lines
from evtrace.analysis.tables import Table, duration

FRAME = pl.DataFrame(
    {
        "channel": ["d1:8→d0:33", "virq→d0:1"],
        "sends": [12345, None],
        "max_ns": [5800, None],
        "max_at_tsc": [1234567, None],
        "coalesced_share": [0.25, None],
        "rate_hz": [4813.4, None],
        "lost": pl.Series([None, None], dtype=pl.Int64),
        "routes": [["A", "B"], []],
    },
)
TABLE = Table("channels", "Channels", FRAME, "A note.", labels={"sends": "sent"})


@pytest.mark.parametrize(
    ("nanoseconds", "expected"),
    [
        (0, "0ns"),
        (340, "340ns"),
        (999, "999ns"),
        (1000, "1.00us"),
        (5800, "5.80us"),
        (9994, "9.99us"),
        (9996, "10.0us"),
        (99_960, "100us"),
        (999_400, "999us"),
        (999_600, "1.00ms"),
        (31_923_698, "31.9ms"),
        (1_200_000_000, "1.20s"),
        (-5800, "-5.80us"),
    ],
)
def test_a_duration_has_three_digits_and_a_unit(nanoseconds, expected):
    assert expected == duration(nanoseconds)


def test_units_are_shown_with_the_values_and_not_in_the_headings():
    assert [
        "  channel       sent     max   max at  coalesced     rate  routes",
        "  d1:8→d0:33  12,345  5.80us  1234567      25.0%  4,813/s  A B",
        "  virq→d0:1        -       -        -          -        -",
    ] == grid(TABLE)


def test_a_whole_report_lists_some_rows_and_counts_the_others():
    short = Table("channels", "Channels", FRAME.select("channel"), listed=1)

    assert [
        "Channels:",
        "  channel",
        "  d1:8→d0:33",
        "  ... and 1 more; --table channels shows them",
    ] == table_lines(short)
    assert "virq" in render_tables([short])


@pytest.mark.parametrize(
    "table",
    [Table("runs", "All runs", FRAME, listed=0), Table("runs", "All runs", FRAME.clear())],
)
def test_a_table_that_is_not_listed_or_has_no_rows_is_left_out(table):
    assert [] == table_lines(table)


def test_a_table_asked_for_that_has_no_rows_says_so():
    assert "Storms: none.\n" == render_tables([Table("storms", "Storms", FRAME.clear())])


def test_markdown_shows_what_text_shows():
    found = tables_as_markdown([TABLE]).splitlines()

    assert "### Channels" == found[0]
    assert "| channel | sent | max | max at | coalesced | rate | routes |" == found[2]
    assert "| d1:8→d0:33 | 12,345 | 5.80us | 1234567 | 25.0% | 4,813/s | A B |" == found[4]
    assert "A note." == found[-1]


def test_what_markdown_would_obey_is_only_text():
    hostile = pl.DataFrame({"device": ["<b>|[x](y)`_*\n#"]})
    row = tables_as_markdown([Table("t", "T", hostile)]).splitlines()[4]

    assert r"| \<b\>\|\[x\](y)\`\_\* \# |" == row


def test_csv_has_every_column_in_its_own_unit():
    found = list(csv.DictReader(io.StringIO(tables_as_csv([TABLE]))))

    assert {"max_ns": "5800", "routes": "A+B", "lost": ""}.items() <= found[0].items()


def test_several_tables_in_one_csv_are_named():
    found = tables_as_csv([TABLE, TABLE]).splitlines()

    assert ["# channels", "# channels"] == [line for line in found if line.startswith("#")]
