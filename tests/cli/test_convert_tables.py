"""`evtrace convert` into tables: every format says the same, selections, what is refused."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from evtrace.analysis.latency import LATENCY_TABLE
from evtrace.api import Trace
from evtrace.cli import app
from evtrace.errors import ExitCode
from evtrace.timeline import Kind
from evtrace.tracefile.tables import RECORD_TABLE, TIMELINE_TABLE
from evtrace.verdicts import runs_schema, sends_schema
from tests.tinytrace import sample


def run(*arguments):
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


@pytest.fixture(scope="module")
def netfront(tmp_path_factory):
    """Give a trace of the emulator with coalesced sends."""
    path = tmp_path_factory.mktemp("recorded") / "netfront.bin"
    done = CliRunner().invoke(app, ["record", "--scenario", "netfront", "-o", str(path)])
    assert done.exit_code == 0, done.output
    return path


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.bin"
    path.write_bytes(sample())
    return path


def converted(trace, output, *options):
    done = run(trace, "-o", output, *options)
    assert done.exit_code == 0, done.stderr
    assert not output.with_name(output.name + ".partial").exists()
    return done.stdout


def csv_rows(path):
    return list(csv.DictReader(io.StringIO(path.read_text(), newline="")))


# --- the tables ----------------------------------------------------------------------------------


def test_the_timeline_keeps_its_columns_and_names_its_kinds(netfront, tmp_path):
    said = converted(netfront, tmp_path / "t.parquet")

    table = pl.read_parquet(tmp_path / "t.parquet")
    with Trace(netfront) as trace:
        expected = pl.concat(trace.batches())
    assert table.schema == TIMELINE_TABLE
    assert table.drop("kind").equals(expected.drop("kind"))
    assert table["kind"].to_list() == [Kind(kind).name.lower() for kind in expected["kind"]]
    assert said == f"{tmp_path / 't.parquet'}: timeline, {expected.height:,} rows\n"


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("timeline", TIMELINE_TABLE),
        ("records", RECORD_TABLE),
        ("runs", runs_schema()),
        ("sends", sends_schema()),
        ("latencies", LATENCY_TABLE),
    ],
)
def test_every_format_says_the_same(netfront, tmp_path, name, columns):
    for suffix in (".parquet", ".arrow", ".csv", ".jsonl"):
        converted(netfront, tmp_path / f"t{suffix}", "--table", name)

    table = pl.read_parquet(tmp_path / "t.parquet")
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    rows = csv_rows(tmp_path / "t.csv")
    assert table.schema == columns
    assert table.height > 100
    assert table.equals(pl.read_ipc(tmp_path / "t.arrow"))
    assert table.to_dicts() == lines
    assert [str(seq) for seq in table["seq"]] == [row["seq"] for row in rows]
    assert list(columns) == list(rows[0])


def test_lists_become_text_in_csv(netfront, tmp_path):
    converted(netfront, tmp_path / "t.csv", "--table", "runs")

    rows = csv_rows(tmp_path / "t.csv")
    with Trace(netfront) as trace:
        runs = trace.replay().runs
    assert [len(run.contributors) for run in runs] == [
        len(json.loads(row["contributors"])) for row in rows
    ]
    assert ["+".join(run.routes) for run in runs] == [row["routes"] for row in rows]


def test_the_verdicts_are_those_of_the_replay(netfront, tmp_path):
    converted(netfront, tmp_path / "r.parquet", "--table", "runs")
    converted(netfront, tmp_path / "s.parquet", "--table", "sends")

    with Trace(netfront) as trace:
        results = trace.replay()
    assert pl.read_parquet(tmp_path / "r.parquet").equals(results.runs_frame())
    sends = pl.read_parquet(tmp_path / "s.parquet")
    assert sends.equals(results.sends_frame())
    assert set(sends["fate"]) >= {"DELIVERED", "COALESCED"}


def test_the_records_are_those_that_dump_prints(tiny, tmp_path):
    converted(tiny, tmp_path / "t.csv", "--table", "records")

    dumped = CliRunner().invoke(app, ["dump", str(tiny), "--format", "csv"])
    assert (tmp_path / "t.csv").read_text() == dumped.stdout


def test_parquet_says_of_what_it_is(netfront, tmp_path):
    converted(netfront, tmp_path / "t.parquet")

    about = pl.read_parquet_metadata(tmp_path / "t.parquet")
    said = {name: about[name] for name in ("table", "trace", "tsc_hz", "timing")}
    assert said == {
        "table": "timeline",
        "trace": "netfront.bin",
        "tsc_hz": "2100000000",
        "timing": "modelled",
    }


def test_batches_become_one_table(netfront, tmp_path, monkeypatch):
    monkeypatch.setattr("evtrace.tracefile.reader.TraceReader.batches.__defaults__", (50,))
    converted(netfront, tmp_path / "t.parquet")
    monkeypatch.undo()

    with Trace(netfront) as trace:
        expected = pl.concat(trace.batches())
    assert pl.read_parquet(tmp_path / "t.parquet")["seq"].equals(expected["seq"])


# --- selections ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "seqs"),
    [
        (["--dom", "0", "--kind", "hypercall"], [1, 7, 13]),
        (["--from", "140", "--to", "150"], [8, 9, 10]),
        (["--around", "5:1"], [4, 5, 6]),
        (["--dom", "9"], []),
    ],
)
@pytest.mark.parametrize("name", ["timeline", "records"])
def test_rows_are_selected_as_by_dump(tiny, tmp_path, options, seqs, name):
    for suffix in (".parquet", ".csv"):
        converted(tiny, tmp_path / f"t{suffix}", "--table", name, *options)

    assert pl.read_parquet(tmp_path / "t.parquet")["seq"].to_list() == seqs
    rows = csv_rows(tmp_path / "t.csv")
    assert [row["seq"] for row in rows] == [str(seq) for seq in seqs]


def test_runs_are_selected_by_port_and_sends_by_either_end(netfront, tmp_path):
    with Trace(netfront) as trace:
        results = trace.replay()
    send = next(send for send in results.sends if send.run_seq is not None)
    end = f"d{send.to_dom}:{send.to_port}"
    converted(netfront, tmp_path / "r.parquet", "--table", "runs", "--port", end)
    converted(netfront, tmp_path / "s.parquet", "--table", "sends", "--port", end)
    converted(netfront, tmp_path / "a.parquet", "--table", "sends", "--around", f"{send.seq}:0")

    runs, sends = pl.read_parquet(tmp_path / "r.parquet"), pl.read_parquet(tmp_path / "s.parquet")
    channel = (send.to_dom, send.to_port)
    expected = [run.seq for run in results.runs if (run.dom, run.port) == channel]
    assert runs["seq"].to_list() == expected
    assert send.seq in sends["seq"]
    assert pl.read_parquet(tmp_path / "a.parquet")["seq"].to_list() == [send.seq]


def test_latencies_are_those_of_the_report_and_are_selected_by_their_runs(netfront, tmp_path):
    converted(netfront, tmp_path / "all.parquet", "--table", "latencies")
    converted(netfront, tmp_path / "d1.parquet", "--table", "latencies", "--dom", "1")

    table, own = pl.read_parquet(tmp_path / "all.parquet"), pl.read_parquet(tmp_path / "d1.parquet")
    with Trace(netfront) as trace:
        report, runs = trace.report(), trace.replay().runs
    summary = table.group_by("channel", "stage", maintain_order=True).agg(
        pl.len().alias("count"), max_ns=pl.col("latency_ns").max()
    )
    assert set(summary.rows()) == set(
        report.table("latencies").frame.select("channel", "stage", "count", "max_ns").rows()
    )
    assert set(own["seq"]) <= {run.seq for run in runs if run.dom == 1}
    assert own.equals(table.filter(pl.col("channel").str.contains("→d1:")))
    assert own.height > 100


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("-o", "t.xlsx"), ExitCode.USAGE, ".parquet, .arrow, .csv, .jsonl, .pftrace; or --stock"),
        (("-o", "t"), ExitCode.USAGE, "no format is named so"),
        (("-o", "t.csv", "--table", "runs", "--kind", "wake"), ExitCode.USAGE, "runs have none"),
        (("-o", "t.csv", "--table", "latencies", "--kind", "wake"), 2, "latencies have none"),
        (("-o", "t.bin", "--stock", "--dom", "0"), ExitCode.USAGE, "evtrace cut"),
        (("-o", "there.csv"), ExitCode.OUTPUT_EXISTS, "--force"),
        (("-o", "no/t.parquet"), ExitCode.CANNOT_WRITE, "no/t.parquet: cannot write: No such file"),
        (("-o", "t.csv", "--dom", "dom0"), ExitCode.USAGE, "--dom dom0"),
    ],
)
def test_refusals_say_what_and_write_nothing(tiny, monkeypatch, options, code, message):
    monkeypatch.chdir(tiny.parent)
    (tiny.parent / "there.csv").write_text("kept")

    done = run("tiny.bin", *options)

    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr, done.stderr
    assert (tiny.parent / "there.csv").read_text() == "kept"
    assert {path.name for path in tiny.parent.iterdir()} == {"tiny.bin", "there.csv"}


def test_an_output_is_replaced_by_force(tiny, tmp_path):
    (tmp_path / "t.csv").write_text("old")

    converted(tiny, tmp_path / "t.csv", "--force")

    assert (tmp_path / "t.csv").read_text().startswith("seq,tsc_lo")


def test_a_partial_file_is_not_read_while_it_is_written(tiny):
    source = tiny.rename(tiny.parent / "t.csv.partial")

    done = run(source, "-o", tiny.parent / "t.csv")

    assert (done.exit_code, source.read_bytes()) == (ExitCode.USAGE, sample())
    assert "choose another name" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv", ".jsonl"])
def test_a_full_disk_ends_with_74(netfront, tmp_path, suffix):
    (tmp_path / f"t{suffix}.partial").symlink_to("/dev/full")

    done = run(netfront, "-o", tmp_path / f"t{suffix}")

    assert done.exit_code == ExitCode.CANNOT_WRITE
    assert "No space left on device" in done.stderr


def test_damage_goes_to_stderr(tiny, tmp_path):
    tiny.write_bytes(sample()[:-4])

    done = run(tiny, "-o", tmp_path / "t.csv")

    assert done.exit_code == 0
    assert "record cut short" in done.stderr
    assert "timeline, 12 rows" in done.stdout


def test_standard_input_is_read(tiny, tmp_path):
    command = [sys.executable, "-m", "evtrace", "convert", "-", "-o", str(tmp_path / "t.csv")]
    done = subprocess.run(command, input=tiny.read_bytes(), capture_output=True, check=True)

    assert done.stdout.decode().endswith(f"timeline, 13 rows{os.linesep}")
