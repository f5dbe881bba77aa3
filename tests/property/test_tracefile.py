"""What must hold for any trace: write∘read is the identity, order, both readers agree."""

import tempfile
from array import array
from collections import defaultdict
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evtrace.errors import NotATraceError
from evtrace.tracefile.layouts import RECORD
from evtrace.tracefile.reader import open_trace
from evtrace.tracefile.records import encode
from evtrace.tracefile.rows import timeline
from evtrace.tracefile.stock import STOCK
from evtrace.tracefile.walk import walk
from evtrace.tracefile.writer import TraceWriter
from tests.tinytrace import record_ends, sample

WINDOW_HEADER_EVENT = 0x1F003
words = st.lists(st.integers(0, 2**32 - 1), max_size=7)
events = st.sampled_from(sorted(set(STOCK) - {WINDOW_HEADER_EVENT}))
steps = st.one_of(st.none(), st.integers(0, 1000))
"""Cycles since the record before on its stream, None for a record without TSC."""
records = st.tuples(st.integers(0, 3), events, words, steps)


def timed(drawn):
    """Turn drawn records into (stream, event, words, tsc), with TSCs that rise per stream."""
    clocks: defaultdict[int, int] = defaultdict(lambda: 1_000)
    for stream, event, payload, step in drawn:
        if step is not None:
            clocks[stream] += step
        yield stream, event, payload, None if step is None else clocks[stream]


def written(folder, drawn):
    path = Path(folder) / "t.bin"
    with TraceWriter(path, force=True) as writer:
        for number, (stream, event, payload, tsc) in enumerate(timed(drawn)):
            writer.append(stream, encode(event, payload, tsc))
            if number % 5 == 4:
                writer.flush()
    return path


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield name


def payload_of(row):
    return [row[f"w{k}"] for k in range(row["n_words"])]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=st.lists(records, min_size=1, max_size=40))
def test_what_is_written_is_read(folder, drawn):
    path = written(folder, drawn)
    with open_trace(path) as reader:
        frame = pl.concat(reader.batches())
    read = defaultdict(list)
    for row in frame.iter_rows(named=True):
        tsc = row["tsc_hi"] if row["has_tsc"] else None
        read[row["pcpu"]].append((row["event"], payload_of(row), tsc))
    expected = defaultdict(list)
    for stream, event, payload, tsc in timed(drawn):
        expected[stream].append((event, payload, tsc))
    assert read == expected


@settings(max_examples=60, deadline=None)
@given(drawn=st.lists(records, min_size=1, max_size=40), max_rows=st.integers(1, 50))
def test_order_does_not_depend_on_the_size_of_batches(folder, drawn, max_rows):
    with open_trace(written(folder, drawn)) as reader:
        whole = pl.concat(reader.batches())
        batches = list(reader.batches(max_rows))
    assert pl.concat(batches).equals(whole)
    assert max(batch.height for batch in batches) <= max_rows
    assert whole["seq"].to_list() == list(range(len(drawn)))


@settings(max_examples=60, deadline=None)
@given(drawn=st.lists(records, min_size=1, max_size=40))
def test_times_are_intervals_between_neighbours_in_global_order(folder, drawn):
    with open_trace(written(folder, drawn)) as reader:
        frame = pl.concat(reader.batches())
    plain = frame.filter(pl.col("event") != 0x1F001)
    assert (frame["tsc_lo"] <= frame["tsc_hi"]).all()
    assert plain["tsc_lo"].is_sorted()
    for _, own in plain.group_by("pcpu"):
        assert own["tsc_hi"].is_sorted()
        assert own["file_offset"].is_sorted()


@settings(max_examples=100, deadline=None)
@given(drawn=st.lists(records, min_size=1, max_size=40))
def test_construct_and_the_walk_agree(drawn):
    made = [encode(event, payload, tsc) for _, event, payload, tsc in timed(drawn)]
    data = array("I", b"".join(made))
    starts = array("I")
    assert walk(data, starts, [], 0) == len(data)
    assert len(starts) == len(made)
    for start, bytes_, (_, event, payload, tsc) in zip(starts, made, timed(drawn), strict=True):
        parsed = RECORD.parse(data[start:].tobytes())
        assert (parsed.header.event, list(parsed.words), parsed.tsc) == (event, payload, tsc)
        assert RECORD.build(parsed) == bytes_


changes = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "header", "end"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=9),
    ),
    min_size=1,
    max_size=8,
)


def damaged(data, drawn):
    data = bytearray(data)
    for kind, where, junk in drawn:
        at = int(where * len(data))
        match kind:
            case "flip":
                data[at : at + 1] = bytes([data[at] ^ junk[0] or 1]) if data else b""
            case "cut":
                del data[at : at + len(junk)]
            case "insert":
                data[at:at] = junk
            case "header":
                data[at : at + 4] = bytes.fromhex("03f00120")
            case "end":
                del data[max(at, 20) :]
    return bytes(data)


@settings(max_examples=80, deadline=None)
@given(drawn=changes)
def test_no_damage_raises_or_changes_what_stands_before_it(folder, drawn):
    good, bad = sample(), damaged(sample(), drawn)
    same = next((k for k, (a, b) in enumerate(zip(good, bad, strict=False)) if a != b), len(bad))
    path = Path(folder) / "damaged.bin"
    path.write_bytes(bad)
    before = {at for at, end in record_ends(good).items() if end <= same}
    try:
        with open_trace(path) as reader:
            kept = set(pl.concat(reader.batches())["file_offset"].to_list())
            assert pl.concat(timeline(reader)).height <= len(kept)
            assert reader.coverage.overall_level() in {"C0", "C1"}
            assert all(0 <= found.offset < len(bad) for found in reader.damage)
    except NotATraceError:
        kept = set()
    assert before <= kept
