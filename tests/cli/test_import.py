"""`evtrace import`: sources, summary, refusals, exit codes."""

import re
import stat

import pytest
import zstandard
from typer.testing import CliRunner

from evtrace.cli import app
from evtrace.errors import ExitCode
from evtrace.tracefile.family import Timing
from evtrace.tracefile.reader import open_trace
from tests.conftest import SOURCES
from tests.tinytrace import hypercall, tiny_trace, window

BLOG = SOURCES / "pv_fifo_blog"
PVH = SOURCES / "pvh_blog"

TEXT = """\
# tracer: function
          <idle>-0       [000] d.h1. 100: xen_evtchn_do_upcall <-xen_pv_evtchn_do_upcall
          <idle>-0       [000] d.h1. 110: handle_irq_for_port: (f+0x0/0xf0) port=7
          <idle>-0       [000] d.h1. 120: irq_handler_entry: irq=30 name=timer0
what is this
          <idle>-0       [000] d.h1. 130: irq_handler_exit: irq=30 ret=handled
          <idle>-0       [000] d.h1. 140: irq_handler_entry: irq=9 name=acpi
"""
ASSUMED = "no record tells its TSC from the host's; taken to be the same"
LSEVTCHN = "# lsevtchn 0\n   7: VCPU 0: Virtual IRQ 0\n   8: VCPU 0: IPI\n"
DUMP = """\
(XEN) Event channel information for domain 0:
(XEN)        7 [0/0/  -   ]: s=5 n=0 x=0 v=0
(XEN)        8 [0/1/  -   ]: s=6 n=1 x=0
"""


def run(*arguments):
    return CliRunner().invoke(app, ["import", *(str(argument) for argument in arguments)])


@pytest.fixture
def files(tmp_path):
    for name, text in {"dom0.txt": TEXT, "ls.txt": LSEVTCHN, "e.txt": DUMP}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_summary_names_sources_domains_clocks_and_what_was_not_understood(files):
    done = run("--ftrace", f"0={files / 'dom0.txt'}", "-o", files / "t.bin")

    assert (0, "") == (done.exit_code, done.stdout)
    assert done.stderr.splitlines() == [
        "evtrace: imported ftrace 0=dom0.txt",
        f"evtrace: d0: 0 calls, 1 handler runs; {ASSUMED}",
        "evtrace: d0: 1 handlers of irqs that are no event channels left out",
        "evtrace: d0: 1 lines not understood, such as line 5: what is this",
    ]
    assert not (files / "t.bin.partial").exists()


def test_the_demonstration(tmp_path):
    done = run(
        *("--xentrace", BLOG / "xentrace.bin.zst"),
        *("--ftrace", f"0={BLOG / 'dom0.ftrace.txt.zst'}"),
        *("--ftrace", f"d1={BLOG / 'dom1.ftrace.txt.zst'}"),
        *("--debug-keys", BLOG / "before.debugkeys.txt"),
        *("--xen-version", "4.17.7", "--timing", "emulated-cpu"),
        *("-o", tmp_path / "t.bin.zst"),
    )

    calls = re.findall(
        r"d(\d): (\d+) calls \((\d+) in xentrace's time\), (\d+) handler", done.stderr
    )
    assert [("0", "182", "78", "1599"), ("1", "15", "1", "98")] == calls
    with open_trace(tmp_path / "t.bin.zst") as reader:
        assert ((4, 17), Timing.EMULATED_CPU) == (reader.facts.xen_version, reader.facts.timing)
        assert "ftrace 1=dom1.ftrace.txt.zst" in reader.facts.sources
        assert not any(str(SOURCES) in source for source in reader.facts.sources)


def without(data, classes):
    """Drop the stock records of some classes, as another xentrace mask would."""
    kept, at = bytearray(), 0
    while at < len(data):
        size = int.from_bytes(data[at + 8 : at + 12], "little")
        start, records = at + 12, bytearray()
        at = start
        while at < start + size:
            header = int.from_bytes(data[at : at + 4], "little")
            end = at + 4 * (1 + (header >> 28 & 7) + 2 * (header >> 31))
            if not header & classes & 0x0FFF0000:
                records += data[at:end]
            at = end
        if records:
            kept += data[start - 12 : start - 4] + len(records).to_bytes(4, "little") + records
    return bytes(kept)


SCHED, HVM, PV = 0x0002F000, 0x0008F000, 0x0020F000
FULL = (140928944930, 140929111066)


@pytest.mark.parametrize(
    ("missing", "widest"),
    [(0, 0), (PV, 0), (HVM, 2_000_000), (SCHED, 6_000_000), (SCHED | HVM | PV, 6_000_000)],
)
def test_the_clock_of_an_hvm_guest_by_what_a_mask_leaves(tmp_path, missing, widest):
    stock = zstandard.ZstdDecompressor().stream_reader((PVH / "xentrace.bin.zst").read_bytes())
    (tmp_path / "x.bin").write_bytes(without(stock.read(), missing))

    run(
        *("--xentrace", tmp_path / "x.bin"),
        *("--ftrace", f"0={PVH / 'dom0.ftrace.txt.zst'}"),
        *("--ftrace", f"1={PVH / 'dom1.ftrace.txt.zst'}"),
        *("--lsevtchn", PVH / "before.lsevtchn.txt"),
        *("-o", tmp_path / "t.bin"),
    )

    with open_trace(tmp_path / "t.bin") as reader:
        lo, hi = reader.facts.clock_offsets[1]
    assert lo <= FULL[0]
    assert hi >= FULL[1]
    assert hi - lo <= FULL[1] - FULL[0] + widest


def test_snapshots_of_one_time_are_one_and_differences_are_named(files):
    done = run(
        *("--lsevtchn", files / "ls.txt"),
        *("--debug-keys", files / "e.txt", "-o", files / "t.bin"),
    )

    assert "another snapshot of that time shows d0:8 differently" in done.stderr


def test_snapshots_of_different_times_are_two(files):
    done = run(
        *("--lsevtchn", f"0={files / 'ls.txt'}@after"),
        *("--debug-keys", f"{files / 'e.txt'}@12345", "-o", files / "t.bin"),
    )

    assert "ls.txt@after" in done.stderr
    assert "e.txt@12345" in done.stderr
    assert "differently" not in done.stderr


def test_an_at_sign_may_be_part_of_a_name(files):
    (files / "ls@work").write_text(LSEVTCHN)

    done = run("--lsevtchn", files / "ls@work", "-o", files / "t.bin")

    assert (0, True) == (done.exit_code, "ls@work@before" in done.stderr)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), ExitCode.USAGE, "nothing to import"),
        (("--ftrace", "dom0.txt"), ExitCode.USAGE, "expected DOM=FILE"),
        (("--ftrace", "0=dom0.txt", "--ftrace", "d0=dom0.txt"), ExitCode.USAGE, "given twice"),
        (("--ftrace", "0=seconds.txt"), ExitCode.USAGE, "seconds.txt: line 1: .*x86-tsc"),
        (("--ftrace", "0=none.txt"), ExitCode.NO_INPUT, "none.txt: cannot read"),
        (("--ftrace", "0=ls.txt"), ExitCode.NOT_A_TRACE, "expected lines of ftrace text"),
        (("--ftrace", "0=bad.zst"), ExitCode.NOT_A_TRACE, "bad.zst: .*zstandard"),
        (("--lsevtchn", "ls.txt@noon"), ExitCode.USAGE, "`before`, `after` or a TSC"),
        (("--lsevtchn", "e.txt"), ExitCode.NOT_A_TRACE, "no channel of any domain"),
        (("--debug-keys", "ls.txt"), ExitCode.NOT_A_TRACE, "what debug keys prints"),
        (("--xentrace", "none.bin"), ExitCode.NO_INPUT, "none.bin"),
        (("--xentrace", "e.txt"), ExitCode.NOT_A_TRACE, "a xentrace window"),
        (("--ftrace", "0=dom0.txt", "--timing", "guess"), ExitCode.USAGE, "emulated-cpu"),
        (("--ftrace", "0=dom0.txt", "--xen-version", "new"), ExitCode.USAGE, "such as 4.17"),
        (("--ftrace", "0=dom0.txt", "-o", "there.bin"), ExitCode.OUTPUT_EXISTS, "--force"),
        (("--ftrace", "0=dom0.txt", "-o", "no/t.bin"), ExitCode.CANNOT_WRITE, "no/t.bin"),
    ],
)
def test_refusals_say_what_and_where(files, monkeypatch, arguments, code, message):
    monkeypatch.chdir(files)
    (files / "seconds.txt").write_text("  bash-1 [000] d.h.. 79.363885: irq_handler_entry: irq=9\n")
    (files / "bad.zst").write_bytes(b"no zstandard")
    (files / "there.bin").write_bytes(b"kept")

    done = run("-o", "t.bin", *arguments)

    assert code == done.exit_code
    assert re.search(message, done.stderr), done.stderr
    assert (files / "there.bin").read_bytes() == b"kept"
    assert not (files / "t.bin").exists()


def test_force_replaces(files):
    (files / "t.bin").write_bytes(b"old")

    done = run("--force", "--ftrace", f"0={files / 'dom0.txt'}", "-o", files / "t.bin")

    assert 0 == done.exit_code
    assert (files / "t.bin").read_bytes() != b"old"


@pytest.fixture
def trace_cmd(files, monkeypatch):
    """Put a program called trace-cmd, and nothing else, on the path."""

    def install(script):
        program = files / "bin" / "trace-cmd"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    monkeypatch.setenv("PATH", str(files / "bin"))
    (files / "trace.dat").write_bytes(b"\x17\x08\x44tracing6\0and more")
    return install


@pytest.mark.parametrize("option", ["--trace-dat", "--tracecmd", "--ftrace"])
def test_trace_cmd_prints_its_binary_file(files, trace_cmd, option):
    lines = (
        "cpus=1",
        "  <idle>-0     [000]275: function:    xen_evtchn_do_upcall <-- xen_pv",
        "  <idle>-0     [000]276: handle_irq_for_port:  (ffffffff81664710) port=7",
        "  <idle>-0     [000]277: irq_handler_entry:    irq=30 name=timer0",
    )
    trace_cmd("\n".join(f"echo '{line}'" for line in lines))

    done = run(option, f"0={files / 'trace.dat'}", "-o", files / "t.bin")

    assert 0 == done.exit_code, done.stderr
    assert "d0: 0 calls, 1 handler runs" in done.stderr


def test_a_binary_file_needs_trace_cmd(files, trace_cmd):
    del trace_cmd
    done = run("--trace-dat", f"0={files / 'trace.dat'}", "-o", files / "t.bin")

    assert ExitCode.CANNOT_RECORD == done.exit_code
    assert "trace-cmd, which is not installed" in done.stderr


def test_a_binary_file_that_trace_cmd_does_not_understand(files, trace_cmd):
    trace_cmd("echo 'error reading header' >&2; exit 255")

    done = run("--trace-dat", f"0={files / 'trace.dat'}", "-o", files / "t.bin")

    assert ExitCode.NO_INPUT == done.exit_code
    assert "trace-cmd cannot read it: error reading header" in done.stderr


def test_an_input_is_not_overwritten_by_the_output_in_the_making(tmp_path):
    capture = tmp_path / "x.bin.partial"
    capture.write_bytes(tiny_trace(window(0, hypercall(32, 5))))
    before = capture.read_bytes()
    done = run("--xentrace", capture, "-o", tmp_path / "x.bin")

    assert done.exit_code == ExitCode.USAGE
    assert "choose another name" in " ".join(done.stderr.split())
    assert capture.read_bytes() == before
