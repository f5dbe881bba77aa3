"""`evtrace dump`: one line a record in time order, every record by its name."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evtrace.cli import app
from evtrace.tracefile.records import encode
from tests.tinytrace import hypercall, sample, window

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "traces" / "sources"


def run(*args):
    return CliRunner().invoke(app, ["dump", *map(str, args)])


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.bin"
    path.write_bytes(sample())
    return path


def test_the_tiny_trace_line_by_line(tiny):
    result = run(tiny)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "       0             100   p0    d0v0 RUNSTATE_CHANGE runnable->running vcpu=0 dom=0",
        "       1             110   p0    d0v0 PV_HYPERCALL_V2 op=event_channel_op",
        "       2             120   p0    d1v0 SCHED_WAKE dom=1 vcpu=0",
        "       3             121   p0    d1v0 RUNSTATE_CHANGE blocked->runnable vcpu=0 dom=1",
        "       4             125   p1    idle RUNSTATE_CHANGE running->runnable vcpu=1 dom=32767",
        "       5             126   p1    d1v0 RUNSTATE_CHANGE runnable->running vcpu=0 dom=1",
        "       6             127   p1    d1v0 HVM_VMENTRY",
        "       7             130   p0    d0v0 PV_HYPERCALL_V2 op=sched_op cmd=1",
        "       8             140   p1    d1v0 HVM_VMEXIT64 reason=0x81 rip=0x300000002",
        "       9        140..150   p1    d1v0 HVM_VMMCALL op=event_channel_op",
        "      10             150   p1    d1v0 HVM_VMENTRY",
        "      11             160   p0    d0v0 CSCHED2_RUNQ_ASSIGN unit=1 dom=0 runq=4",
        "      12        161..170   p0    d0v0 LOST_RECORDS count=5 did=0 vid=0 first_tsc=161",
        "      13             180   p0    d0v0 PV_HYPERCALL_V2 op=iret",
    ]


def test_the_style_of_xentrace_format(tiny):
    lines = run(tiny, "--style", "xentrace_format").stdout.splitlines()
    assert len(lines) == 14
    assert lines[1] == "CPU0  110 (+      10)  pv_hypercall_v2  [ op = event_channel_op ]"
    assert lines[4] == "CPU1  125 (+       0)  running_to_runnable  [ vcpu = 1, dom = 32767 ]"
    assert lines[6] == "CPU1  127 (+       1)  hvm_vmentry"


def test_xentrace_format_has_no_time_where_the_record_has_none(tiny):
    lines = run(tiny, "--style", "xentrace_format").stdout.splitlines()
    assert lines[8:11] == [
        "CPU1  140 (+      13)  hvm_vmexit64  [ reason = 0x81, rip = 0x300000002 ]",
        "CPU1  0 (+       0)  hvm_vmmcall  [ op = event_channel_op ]",
        "CPU1  150 (+      10)  hvm_vmentry",
    ]
    assert lines[2] == "CPU0  120 (+      10)  sched_wake  [ dom = 1, vcpu = 0 ]"


def test_xentrace_format_counts_cycles_across_batches(tiny, monkeypatch):
    whole = run(tiny, "--style", "xentrace_format").stdout
    monkeypatch.setattr("evtrace.tracefile.reader.TraceReader.batches.__defaults__", (3,))
    assert run(tiny, "--style", "xentrace_format").stdout == whole


def test_json_lines(tiny):
    lines = [json.loads(line) for line in run(tiny, "--format", "json").stdout.splitlines()]
    assert len(lines) == 14
    assert lines[1]["event"] == "0020100d"
    assert (lines[1]["kind"], lines[1]["op"], lines[1]["text"]) == (
        "hypercall",
        32,
        "op=event_channel_op",
    )
    assert (lines[9]["tsc_lo"], lines[9]["tsc_hi"], lines[9]["w0"], lines[9]["w1"]) == (
        140,
        150,
        32,
        None,
    )


def test_csv(tiny):
    lines = list(csv.DictReader(io.StringIO(run(tiny, "--format", "csv").stdout)))
    assert [line["seq"] for line in lines] == [str(k) for k in range(14)]
    assert lines[8]["name"] == "HVM_VMEXIT64"
    assert lines[8]["w1"] == "2"
    assert lines[6]["w0"] == ""


def test_json_and_csv_of_nothing_selected(tiny):
    assert run(tiny, "--dom", "9", "--format", "json").stdout == ""
    header = run(tiny, "--dom", "9", "--format", "csv").stdout.splitlines()
    assert len(header) == 1
    assert header[0].startswith("seq,tsc_lo,tsc_hi,")


@pytest.mark.parametrize(
    ("options", "seqs"),
    [
        (["--dom", "0", "--kind", "hypercall"], [1, 7, 13]),
        (["--kind", "vmexit", "--kind", "vmentry"], [6, 8, 10]),
        (["--from", "140", "--to", "150"], [8, 9, 10]),
        (["--around", "5:1"], [4, 5, 6]),
        (["--dom", "d1", "--from", "127"], [6, 8, 9, 10]),
    ],
)
def test_selections(tiny, options, seqs):
    assert [int(line.split()[0]) for line in run(tiny, *options).stdout.splitlines()] == seqs


def test_a_kind_that_is_none_ends_with_2(tiny):
    result = run(tiny, "--kind", "hypercal")
    assert result.exit_code == 2
    assert "the nearest is hypercall" in result.stderr


@pytest.mark.parametrize("name", sorted(path.name for path in SOURCES.iterdir()))
def test_every_record_of_every_capture_has_a_name(name):
    result = run(SOURCES / name / "xentrace.bin.zst", "--format", "csv")
    names = [line["name"] for line in csv.DictReader(io.StringIO(result.stdout))]
    assert len(names) > 10_000
    assert [name for name in names if "UNKNOWN" in name or not name] == []


def test_a_port_of_an_imported_trace(imported):
    lines = run(imported("pv_fifo_blog"), "--port", "d0:33").stdout.splitlines()
    assert sum("EVTRACE_HANDLER_ENTER" in line for line in lines) == 2
    assert any("op=bind_interdomain" in line and "local_port=33" in line for line in lines)


def test_damage_goes_to_stderr_and_the_rest_is_printed(tmp_path):
    path = tmp_path / "tiny.bin"
    path.write_bytes(window(0, hypercall(1, 1), encode(0x123, [], 2), hypercall(2, 3))[:-4])
    result = run(path)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 2
    assert "NO_CLASS_UNKNOWN_0x00000123" in result.stdout
    assert "byte 28: record of no known class" in result.stderr
    assert "byte 40: record cut short, 12 bytes skipped" in result.stderr


def test_nothing_readable_ends_with_65(tmp_path):
    path = tmp_path / "none.bin"
    path.write_bytes(b"none")
    result = run(path)
    assert (result.exit_code, result.stdout) == (65, "")


def test_head_sees_enough_and_nobody_complains():
    trace = SOURCES / "dom0_lost" / "xentrace.bin.zst"
    with subprocess.Popen(
        [sys.executable, "-m", "evtrace", "dump", trace],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as dump:
        assert dump.stdout is not None
        assert dump.stderr is not None
        first = dump.stdout.readline()
        dump.stdout.close()
        complaints = dump.stderr.read()
    assert (first.split()[0], complaints, dump.returncode) == (b"0", b"", 0)


def test_standard_input(tiny):
    result = subprocess.run(
        [sys.executable, "-m", "evtrace", "dump", "-"],
        cwd=ROOT,
        input=tiny.read_bytes(),
        capture_output=True,
        check=True,
    )
    assert len(result.stdout.splitlines()) == 14
