"""The writer: readable at any moment, named when whole, never over another file."""

from pathlib import Path

import pytest

from evtrace.errors import CannotWriteError, OutputExistsError
from evtrace.tracefile.reader import open_trace
from evtrace.tracefile.writer import WINDOW_BYTES, TraceWriter
from tests.tinytrace import hypercall, raw, window


def test_what_was_appended_is_read_back_stream_by_stream(tmp_path):
    path = tmp_path / "t.bin"
    with TraceWriter(path) as writer:
        for tsc in range(10):
            writer.append(tsc % 2, hypercall(tsc, tsc))
    frame = raw(path, path.read_bytes())
    assert frame.select("tsc_lo", "pcpu", "w0").rows() == [(k, k % 2, k) for k in range(10)]


def test_windows_hold_whole_records_and_at_most_64_kib(tmp_path):
    path = tmp_path / "t.bin"
    with TraceWriter(path) as writer:
        for tsc in range(10_000):
            writer.append(3, hypercall(1, tsc))
    with open_trace(path) as reader:
        assert [w.size <= WINDOW_BYTES and w.size % 16 == 0 for w in reader.windows] == [True] * 3
        assert reader.survey.records == 10_000
        assert reader.damage == []


def test_a_window_is_written_as_it_is_behind_what_was_appended(tmp_path):
    path = tmp_path / "t.bin"
    with TraceWriter(path) as writer:
        writer.append(0, hypercall(1, 1))
        writer.write_window(0, hypercall(2, 2))
        writer.append(0, hypercall(3, 3))
        writer.write_window(1, b"")
    parts = [window(0, hypercall(k, k)) for k in (1, 2, 3)]
    assert path.read_bytes() == b"".join(parts)


def test_the_partial_file_is_readable_while_it_grows(tmp_path):
    path = tmp_path / "t.bin"
    with TraceWriter(path) as writer:
        writer.append(0, hypercall(1, 1))
        writer.flush()
        with open_trace(writer.partial) as reader:
            assert reader.survey.records == 1
        assert not path.exists()
    assert path.exists()
    assert not writer.partial.exists()


def test_after_an_exception_the_partial_file_stays_with_all_records(tmp_path):
    def interrupted():
        with TraceWriter(path) as writer:
            writer.append(0, hypercall(1, 1))
            raise KeyboardInterrupt

    path = tmp_path / "t.bin"
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not path.exists()
    assert (tmp_path / "t.bin.partial").read_bytes() == window(0, hypercall(1, 1))


def test_an_existing_file_is_replaced_only_by_force(tmp_path):
    path = tmp_path / "t.bin"
    path.write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match="--force"):
        TraceWriter(path)
    assert path.read_bytes() == b"precious"
    with TraceWriter(path, force=True) as writer:
        writer.append(0, hypercall(1, 1))
    assert path.read_bytes() == window(0, hypercall(1, 1))


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path):
    path = tmp_path / "t.bin"
    writer = TraceWriter(path)
    writer.append(0, hypercall(1, 1))
    path.write_bytes(b"precious")
    with pytest.raises(OutputExistsError):
        writer.close()
    assert path.read_bytes() == b"precious"
    assert writer.partial.read_bytes() == window(0, hypercall(1, 1))


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CannotWriteError, match=r"none/t\.bin.*No such file"):
        TraceWriter(tmp_path / "none" / "t.bin")


def test_a_full_disk_is_named(tmp_path):
    writer = TraceWriter(tmp_path / "t.bin")
    writer._file.close()
    with Path("/dev/full").open("wb", buffering=0) as full:
        writer._file = full
        with pytest.raises(CannotWriteError, match=r"t\.bin: cannot write: No space left"):
            writer.write_window(0, hypercall(1, 1))


def test_a_zst_file_is_compressed_and_read_back(tmp_path):
    path = tmp_path / "t.bin.zst"
    with TraceWriter(path) as writer:
        writer.append(0, hypercall(1, 1))
    assert path.read_bytes()[:4] == bytes.fromhex("28b52ffd")
    with open_trace(path) as reader:
        assert reader.survey.records == 1
