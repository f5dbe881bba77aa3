"""Time order: streams merged, records without TSC between their neighbours, own clocks."""

import io
from types import SimpleNamespace

import pytest

from evtrace.errors import NoInputError, NotATraceError
from evtrace.timeline import HOST_CLOCK, Kind
from evtrace.tracefile.family import (
    FACTS_STREAM,
    FIRST_GUEST_STREAM,
    FactKey,
)
from evtrace.tracefile.merge import RAW_SCHEMA
from evtrace.tracefile.reader import open_trace
from evtrace.tracefile.records import encode, encode_fact, encode_family
from tests.tinytrace import (
    LOST,
    VMMCALL,
    hypercall,
    lost,
    opened,
    raw,
    sample,
    tiny_trace,
    window,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tiny.bin"


def test_batches_have_one_schema(path):
    assert raw(path, sample()).schema == RAW_SCHEMA


def test_streams_are_merged_by_tsc_then_pcpu_then_place(path):
    data = tiny_trace(
        window(1, hypercall(1, 10), hypercall(2, 30)),
        window(0, hypercall(3, 10), hypercall(4, 10), hypercall(5, 20)),
        window(1, hypercall(6, 40)),
        window(0, hypercall(7, 30)),
    )
    frame = raw(path, data)
    assert frame["w0"].to_list() == [3, 4, 1, 5, 7, 2, 6]
    assert frame["seq"].to_list() == list(range(7))


@pytest.mark.parametrize("max_rows", [1, 2, 3, 5, 100])
def test_order_and_seq_do_not_depend_on_the_size_of_batches(path, max_rows):
    assert raw(path, sample(), max_rows).equals(raw(path, sample()))


def test_a_record_without_tsc_lies_between_its_neighbours_across_windows(path):
    bare = encode(VMMCALL, [32])
    data = tiny_trace(
        window(0, bare, hypercall(1, 10), bare),
        window(1, hypercall(2, 15)),
        window(0, bare, hypercall(3, 20), bare),
    )
    frame = raw(path, data)
    times = frame.select("tsc_lo", "tsc_hi", "has_tsc").rows()
    assert times == [
        (10, 10, False),
        (10, 10, True),
        (10, 20, False),
        (10, 20, False),
        (15, 15, True),
        (20, 20, True),
        (20, 20, False),
    ]


def test_a_stream_without_any_tsc_is_kept(path):
    data = tiny_trace(window(0, encode(VMMCALL, [32])), window(1, hypercall(1, 10)))
    assert sorted(raw(path, data).select("pcpu", "tsc_lo", "tsc_hi").rows()) == [
        (0, 0, 0),
        (1, 10, 10),
    ]


def test_a_gap_spans_its_time_and_ranks_at_its_end(path):
    data = tiny_trace(
        window(0, hypercall(1, 10), lost(3, 0, 0, 12, 30)),
        window(1, hypercall(2, 20)),
    )
    frame = raw(path, data)
    assert frame["event"].to_list()[2] == LOST
    assert frame.select("tsc_lo", "tsc_hi").rows()[2] == (12, 30)


def test_words_that_are_absent_are_null(path):
    data = window(0, encode(0x2220C, [1, 2, 3, 4, 5, 6, 7], 9), encode(VMMCALL, []))
    words = raw(path, data).select("n_words", *(f"w{k}" for k in range(7))).rows()
    assert words == [(7, 1, 2, 3, 4, 5, 6, 7), (0, *[None] * 7)]


def own_clock(offset):
    return [
        encode_fact(FactKey.STREAM, 5, FIRST_GUEST_STREAM, 6, tsc=0),
        encode_fact(FactKey.CLOCK_OFFSET, 5, *offset, tsc=0),
    ]


def test_a_domain_s_own_clock_becomes_an_interval_of_host_time(path):
    guest = encode_family(Kind.UPCALL_ENTER, 5, 0, [], 100)
    data = tiny_trace(
        window(FACTS_STREAM, *own_clock((-60, -40))),
        window(0, hypercall(1, 49), hypercall(2, 51)),
        window(FIRST_GUEST_STREAM, guest),
    )
    frame = raw(path, data)[2:]
    assert frame.select("pcpu", "tsc_lo", "tsc_hi", "clock").rows() == [
        (0, 49, 49, HOST_CLOCK),
        (FIRST_GUEST_STREAM, 40, 60, 5),
        (0, 51, 51, HOST_CLOCK),
    ]


def test_the_extent_is_in_host_time_and_without_the_facts(path):
    guest = encode_family(Kind.UPCALL_ENTER, 5, 0, [], 100)
    data = tiny_trace(
        window(FACTS_STREAM, *own_clock((-60, -40))),
        window(0, hypercall(1, 49), hypercall(2, 51)),
        window(FIRST_GUEST_STREAM, guest),
    )
    with opened(path, data) as reader:
        assert reader.survey.extent == (40, 60)
        assert reader.survey.stock_extent == (49, 51)
        assert reader.survey.pcpus == [0]


def test_standard_input_is_read(monkeypatch):
    stdin = SimpleNamespace(buffer=io.BytesIO(sample()))
    monkeypatch.setattr("sys.stdin", stdin)
    with open_trace("-") as reader:
        assert reader.survey.records == 14


def test_a_file_that_is_not_there_is_no_input(tmp_path):
    with pytest.raises(NoInputError, match=r"none\.bin.*No such file"):
        open_trace(tmp_path / "none.bin")


def test_broken_compression_is_no_trace(tmp_path):
    path = tmp_path / "t.bin.zst"
    path.write_bytes(b"not zstandard at all")
    with pytest.raises(NotATraceError, match="zstandard"):
        open_trace(path)


def test_windows_and_bytes_are_given_as_they_stand(path):
    with opened(path, sample()) as reader:
        assert [(w.stream, w.offset, w.end == w.start + w.size) for w in reader.windows] == [
            (0, 0, True),
            (1, 100, True),
            (0, 200, True),
        ]
        first = reader.windows[0]
        assert reader.bytes_between(first.start, first.end) == sample()[12:100]
        assert reader.records_of(first)["file_offset"].to_list() == [12, 28, 44, 64, 80]
        assert reader.name == "tiny.bin"
        assert reader.size_bytes == len(sample())
