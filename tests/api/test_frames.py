"""Trace's lazy frames: what they hold, how little they read, and what a closed trace says."""

import subprocess
import sys

import polars as pl
import pytest

import evtrace
from evtrace.analysis.latency import LATENCY_TABLE
from evtrace.api import Trace
from evtrace.errors import NoInputError, OutputExistsError, UsageError
from evtrace.timeline import Kind
from evtrace.tracefile.reader import TraceReader
from evtrace.tracefile.tables import RECORD_TABLE, TIMELINE_TABLE, lazy_frame
from evtrace.tracer.emulator.lab import Settings
from evtrace.verdicts import runs_schema, sends_schema
from tests.tinytrace import sample

FRAMES = {
    "records": RECORD_TABLE,
    "timeline": TIMELINE_TABLE,
    "runs": runs_schema(),
    "sends": sends_schema(),
    "latencies": LATENCY_TABLE,
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Give a trace of the emulator with coalesced sends."""
    made = tmp_path_factory.mktemp("recorded") / "netfront.bin"
    evtrace.record("netfront", made, packets=600).close()
    return made


@pytest.fixture
def trace(path):
    with Trace(path) as opened:
        yield opened


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr("evtrace.tracefile.reader.TraceReader.batches.__defaults__", (50,))


@pytest.fixture
def batches_read(monkeypatch):
    """Count the batches that are read off the file."""
    read, whole = [], TraceReader.batches

    def counted(self):
        for batch in whole(self, 50):
            read.append(batch.height)
            yield batch

    monkeypatch.setattr(TraceReader, "batches", counted)
    return read


@pytest.mark.parametrize(("name", "columns"), FRAMES.items())
def test_every_frame_is_lazy_and_has_its_columns(trace, batches_read, name, columns):
    frame = getattr(trace, name)()

    assert isinstance(frame, pl.LazyFrame)
    assert frame.collect_schema() == columns
    assert batches_read == []
    assert frame.collect().schema == columns
    assert frame.collect().height > 50


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("name", ["records", "timeline"])
def test_a_frame_read_by_batches_is_the_whole_whatever_is_asked_of_it(trace, name):
    frame, of_d1 = getattr(trace, name)(), pl.col("dom") == 1
    whole = frame.collect()

    assert frame.collect().equals(whole)
    assert frame.filter(of_d1).collect().equals(whole.filter(of_d1))
    assert frame.filter(of_d1).select("seq").collect().equals(whole.filter(of_d1).select("seq"))
    assert frame.head(70).filter(of_d1).collect().equals(whole.head(70).filter(of_d1))
    assert frame.filter(of_d1).head(70).collect().equals(whole.filter(of_d1).head(70))
    assert frame.tail(3).collect().equals(whole.tail(3))
    assert frame.select(pl.len()).collect().item() == whole.height
    joined = frame.select("seq").join(frame.filter(of_d1), on="seq", maintain_order="left")
    assert joined.collect().height == whole.filter(of_d1).height


def test_the_start_of_a_trace_is_read_without_its_rest(trace, batches_read):
    assert trace.timeline().head(60).collect().height == 60

    assert 60 <= sum(batches_read) < 300


def test_text_is_made_only_where_it_is_looked_at(trace, monkeypatch):
    monkeypatch.setattr("evtrace.tracefile.tables.described", None)
    kinds = trace.records().filter(pl.col("kind") == "call_enter").select("seq", "event").collect()

    assert set(kinds["event"]) == {"0800fe10"}
    with pytest.raises(TypeError):
        trace.records().filter(pl.col("name") == "x").select("seq").collect()


def test_the_timeline_is_what_the_replay_walks(trace):
    names = [kind.name.lower() for kind in Kind]
    frame = trace.timeline().collect()
    batches = pl.concat(trace.batches())

    assert set(frame["kind"]) <= set(names)
    assert frame.drop("kind").equals(batches.drop("kind"))


def test_runs_and_sends_are_those_of_one_replay(trace, monkeypatch):
    results = trace.replay()
    monkeypatch.setattr("evtrace.api.Follow", None)

    assert trace.runs().collect().equals(results.runs_frame())
    assert trace.sends().collect().equals(results.sends_frame())
    assert trace.report().runs.drop("device").equals(results.runs_frame())
    assert set(trace.latencies().collect()["seq"]) <= {run.seq for run in results.runs}


def test_another_xen_has_a_replay_of_its_own(trace):
    pends = trace.runs().filter(pl.col("cause") == "BIND_CONSERVATIVE").collect()
    of_qemu = trace.runs("qemu").filter(pl.col("cause") == "BIND_CONSERVATIVE").collect()

    assert (pends.height, of_qemu.height) == (1, 0)
    with pytest.raises(UsageError, match="no Xen profile 'xen'"):
        trace.runs("xen")


def test_a_send_meets_its_run(trace):
    pairs = trace.sends().join(trace.runs(), left_on="run_seq", right_on="seq", suffix="_run")
    found = pairs.filter(pl.col("fate") == "DELIVERED").collect()

    assert found.height > 20
    assert found["to_port"].equals(found["port_run"].alias("to_port"))
    assert (found["tsc_hi"] <= found["tsc_run"]).all()


def test_seconds_count_from_the_first_record(trace):
    first, last = trace.reader.survey.extent
    on_pcpus = trace.records().filter(pl.col("pcpu").is_not_null())
    seconds = on_pcpus.select(trace.seconds("tsc_lo")).collect().to_series()

    assert seconds[0] == 0.0
    assert seconds[-1] == pytest.approx((last - first) / trace.hz)


def test_a_trace_without_frequency_has_cycles_and_no_nanoseconds(tmp_path):
    (tmp_path / "tiny.bin").write_bytes(sample())
    trace = Trace(tmp_path / "tiny.bin")

    assert trace.hz is None
    with pytest.raises(UsageError, match=r"tiny\.bin: the trace does not tell its TSC frequency"):
        trace.seconds()
    assert trace.runs().collect().is_empty()
    assert trace.latencies().collect().schema == LATENCY_TABLE


def test_what_a_trace_says_in_a_line(path):
    with Trace(path) as trace:
        said = repr(trace)
        assert trace.level == "C5"

    assert said == f"<Trace 'netfront.bin': {path.stat().st_size:,} bytes, Xen 4.21, d0, d1>"
    assert repr(trace) == "<Trace 'netfront.bin': closed>"


def test_a_closed_trace_says_so(path):
    with Trace(path) as trace:
        frame, runs = trace.timeline(), trace.runs().collect()

    with pytest.raises(UsageError, match="the trace is closed"):
        frame.collect()
    assert trace.runs().collect().equals(runs)


def test_errors_of_a_source_reach_the_caller():
    def broken(_):
        yield pl.DataFrame({"a": [1]})
        message = "the source broke"
        raise UsageError(message)

    with pytest.raises(UsageError, match="the source broke"):
        lazy_frame(pl.Schema({"a": pl.Int64}), broken).collect()


# --- record --------------------------------------------------------------------------------------


def test_a_scenario_is_recorded_as_the_command_records_it(tmp_path):
    evtrace.record("pingpong", tmp_path / "api.bin", faults=["lost-send@0.0001"], rounds=20)
    command = ["record", "--scenario", "pingpong", "--set", "rounds=20"]
    command += ["--fault", "lost-send@0.0001", "-o", str(tmp_path / "cli.bin")]
    subprocess.run([sys.executable, "-m", "evtrace", *command], check=True, capture_output=True)

    assert (tmp_path / "api.bin").read_bytes() == (tmp_path / "cli.bin").read_bytes()


def test_a_function_is_a_scenario(tmp_path):
    def quiet(lab, *, count=1):
        """Nothing but `count` domains."""
        for number in range(count):
            lab.domain(f"dom{number}", number)

    with evtrace.record(quiet, tmp_path / "t.bin", settings=Settings(pcpus=1), count=2) as trace:
        assert trace.facts.domain_names == {0: "dom0", 1: "dom1"}
        assert trace.facts.sources == ["--scenario quiet count=2"]


def test_what_cannot_be_recorded_is_said(tmp_path):
    with pytest.raises(UsageError, match="did you mean pingpong"):
        evtrace.record("pingpon", tmp_path / "t.bin")
    with pytest.raises(UsageError, match="a parameter of the scenario: rounds"):
        evtrace.record("pingpong", tmp_path / "t.bin", round=1)
    (tmp_path / "t.bin").write_text("kept")
    with pytest.raises(OutputExistsError):
        evtrace.record("pingpong", tmp_path / "t.bin")
    with pytest.raises(NoInputError):
        evtrace.Trace(tmp_path / "none.bin")


def test_the_package_offers_what_it_lists():
    assert dir(evtrace) == ["Trace", "__version__", "record"]
    assert evtrace.Trace is Trace
    with pytest.raises(AttributeError, match="no attribute 'trace'"):
        _ = evtrace.trace


def test_a_pass_tells_how_far_it_is(trace):
    shares: list[float] = []
    with Trace(trace.reader.path, shares.append) as watched:
        watched.replay()

    assert shares == sorted(shares)
    assert 0.9 < shares[-1] <= 1
