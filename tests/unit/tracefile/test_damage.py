"""Bad input: every complete record is kept, the damage reported with its place, nothing raised."""

import struct

import pytest

from evtrace.errors import NotATraceError
from evtrace.tracefile.records import encode, encode_window
from tests.tinytrace import (
    LOST,
    VMENTRY,
    damage,
    flips,
    hypercall,
    kept_and_reported,
    lost,
    opened,
    raw,
    record_ends,
    sample,
    tiny_trace,
    window,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tiny.bin"


def calls(*tscs):
    return [hypercall(32, tsc) for tsc in tscs]


def tscs(path, data):
    return raw(path, data)["tsc_lo"].to_list()


def test_an_undamaged_trace_has_no_damage(path):
    assert damage(path, sample()) == []


# --- nothing readable --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "an empty file"),
        (b"ceci n'est pas une trace", "no window of records"),
        (bytes(4096), "no window of records"),
        (struct.pack(">IiI", 0x2001F003, 0, 16) + bytes(16), "big-endian"),
        (window(0, *calls(5))[:12], "no window of records"),
        (window(0, *calls(5))[:-4], "not one whole record"),
        (encode_window(0, 0), "no window of records"),
    ],
)
def test_a_file_without_one_readable_record_is_refused(path, data, says):
    with pytest.raises(NotATraceError, match=says):
        opened(path, data)


# --- every row of bad input --------------------------------------------------------------------


def test_cut_inside_a_record(path):
    data = window(0, *calls(1, 2, 3))
    assert damage(path, data[:-4]) == [("window_cut", 0, 4), ("record_cut", 44, 12)]
    assert tscs(path, data[:-4]) == [1, 2]


def test_cut_inside_a_window_header(path):
    data = tiny_trace(window(0, *calls(1, 2)), window(1, *calls(3)))
    assert damage(path, data[:54]) == [("header_cut", 44, 10)]
    assert tscs(path, data[:54]) == [1, 2]


def test_cut_between_windows_cannot_be_told(path):
    data = tiny_trace(window(0, *calls(1, 2)), window(1, *calls(3)))
    assert damage(path, data[:44]) == []


def test_a_window_that_ends_past_the_end(path):
    data = encode_window(0, 4096) + b"".join(calls(1, 2))
    assert damage(path, data) == [("window_cut", 0, 4096 - 32)]
    assert tscs(path, data) == [1, 2]


def test_a_window_of_size_0(path):
    data = tiny_trace(encode_window(0, 0), window(1, *calls(1)))
    assert damage(path, data) == [("window_empty", 0, 0)]
    assert tscs(path, data) == [1]


def test_a_size_of_0_before_records_does_not_lose_them(path):
    data = encode_window(0, 0) + b"".join(calls(1, 2)) + window(1, *calls(3))
    assert damage(path, data) == [("window_size", 0, 32)]
    assert tscs(path, data) == [1, 2, 3]


@pytest.mark.parametrize("size", [20, 28, 60, 1 << 31])
def test_a_wrong_size_does_not_lose_records(path, size):
    data = encode_window(0, size) + b"".join(calls(1, 2)) + window(1, *calls(3))
    kinds = [kind for kind, _, _ in damage(path, data)]
    assert kinds == ["window_size"]
    assert raw(path, data).select("tsc_lo", "pcpu").rows() == [(1, 0), (2, 0), (3, 1)]


def test_garbage_before_and_between_windows(path):
    data = b"junk!" + window(0, *calls(1)) + b"more junk" + window(1, *calls(2))
    assert damage(path, data) == [("garbage", 0, 5), ("garbage", 33, 9)]
    assert tscs(path, data) == [1, 2]


@pytest.mark.parametrize("event", [0x123, 0x00100, 0x0100F001, 0x0003F001, 0x00020001])
@pytest.mark.parametrize("n_words", [0, 3])
def test_a_record_of_an_unknown_class_is_kept(path, event, n_words):
    odd = encode(event, [7] * n_words, 2)
    data = window(0, *calls(1), odd, *calls(3, 4))
    assert damage(path, data) == [("unknown_class", 28, 1)]
    assert raw(path, data)["event"].to_list()[1] == event


def test_two_records_of_unknown_classes_in_a_row_are_kept(path):
    odd = encode(0x123, [], 2)
    data = window(0, *calls(1), odd, odd, *calls(3))
    assert damage(path, data) == [("unknown_class", 28, 1), ("unknown_class", 40, 1)]


def test_words_that_are_no_records_are_left_out(path):
    before, after = calls(1, 2), calls(*range(10, 20))
    data = window(0, *before, struct.pack("<3I", 0, 0x7FFFFFFF, 5), *after)
    assert damage(path, data) == [("garbled", 44, 12)]
    assert tscs(path, data) == [1, 2, *range(10, 20)]


def test_a_record_longer_than_its_window(path):
    data = tiny_trace(window(0, *calls(1), encode(VMENTRY, [1] * 7, 2)[:20]), window(1, *calls(3)))
    assert damage(path, data) == [("record_cut", 28, 20)]
    assert tscs(path, data) == [1, 3]


def test_a_tsc_that_goes_backwards_stays_in_its_place(path):
    data = window(0, *calls(100, 90, 95, 110))
    assert damage(path, data) == [("tsc_backwards", 28, 1)]
    assert tscs(path, data) == [100, 90, 95, 110]


def test_a_stray_header_in_a_window(path):
    data = tiny_trace(window(0, *calls(1), window(1, *calls(2))), window(1, *calls(3)))
    assert damage(path, data) == [("stray_header", 28, 1)]
    assert tscs(path, data) == [1, 2, 3]


# --- LOST_RECORDS in any form --------------------------------------------------------------------


@pytest.mark.parametrize("first", [50, 60])
def test_a_gap_that_begins_before_it_ends_is_no_damage(path, first):
    with opened(path, window(0, *calls(1), lost(7, 0, 1, first, 60), *calls(70))) as reader:
        gaps = [(g.pcpu, g.count, g.first_tsc, g.tsc, g.dom, g.vcpu) for g in reader.lost]
        assert gaps == [(0, 7, first, 60, 0, 1)]
        assert reader.damage == []


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (lost(7, 0, 0, 65, 60), "begins 5 cycles after it ends"),
        (lost(7, 0, 0, 50, None), "carries no TSC"),
        (encode(LOST, [7, 0], 60), "has 2 words, not 4"),
        (encode(LOST, [], 60), "has 0 words, not 4"),
        (encode(LOST, [7, 0, 50, 0, 9], 60), "has 5 words, not 4"),
    ],
)
def test_a_gap_in_another_form_is_kept_and_reported(path, record, says):
    data = window(0, *calls(1), record, *calls(70))
    assert damage(path, data) == [("lost_records", 28, 1)]
    with opened(path, data) as reader:
        assert len(reader.lost) == 1
        assert says in reader.damage[0].message
    frame = raw(path, data)
    assert frame["event"].to_list()[1] == LOST
    assert (frame["tsc_lo"] <= frame["tsc_hi"]).all()


# --- the corruption matrix ----------------------------------------------------------------------


def test_every_truncation_keeps_every_record_before_it(path):
    data = sample()
    ends = record_ends(data)
    for cut in range(len(data)):
        whole = [start for start, end in ends.items() if end <= cut]
        if not whole:
            with pytest.raises(NotATraceError):
                opened(path, data[:cut])
            continue
        kept, reported = kept_and_reported(path, data[:cut])
        assert kept == whole
        for kind, offset, count in reported:
            assert kind in {"window_cut", "record_cut", "header_cut"}
            if kind != "window_cut":
                assert offset + count == cut


def test_every_flipped_bit_of_a_window_header_loses_no_record(path):
    data = sample()
    ends = record_ends(data)
    windows = [at - 12 for at in ends if at not in set(ends.values())]
    assert len(windows) == 3
    for place, changed in flips(data, [at + k for at in windows for k in range(12)]):
        kept, reported = kept_and_reported(path, changed)
        assert kept == sorted(ends), place
        assert [offset for _, offset, _ in reported if offset + 12 <= place] == []


@pytest.mark.slow
def test_every_flipped_bit_of_a_record_header_keeps_what_is_before_it(path):
    data = sample()
    ends = record_ends(data)
    for place, changed in flips(data, [at + k for at in ends for k in range(4)]):
        kept, reported = kept_and_reported(path, changed)
        assert {at for at, end in ends.items() if end <= place} <= set(kept), place
        missing = set(ends) - set(kept)
        assert len(missing) <= 2, place
        # a longer record that ends where another does is well-formed: bits 28-30 cannot be checked
        assert reported or not missing or place - 3 in ends
        assert all(offset >= place - 40 for _, offset, _ in reported), place
