"""Placement: guest records among the stock ones, which keep their bytes and their order."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evtrace.tracefile.family import FACTS_STREAM, FAMILY_EVENT, FAMILY_MASK
from evtrace.tracefile.reader import open_trace
from evtrace.tracefile.records import encode
from evtrace.tracer.importers.placement import Placed, merged_windows
from tests.conftest import SOURCES
from tests.tinytrace import opened, sample, tiny_trace, window

STOCK, GUEST = 0x28004, FAMILY_EVENT | 0x18


def split(data):
    """Give the records of a window's bytes: (event, TSC or None, bytes)."""
    at, found = 0, []
    while at < len(data):
        (header,) = struct.unpack_from("<I", data, at)
        end = at + 4 * (1 + (header >> 28 & 7) + 2 * (header >> 31))
        tsc = struct.unpack_from("<Q", data, at + 4)[0] if header >> 31 else None
        found.append((header & 0x0FFFFFFF, tsc, data[at:end]))
        at = end
    return found


def guest_record(tsc):
    return tsc, encode(GUEST, [0], tsc)


def merged(path, data, tscs):
    """Put guest records into stream 0; give its records, and those left over."""
    placed = {0: Placed.of([guest_record(tsc) for tsc in tscs])}
    with opened(path, data) as reader:
        windows = list(merged_windows(reader, placed))
    records = [record for stream, held in windows if stream == 0 for record in split(held)]
    return windows, records, placed[0].rest()


stock_times = st.lists(st.one_of(st.none(), st.integers(0, 60)), min_size=1, max_size=12)


@settings(deadline=None)  # each example opens a file
@given(st.lists(stock_times, min_size=1, max_size=3), st.lists(st.integers(0, 70), max_size=8))
def test_stock_records_stay_as_they_are_and_keep_those_without_a_tsc_behind_theirs(
    tmp_path_factory, times, guest_tscs
):
    stock = [[encode(STOCK, [1, 2], tsc) for tsc in of_window] for of_window in times]
    data = tiny_trace(*(window(0, *records) for records in stock))
    path = tmp_path_factory.mktemp("placement") / "t.bin"

    windows, records, left = merged(path, data, guest_tscs)

    own = [raw for event, _, raw in records if event == STOCK]
    assert b"".join(own) == b"".join(b"".join(part) for part in stock)
    assert len(windows) == len(stock)
    guests = [tsc for event, tsc, _ in records if event == GUEST]
    assert sorted(guest_tscs) == guests + [split(raw)[0][1] for raw in left]
    for (event, _, _), (following, tsc, _) in pairwise(records):
        assert not (event == GUEST and following == STOCK and tsc is None)


def test_a_guest_record_lies_between_the_stock_records_around_its_time(tmp_path):
    data = tiny_trace(window(0, *(encode(STOCK, [1, 2], tsc) for tsc in (10, 20, 30))))

    _, records, left = merged(tmp_path / "t.bin", data, [5, 20, 25, 31])

    assert [5, 10, 20, 20, 25, 30] == [tsc for _, tsc, _ in records]
    assert [STOCK, GUEST] == [event for event, tsc, _ in records if tsc == 20]
    assert 1 == len(left)


def test_rubbish_inside_a_window_is_left_out(tmp_path):
    good = encode(STOCK, [1, 2], 10)
    data = tiny_trace(window(0, good, b"\xff" * 8, good, good))

    _, records, _ = merged(tmp_path / "t.bin", data, [])

    assert [good] * len(records) == [raw for _, _, raw in records]
    assert len(records) >= 2


def test_streams_without_guest_records_are_copied(tmp_path):
    with opened(tmp_path / "t.bin", sample()) as reader:
        copied = b"".join(window(stream, held) for stream, held in merged_windows(reader, {}))

    assert sample() == copied


@pytest.mark.parametrize("name", ["pv_fifo_blog", "pvh_blog"])
def test_an_import_keeps_every_byte_of_every_stock_record(imported, name):
    def stock_of(path):
        streams: dict[int, list[bytes]] = {}
        with open_trace(path) as reader:
            for part in reader.windows:
                for event, _, raw in split(reader.bytes_between(part.start, part.end)):
                    if event & FAMILY_MASK != FAMILY_EVENT and part.stream < FACTS_STREAM:
                        streams.setdefault(part.stream, []).append(raw)
        return streams

    original = stock_of(SOURCES / name / "xentrace.bin.zst")

    assert original == stock_of(imported(name))
    assert sum(map(len, original.values())) > 10_000
