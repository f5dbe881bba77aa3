"""The recorder on a machine made of files: what it sets up, what it leaves, what it takes down."""

import os
import select
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evtrace.errors import CannotRecordError, CannotWriteError
from evtrace.tracer.host.ledger import Ledger, clean
from evtrace.tracer.host.preflight import examine
from evtrace.tracer.host.recorder import Plan, Recorder
from evtrace.tracer.host.xentrace import run_xentrace
from tests.unit.host.machine_builder import make_dom0, make_instance, make_program, write

XENTRACE = 'for file; do :; done; printf raw > "$file"; exec sleep 60'


@pytest.fixture
def dom0(tmp_path):
    return make_dom0(tmp_path / "root")


@pytest.fixture
def plan(dom0, tmp_path):
    seen = examine(dom0.machine, 1024, guest=False)
    folder = tmp_path / "t.bin.capture"
    folder.mkdir()
    return Plan(
        folder,
        dom0.tracefs,
        seen.probes,
        seen.functions,
        buffer_kb=1024,
        seconds=0,
        heading="# heading\n",
    )


def run(plan, dom0, stop=None, report=lambda _: None):
    return Recorder(plan, dom0.machine, stop or threading.Event(), report).run()


def kprobes(dom0):
    return (dom0.tracefs.root / "kprobe_events").read_text()


def test_what_is_set_while_it_records_is_gone_afterwards(plan, dom0):
    seen: dict[str, Any] = {}

    def look(status):
        seen["status"] = status.events, status.lost, status.fill
        instance = dom0.tracefs.instance
        seen["kprobes"] = kprobes(dom0)
        seen["on"] = (instance / "tracing_on").read_text()
        seen["clock"] = (instance / "trace_clock").read_text()
        seen["functions"] = (instance / "set_ftrace_filter").read_text()
        seen["entry"] = Ledger(dom0.machine).read()
        stop.set()

    stop = threading.Event()
    captured = run(replace(plan, seconds=None), dom0, stop, look)

    assert "p:evtrace/notify_remote_via_irq_12_pre notify_remote_via_irq+8 cmd" in seen["kprobes"]
    assert ("1\n", "x86-tsc\n") == (seen["on"], seen["clock"])
    assert str(plan.folder) == seen["entry"].folder
    assert ("", None) == (kprobes(dom0), Ledger(dom0.machine).read())
    assert not dom0.tracefs.instance.exists()
    assert captured.is_complete
    assert (10, 2, 1 / 2048) == seen["status"]


def test_the_channels_are_listed_with_the_probes_on_and_then_marked(plan, dom0):
    instance = dom0.tracefs.instance
    look = f'echo "$(cat {instance}/tracing_on) $(cat {instance}/trace_marker)"'
    make_program(dom0.root, "lsevtchn", look)
    marks = []

    def see(_):
        marks.append((instance / "trace_marker").read_text())
        stop.set()

    stop = threading.Event()
    captured = run(replace(plan, seconds=None), dom0, stop, see)

    assert ["# lsevtchn 0", "1 "] == captured.before.lsevtchn.read_text().splitlines()
    assert ["evtrace=listed\n"] == marks


def test_a_kernel_that_takes_no_mark_is_recorded_all_the_same(plan, dom0, monkeypatch):
    def refuse(_, text):
        raise OSError(22, "Invalid argument", text)

    monkeypatch.setattr(type(dom0.tracefs), "mark", refuse)

    captured = run(plan, dom0)

    assert captured.before.lsevtchn.exists()
    assert ["trace_marker: Invalid argument"] == [
        remark.rpartition(":")[0] for remark in captured.remarks
    ]


def test_the_text_and_the_snapshots_are_files(plan, dom0):
    captured = run(plan, dom0)

    assert "# heading\n" == captured.text.read_text()
    assert "# lsevtchn 0\n   1: VCPU 0: Virtual IRQ 0\n" == captured.before.lsevtchn.read_text()
    assert captured.after.lsevtchn.name == "after.lsevtchn.txt"
    assert captured.before.debug_keys is None


def test_an_exception_leaves_nothing(plan, dom0):
    def fail(_):
        raise KeyError

    with pytest.raises(KeyError):
        run(replace(plan, seconds=None), dom0, report=fail)

    assert ("", None) == (kprobes(dom0), Ledger(dom0.machine).read())
    assert not dom0.tracefs.instance.exists()


def test_a_probe_that_the_kernel_refuses_is_named_and_the_rest_recorded(plan, dom0, monkeypatch):
    define = type(dom0.tracefs).define

    def picky(self, probe):
        if probe.name == "handle_irq_for_port":
            raise OSError(95, "Operation not supported")
        define(self, probe)

    monkeypatch.setattr(type(dom0.tracefs), "define", picky)
    captured = run(plan, dom0)

    assert ["handle_irq_for_port: Operation not supported"] == captured.refused
    assert captured.text is not None


def test_a_full_disk_ends_it_with_what_was_recorded(plan, dom0, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("evtrace.tracer.host.pipe.PipeCopy.copy", full)
    with pytest.raises(OSError, match="No space left"):
        run(plan, dom0)

    assert ("", None) == (kprobes(dom0), Ledger(dom0.machine).read())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_what_cannot_be_written_is_said(plan, dom0):
    (plan.folder / "ftrace.txt").symlink_to("/dev/full")

    with pytest.raises(CannotWriteError, match=r"ftrace\.txt: cannot write: No space left"):
        run(plan, dom0)
    assert "" == kprobes(dom0)


def test_xentrace_runs_inside_the_time_of_the_probes(plan, dom0):
    make_program(dom0.root, "xentrace", XENTRACE)
    stop = threading.Event()

    def look(status):
        if status.xentrace_bytes:
            stop.set()

    captured = run(
        replace(plan, seconds=None, xentrace=dom0.machine.program("xentrace")), dom0, stop, look
    )

    assert "raw" == captured.xentrace.read_text()
    assert [] == captured.remarks


def test_an_xentrace_that_ends_by_itself_is_told_and_the_probes_go_on(plan, dom0):
    make_program(dom0.root, "xentrace", "echo ERROR: no buffers >&2; exit 1")
    stop = threading.Event()
    captured = run(
        replace(plan, seconds=None, xentrace=dom0.machine.program("xentrace")),
        dom0,
        stop,
        lambda _: stop.set(),
    )

    assert ["xentrace ended by itself: ERROR: no buffers"] == captured.remarks
    assert captured.text is not None


def test_xentrace_ends_when_its_recorder_is_killed(dom0, tmp_path):
    make_program(dom0.root, "xentrace", XENTRACE)
    program = dom0.machine.program("xentrace")
    code = (
        "import sys; from pathlib import Path; from evtrace.tracer.host.xentrace import *\n"
        "with run_xentrace(Path(sys.argv[1]), Path(sys.argv[2]), 1) as running:\n"
        "    print(running.pid, flush=True); sys.stdin.read()\n"
    )
    recorder = subprocess.Popen(
        [sys.executable, "-c", code, program, tmp_path / "raw"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert recorder.stdout is not None
    pid = int(recorder.stdout.readline())
    watched = os.pidfd_open(pid)
    recorder.kill()
    recorder.communicate()
    poll = select.poll()
    poll.register(watched)

    assert poll.poll(10_000), "it still runs"
    os.close(watched)


def test_xentrace_is_ended_with_the_block(dom0, tmp_path):
    make_program(dom0.root, "xentrace", XENTRACE)
    with run_xentrace(dom0.machine.program("xentrace"), tmp_path / "raw", 1) as running:
        assert running.complaint() is None
    with pytest.raises(ProcessLookupError):
        os.kill(running.pid, 0)


# --- what a killed recorder leaves -------------------------------------------------------------


def leave(dom0, pid):
    """Leave what a recorder sets up, on behalf of a process."""
    write(
        dom0.root / f"proc/{pid}/stat", f"{pid} (evtrace) " + " ".join(["S"] + ["0"] * 18 + ["77"])
    )
    tracefs = dom0.tracefs
    make_instance(tracefs.instance)
    for probe in examine(dom0.machine, 1024, guest=False).probes:
        tracefs.define(probe)
    path = dom0.root / "run/evtrace/recording.json"
    write(path, f'{{"pid": {pid}, "started": "77", "folder": "/somewhere"}}')


@pytest.fixture
def fake_tracefs(dom0, monkeypatch):
    monkeypatch.setattr("evtrace.tracer.host.ledger.Tracefs", lambda _: dom0.tracefs)


@pytest.mark.usefixtures("fake_tracefs")
def test_clean_takes_down_what_a_killed_recorder_left(dom0):
    leave(dom0, 4242)
    (dom0.root / "proc/4242/stat").unlink()
    said = list(clean(dom0.machine))

    assert ("", None) == (kprobes(dom0), Ledger(dom0.machine).read())
    assert not dom0.tracefs.instance.exists()
    assert "the ended recording's capture is in /somewhere" == said[-1]
    assert [] == list(clean(dom0.machine))


@pytest.mark.usefixtures("fake_tracefs")
def test_clean_finds_probes_without_the_ledger(dom0):
    leave(dom0, 4242)
    (dom0.root / "run/evtrace/recording.json").unlink()

    assert "removed 3 probes" == list(clean(dom0.machine))[-1]


@pytest.mark.usefixtures("fake_tracefs")
def test_clean_leaves_a_running_recorder_alone(dom0):
    leave(dom0, 4242)

    with pytest.raises(CannotRecordError, match=r"a recorder runs here \(process 4242"):
        list(clean(dom0.machine))
    assert kprobes(dom0)


def test_a_second_recorder_is_refused(plan, dom0):
    leave(dom0, 4242)

    with pytest.raises(CannotRecordError, match=r"another recorder runs here \(process 4242"):
        run(plan, dom0)


def test_what_was_left_is_to_be_cleaned_first(plan, dom0):
    leave(dom0, 4242)
    (dom0.root / "proc/4242/stat").unlink()

    with pytest.raises(CannotRecordError, match="--clean"):
        run(plan, dom0)


def test_probes_of_others_are_not_ours(dom0):
    events = dom0.tracefs.root / "kprobe_events"
    events.write_text("p:kprobes/mine do_sys_open\nr:evtrace/f_ret f irq=$retval:s32\n")

    assert ["f_ret"] == dom0.tracefs.defined()
