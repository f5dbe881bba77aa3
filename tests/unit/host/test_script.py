"""The shell script, run by a real shell against files that stand for tracefs."""

import os
import shutil
import subprocess

import pytest

from evtrace.tracer.host.script import write_script
from tests.unit.host import assembled as a

SHELLS = [shell for shell in (["sh"], ["dash"], ["bash", "--posix"]) if shutil.which(shell[0])]
LINE = "bash-7 [000] d.h1. 12: handle_irq_for_port: (f) port=7"


@pytest.fixture
def script(tmp_path):
    code = a.kernel(a.MOV_RSI_RSP, a.MOV_EAX_EVTCHN, a.MOV_EDI_SEND, a.CALL, a.RET)
    code.names = frozenset({"handle_irq_for_port", "evtchn_fifo_mask"})
    path = tmp_path / "setup.sh"
    path.write_text(write_script(code, path.name, 512))
    return path


@pytest.fixture
def tracefs(tmp_path):
    """Files for tracefs, and commands that do what the kernel does to them."""
    root, bin_ = tmp_path / "tracing", tmp_path / "bin"
    (root / "instances").mkdir(parents=True)
    (root / "kprobe_events").write_text("")
    (root / "trace_clock").write_text("")
    bin_.mkdir()
    own = root / "instances/evtrace"
    events = f"{own}/events/evtrace/notify_12_pre {own}/events/evtrace/notify_12_post"
    events += f" {own}/events/evtrace/handle_irq_for_port"
    irqs = f"{own}/events/irq/irq_handler_entry {own}/events/irq/irq_handler_exit"
    commands = {
        "mkdir": f'/bin/mkdir -p "$@" {events} {irqs}; echo "{LINE}" > {own}/trace',
        "rmdir": f"cp -r {own} {tmp_path}/was; rm -r {own}",
        "sleep": f"cp {root}/kprobe_events {tmp_path}/defined; cp {own}/tracing_on {tmp_path}/on",
    }
    for name, text in commands.items():
        (bin_ / name).write_text(f"#!/bin/sh\n{text}\n")
        (bin_ / name).chmod(0o755)
    return root


def run(shell, script, tracefs, *arguments):
    environment = {
        **os.environ,
        "EVTRACE_TRACEFS": str(tracefs),
        "PATH": f"{tracefs.parent / 'bin'}:{os.environ['PATH']}",
    }
    return subprocess.run(
        [*shell, script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_it_records_prints_the_text_and_takes_all_down(shell, script, tracefs, tmp_path):
    done = run(shell, script, tracefs, "1")
    defined = (tmp_path / "defined").read_text().splitlines()
    was = tmp_path / "was"

    assert (f"{LINE}\n", 0) == (done.stdout, done.returncode), done.stderr
    assert "p:evtrace/notify_12_pre notify+8 cmd=\\4:u32 w0=+0(%si):x32" in defined[0]
    assert "1\n" == (tmp_path / "on").read_text()
    assert ("x86-tsc\n", "512\n") == tuple(
        (was / name).read_text() for name in ("trace_clock", "buffer_size_kb")
    )
    assert "evtchn_fifo_mask\n" == (was / "set_ftrace_filter").read_text()
    assert not (tracefs / "instances/evtrace").exists()
    removed = (tracefs / "kprobe_events").read_text().splitlines()[len(defined) :]
    assert [
        "-:evtrace/notify_12_pre",
        "-:evtrace/notify_12_post",
        "-:evtrace/handle_irq_for_port",
    ] == removed


@pytest.mark.skipif(not shutil.which("busybox"), reason="no busybox here")
def test_busybox_understands_it(script):
    busybox = shutil.which("busybox") or ""

    assert 0 == subprocess.run([busybox, "sh", "-n", script], check=False).returncode


def test_another_kernel_is_refused(script, tracefs):
    script.write_text(script.read_text().replace("kernel=''", "kernel='Linux version 0.01'"))
    done = run(["sh"], script, tracefs, "1")

    assert (69, "") == (done.returncode, done.stdout)
    assert "another kernel: Linux version 0.01" in done.stderr


def test_a_recorder_that_runs_is_left_alone(script, tracefs):
    (tracefs / "instances/evtrace").mkdir()
    done = run(["sh"], script, tracefs, "1")

    assert 69 == done.returncode
    assert (tracefs / "instances/evtrace").exists()


def test_without_kprobes_it_says_so(script, tracefs):
    (tracefs / "kprobe_events").unlink()
    done = run(["sh"], script, tracefs, "1")

    assert (69, "") == (done.returncode, done.stdout)
    assert "no kernel probes here" in done.stderr
