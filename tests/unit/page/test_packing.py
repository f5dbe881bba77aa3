"""Frames packed for a page come back as they were."""

import base64
import zlib
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evtrace.analysis.page.packing import Packed

NUMBERS = st.none() | st.integers(min_value=0, max_value=(1 << 53) - 1)


def unpacked(packed, table):
    """Read a table back as unpack.js does."""
    data = zlib.decompress(base64.b64decode(packed.text()))
    rows, columns = packed.index[table]["rows"], packed.index[table]["columns"]
    return {name: list(_column(data, about, rows)) for name, about in columns.items()}


def _column(data, about, rows):
    total = about.get("first")
    for row in range(rows):
        planes = range(about["bytes"])
        value = sum(data[about["at"] + p * rows + row] << 8 * p for p in planes)
        if total is not None:
            total += -(value + 1) // 2 if value % 2 else value // 2
            value = total
        number = None if value == 0 else value - 1
        yield about["words"][number] if number is not None and "words" in about else number


@given(st.lists(st.tuples(NUMBERS, st.none() | st.text(max_size=3))))
def test_what_is_packed_comes_back(rows):
    frame = pl.DataFrame(rows, {"number": pl.Int64, "text": pl.String}, orient="row")
    packed = Packed()
    packed.add("before", frame.head(1))
    packed.add("t", frame)

    assert frame.to_dict(as_series=False) == unpacked(packed, "t")


@given(st.lists(st.integers(min_value=-(1 << 40), max_value=1 << 40), min_size=1))
def test_negative_numbers_come_back_too(numbers):
    packed = Packed()
    packed.add("t", pl.DataFrame({"n": sorted({number for number in numbers if number != -1})}))

    assert sorted({n for n in numbers if n != -1}) == unpacked(packed, "t")["n"]


@pytest.mark.parametrize(("step", "expected"), [(0, 0), (100, 1), (1000, 2)])
def test_a_column_that_ascends_takes_few_bytes(step, expected):
    packed: Any = Packed()
    packed.add("t", pl.DataFrame({"n": [(1 << 40) + step * row for row in range(100)]}))

    assert expected == packed.index["t"]["columns"]["n"]["bytes"]
