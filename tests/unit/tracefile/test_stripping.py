"""A trace without evtrace's records: what xentrace wrote is left, byte for byte and in order."""

import tempfile
import tracemalloc
import weakref
from itertools import islice
from pathlib import Path

import polars as pl
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from evtrace.errors import NotATraceError, OutputExistsError, UsageError
from evtrace.timeline import Kind
from evtrace.tracefile.family import (
    ALL_DOMAINS,
    FACTS_STREAM,
    FAMILY_EVENT,
    FIRST_GUEST_STREAM,
    FactKey,
)
from evtrace.tracefile.reader import TraceReader, open_trace
from evtrace.tracefile.records import encode, encode_fact, encode_family
from evtrace.tracefile.stock import STOCK
from evtrace.tracefile.stripping import write_stock
from evtrace.tracefile.writer import TraceWriter
from tests.conftest import FTRACE_CAPTURES, SOURCES
from tests.tinytrace import (
    VMENTRY,
    VMMCALL,
    flips,
    hypercall,
    lost,
    opened,
    record_ends,
    runstate,
    sample,
    tiny_trace,
    wake,
    window,
)

GUEST = 0x0800F000
KEPT_DAMAGE = {"tsc_backwards", "lost_records"}


def mask(port, tsc):
    return encode_family(Kind.MASK, 1, 0, [port], tsc)


def fact(tsc):
    return encode_fact(FactKey.FORMAT_VERSION, ALL_DOMAINS, 0, tsc=tsc)


def mixed():
    """Give a trace in which stock and family records alternate, with streams of evtrace's own."""
    return tiny_trace(
        window(FACTS_STREAM, fact(1)),
        window(0, mask(1, 99), runstate(0, 0, 1, 0, tsc=100), hypercall(32, 110), mask(2, 111)),
        window(1, mask(3, 112), mask(4, 113)),
        window(1, wake(1, 0, tsc=120), mask(5, 121), encode(VMMCALL, [32]), encode(VMENTRY, [])),
        window(FIRST_GUEST_STREAM, mask(6, 5)),
        window(0, lost(5, 0, 0, 161, tsc=170), mask(7, 171)),
    )


def stripped(path, data):
    """Give what is left of a file's bytes, and the counts."""
    output = path.with_name("stock.bin")
    path.write_bytes(data)
    with open_trace(path) as reader:
        done = write_stock(reader, output, force=True)
    assert not output.with_name("stock.bin.partial").exists()
    return output.read_bytes(), done


def records_in(path, data):
    """Give (stream, bytes) of every record of a file, in file order, and the damage."""
    with opened(path, data) as reader:
        found = pl.concat(reader.batches()).sort("file_offset")
        places = found.select("pcpu", "file_offset", 1 + pl.col("n_words") + 2 * pl.col("has_tsc"))
        records = [(pcpu, data[at : at + 4 * words]) for pcpu, at, words in places.iter_rows()]
        return records, reader.damage


def is_stock(stream, record):
    event = int.from_bytes(record[:4], "little") & 0x0FFFFFFF
    one_class = (event >> 16).bit_count() == 1 and event >> 16 & 0x8FF and event & 0xF000
    return bool(one_class) and event & ~0xFF != FAMILY_EVENT and 0 <= stream < FACTS_STREAM


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tiny.bin"


# --- what is left ------------------------------------------------------------------------------


def test_stock_records_keep_their_windows_and_empty_windows_go(path):
    left, done = stripped(path, mixed())

    assert left == tiny_trace(
        window(0, runstate(0, 0, 1, 0, tsc=100), hypercall(32, 110)),
        window(1, wake(1, 0, tsc=120), encode(VMMCALL, [32]), encode(VMENTRY, [])),
        window(0, lost(5, 0, 0, 161, tsc=170)),
    )
    assert (done.kept, done.family, done.strays, done.damage) == (6, 8, 0, [])


def test_a_trace_that_xentrace_wrote_is_left_as_it_is(path):
    left, done = stripped(path, sample())

    assert (left, done.kept, done.family, done.strays) == (sample(), 14, 0, 0)


def test_kinds_that_no_version_knows_yet_and_those_without_tsc_go_too(path):
    of_family = [encode(FAMILY_EVENT | kind, [1], tsc) for kind in (0, 0xFF) for tsc in (7, None)]

    left, done = stripped(path, tiny_trace(window(0, hypercall(1, 1), *of_family)))

    assert (left, done.family) == (window(0, hypercall(1, 1)), 4)


def test_what_a_guest_itself_wrote_is_xens(path):
    own = [encode(GUEST | 0xD10, [1]), encode(GUEST | 0xF10, [1]), encode(GUEST | 1, [], 5)]
    data = tiny_trace(window(0, *own))

    left, done = stripped(path, data)

    assert (left, done.kept) == (data, 3)


@pytest.mark.parametrize("stream", [-1, FACTS_STREAM, FIRST_GUEST_STREAM + 3])
def test_a_stream_of_no_physical_cpu_goes_and_what_is_not_the_familys_is_counted(path, stream):
    kept = window(FACTS_STREAM - 1, hypercall(1, 1))

    left, done = stripped(path, kept + window(stream, hypercall(2, 2), mask(1, 3)))

    assert (left, done.kept, done.family, done.strays) == (kept, 1, 1, 1)


events = st.sampled_from(sorted(set(STOCK) - {0x1F003}))
ours = st.integers(0, 0xFF).map(lambda kind: FAMILY_EVENT | kind)
payloads = st.lists(st.integers(0, 2**32 - 1), max_size=7)
tscs = st.one_of(st.none(), st.integers(0, 2**63 - 1))
physical = st.tuples(st.integers(0, 300), st.lists(st.tuples(events | ours, payloads, tscs)))
artificial = st.tuples(
    st.integers(FACTS_STREAM, FACTS_STREAM + 9), st.lists(st.tuples(ours, payloads, tscs))
)


@settings(max_examples=200, deadline=None)
@given(drawn=st.lists(physical | artificial, max_size=8))
def test_of_any_trace_the_stock_records_are_left_in_their_windows(drawn):
    all_of_it, stock, kept = [], [], 0
    for stream, records in drawn:
        encoded = [encode(event, words, tsc) for event, words, tsc in records]
        left = [record for record in encoded if is_stock(stream, record)]
        all_of_it += [window(stream, *encoded)] if encoded else []
        stock += [window(stream, *left)] if left else []
        kept += len(left)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.bin")
        if not stock:
            with pytest.raises((UsageError, NotATraceError)):
                stripped(path, tiny_trace(*all_of_it))
            return
        left, done = stripped(path, tiny_trace(*all_of_it))
    assert (left, done.kept) == (tiny_trace(*stock), kept)
    assert kept + done.family == sum(len(records) for _, records in drawn)


@pytest.mark.parametrize("name", FTRACE_CAPTURES)
def test_of_an_import_the_capture_is_left_that_went_into_it(imported, path, name):
    packed = (SOURCES / name / "xentrace.bin.zst").read_bytes()

    left, done = stripped(path, imported(name).read_bytes())

    assert done.family > 1000
    assert left == zstandard.ZstdDecompressor().decompress(packed, 1 << 26)


# --- damage ------------------------------------------------------------------------------------


def agrees_with_the_reader(path, data):
    """Hold what is left of damaged bytes to the records that the reader finds in them."""
    found, damage = records_in(path, data)
    expected = [(stream, record) for stream, record in found if is_stock(stream, record)]
    left, done = stripped(path, data)
    again, rest = records_in(path, left)
    assert (expected, damage) == (again, done.damage)
    assert done.kept + done.family + done.strays == len(found)
    assert {seen.kind.value for seen in rest} <= KEPT_DAMAGE
    assert [record for _, record in again] == [left[a:b] for a, b in record_ends(left).items()]
    return [seen.kind.value for seen in damage]


def test_no_cut_of_the_file_reaches_what_is_left(path):
    data, seen = mixed(), set()
    first_stock = data.index(runstate(0, 0, 1, 0, tsc=100))
    for end in range(first_stock + 16, len(data)):
        seen.update(agrees_with_the_reader(path, data[:end]))
    assert {"window_cut", "record_cut", "header_cut"} <= seen


@pytest.mark.slow
def test_no_flipped_bit_of_a_header_reaches_what_is_left(path):
    data, seen, starts = mixed(), set(), record_ends(mixed())
    headers = {place for at in starts for place in range(at, at + 4)}
    between = set(range(len(data))) - {b for at, end in starts.items() for b in range(at, end)}
    every_third = islice(flips(data, sorted(headers | between)), 0, None, 3)
    for _, changed in every_third:
        seen.update(agrees_with_the_reader(path, changed))
    assert {"garbled", "unknown_class", "window_size", "header_broken"} <= seen


def test_what_is_framed_well_but_of_no_class_goes_and_is_counted(path):
    odd = encode(0x123, [], 2), encode(0x300123, [], 3), encode(0x20123, [], 3)
    header = window(0, hypercall(9, 9))[:12]
    good = hypercall(1, 1), hypercall(4, 4)

    left, done = stripped(path, window(0, good[0], *odd, header, good[1], mask(1, 5)))

    assert left == window(0, *good)
    assert (done.kept, done.family, done.strays) == (2, 1, 3)
    kinds = [found.kind.value for found in done.damage]
    assert kinds == ["unknown_class", "unknown_class", "unknown_class", "stray_header"]


def test_records_whose_times_are_odd_are_kept_and_reported(path):
    data = window(0, hypercall(1, 9), hypercall(1, 5), lost(1, 0, 0, first_tsc=30, tsc=20))

    left, done = stripped(path, data)

    assert left == data
    assert [found.kind.value for found in done.damage] == ["tsc_backwards", "lost_records"]


# --- a file larger than memory -----------------------------------------------------------------


def peak_bytes(path, windows):
    with TraceWriter(path, force=True) as writer:
        for tsc in range(0, 400 * windows, 400):
            pairs = (hypercall(1, k) + mask(k, k) for k in range(tsc, tsc + 200))
            writer.write_window(0, b"".join(pairs))
    tracemalloc.start()
    try:
        with open_trace(path) as reader:
            write_stock(reader, path.with_name("stock.bin"), force=True)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def alive(monkeypatch):
    """Give a list that gets, with each batch that is read, the number of batches in memory."""
    seen, counts, records = [], [], TraceReader.records

    def watched(reader, windows):
        for batch in records(reader, windows):
            seen.append(weakref.ref(batch))
            counts.append(sum(held() is not None for held in seen))
            yield batch

    monkeypatch.setattr("evtrace.tracefile.reader.BATCH_ROWS", 2_000)
    monkeypatch.setattr(TraceReader, "records", watched)
    return counts


def test_memory_does_not_grow_with_the_file(path, alive):
    peak_bytes(path, 5)  # loads what is loaded once

    few, many = peak_bytes(path, 20), peak_bytes(path, 200)

    assert path.stat().st_size > 1_400_000
    assert many - few < 100_000
    assert len(alive) > 40
    assert max(alive) <= 2


# --- refusals ----------------------------------------------------------------------------------


def test_a_trace_without_a_stock_record_is_refused_before_anything_is_written(path):
    output = path.with_name("stock.bin")
    path.write_bytes(tiny_trace(window(FACTS_STREAM, fact(1)), window(0, mask(1, 2))))

    with open_trace(path) as reader, pytest.raises(UsageError, match="nothing would be left"):
        write_stock(reader, output)

    assert list(path.parent.iterdir()) == [path]


def test_an_existing_output_is_replaced_only_by_force(path):
    path.write_bytes(mixed())

    with open_trace(path) as reader:
        with pytest.raises(OutputExistsError):
            write_stock(reader, path)
        write_stock(reader, path, force=True)

    assert path.read_bytes() == stripped(path, mixed())[0]


@pytest.mark.parametrize("force", [False, True])
def test_the_partial_file_of_the_output_itself_is_not_read_while_it_is_written(path, force):
    source = path.with_name("tiny.bin.partial")
    source.write_bytes(mixed())

    with open_trace(source) as reader, pytest.raises(UsageError, match="which is the trace"):
        write_stock(reader, path, force=force)

    assert source.read_bytes() == mixed()
    assert not path.exists()
