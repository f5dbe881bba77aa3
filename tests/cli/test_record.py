"""`evtrace record`: the emulator from the command line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from evtrace.api import Trace
from evtrace.cli import app
from evtrace.errors import ExitCode
from evtrace.tracer.emulator.catalogue import list_scenarios
from evtrace.tracer.emulator.faults import FAULTS
from evtrace.tracer.emulator.timing import TIMINGS

SCHEMA = Path(__file__).parents[2] / "evtrace/schemas/truth.schema.json"

OWN = '''
def knocks(lab, *, times=3, note="hello", loud=False):
    """A domain notifies itself."""
    linux = lab.domain("solo")
    def handler(irq):
        yield linux.log(note.upper() if loud else note)
    def program():
        irq = yield linux.bind_ipi_to_irqhandler(0, handler, "knock")
        for _ in range(times):
            yield linux.notify_remote_via_irq(irq)
    lab.start(linux, program())

def breaks(lab):
    """A scenario with a mistake in it."""
    linux = lab.domain("solo")
    def program():
        yield 100
        yield 1 / 0
    lab.start(linux, program())

def refused(lab):
    """A program that asks for what it cannot have."""
    linux = lab.domain("solo")
    def program():
        yield linux.close(99)
    lab.start(linux, program())

def endless(lab):
    """Nobody ever stops."""
    linux = lab.domain("solo")
    def program():
        while True:
            yield linux.sleep(0.0001)
    lab.start(linux, program())
'''


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["record", *map(str, arguments)])


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def test_the_demonstration_prints_the_log_of_2017(tmp_path):
    result = run("-o", tmp_path / "t.bin", "--timing", "demo-2017")

    assert result.exit_code == 0
    lines = result.stdout.splitlines()[:-1]
    assert lines == [
        "domU [   81.340632] new evtchn 32",
        "domU [   81.340670] bound local irq 69 to evtchn 32",
        "domU [  114.224679] Handled irq 69, evtchn 32",
        "dom0 [79383.358635] init with domid 6, evtchn 32",
        "dom0 [79383.363885] Handled irq 95, domid 6, evtchn 32",
        "dom0 [79383.363902] bound local irq 95 to domid 6, evtchn 32",
        "dom0 [79383.374352] Handled irq 95, domid 6, evtchn 32",
    ]


@pytest.mark.parametrize("form", ["2l", "fifo"])
@pytest.mark.parametrize("kind", ["pv", "pvh"])
@pytest.mark.parametrize("timing", sorted(TIMINGS))
def test_in_every_variant_dom0_handles_before_it_knows_its_irq(tmp_path, form, kind, timing):
    trace = tmp_path / "t.bin"
    result = run("-o", trace, "--form", form, "--kind", kind, "--timing", timing)
    dom0 = [line for line in result.stdout.splitlines() if line.startswith("dom0")]
    with Trace(trace) as opened:
        replayed = opened.replay()

    assert re.search("Handled", dom0[1])
    assert re.search("bound local irq", dom0[2])
    assert re.search("Handled", dom0[3])
    assert not replayed.divergences
    assert replayed.compared == replayed.hypercalls > 3
    assert [run.cause for run in replayed.runs if run.irq == 95] == ["BIND_CONSERVATIVE", "SEND"]


def test_on_qemus_emulation_the_demonstration_has_one_run_less(tmp_path):
    trace = tmp_path / "t.bin"
    result = run("-o", trace, "--xen", "qemu")
    dom0 = [line for line in result.stdout.splitlines() if line.startswith("dom0")]

    assert [line.split("] ")[1].split()[0] for line in dom0] == ["init", "bound", "Handled"]
    replay = CliRunner().invoke(app, ["replay", str(trace), "--xen", "qemu"])
    assert replay.exit_code == 0, replay.output


def test_the_list_names_all_there_is():
    output = run("--list").stdout

    for name in [entry.name for entry in list_scenarios()] + [*TIMINGS, *FAULTS]:
        assert re.search(rf"^  {re.escape(name)} ", output, re.MULTILINE), name
    for entry in list_scenarios():
        assert entry.summary.endswith(".")
        assert len(entry.summary) < 90


def test_a_scenario_is_listed_with_its_parameters(own):
    output = run("--list", "--scenario", f"{own}:knocks").stdout

    assert output.splitlines() == [
        "A domain notifies itself.",
        "",
        "  --set times=3",
        "  --set note=hello",
        "  --set loud=False",
    ]


@pytest.mark.parametrize("options", [(), ("--chaos",), ("--timing", "shared", "--kind", "pvh")])
def test_the_same_seed_gives_the_same_bytes(tmp_path, options):
    traces = []
    for number, seed in enumerate((7, 7, 8)):
        path, truth = tmp_path / f"{number}.bin", tmp_path / f"{number}.jsonl"
        result = run(
            "-o", path, "--scenario", "pingpong", "--seed", seed, "--truth", truth, *options
        )
        assert result.exit_code == 0
        traces.append((path.read_bytes(), truth.read_bytes()))

    assert traces[0] == traces[1]
    assert traces[0] != traces[2]


def test_every_line_of_the_truth_is_by_its_schema(tmp_path):
    truth = tmp_path / "truth.jsonl"
    run("-o", tmp_path / "t.bin", "--scenario", "pingpong", "--truth", truth)
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    lines = [json.loads(line) for line in truth.read_text().splitlines()]
    for line in lines:
        validator.validate(line)

    assert lines[0]["scenario"] == "--scenario pingpong"
    assert lines[-1]["summary"]["fate.DELIVERED"] >= 190


def test_a_scenario_of_ones_own_comes_from_a_file(tmp_path, own):
    trace = tmp_path / "t.bin"
    settings = ("--set", "times=2", "--set", "note=who", "--set", "loud=yes")
    result = run("-o", trace, "--scenario", f"{own}:knocks", *settings)

    assert result.exit_code == 0
    assert [line.split("] ")[1] for line in result.stdout.splitlines()[:-1]] == ["WHO", "WHO"]
    with Trace(trace) as opened:
        assert opened.facts.sources == ["--scenario own.py:knocks times=2 note=who loud=yes"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scenario", "pingpng"], "did you mean pingpong?"),
        (["--scenario", "{own}:nothing"], "no function 'nothing'"),
        (["--scenario", "{own}:breaks"], r"own\.py:\d+: in program: ZeroDivisionError"),
        (
            ["--scenario", "{own}:refused"],
            r"own\.py:\d+: in program: GuestError: close\(99,\) = -22",
        ),
        (["--scenario", "{own}:knocks", "--set", "times=x"], "expected a whole number"),
        (["--scenario", "{own}:knocks", "--set", "loud=perhaps"], "expected yes or no"),
        (["--scenario", "{own}:knocks", "--set", "tmes=1"], "times, note, loud"),
        (["--scenario", "pingpong", "--set", "rounds"], "give name=value"),
        (["--timing", "fast"], "no timing 'fast'"),
        (["--xen", "5"], "no Xen profile '5'"),
        (["--fault", "no-such"], "no fault 'no-such'"),
    ],
)
def test_what_cannot_be_meant_is_told(tmp_path, own, arguments, said):
    filled = [argument.format(own=own) for argument in arguments]
    result = run("-o", tmp_path / "t.bin", *filled)

    assert result.exit_code == ExitCode.USAGE
    assert re.search(said, " ".join(result.stderr.split())), result.stderr


def test_a_file_of_scenarios_that_is_not_there(tmp_path):
    result = run("-o", tmp_path / "t.bin", "--scenario", f"{tmp_path}/none.py:x")

    assert result.exit_code == ExitCode.NO_INPUT


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "t.bin").write_text("precious")

    assert run("-o", tmp_path / "t.bin").exit_code == ExitCode.OUTPUT_EXISTS
    assert (tmp_path / "t.bin").read_text() == "precious"
    assert run("-o", tmp_path / "t.bin", "--force").exit_code == 0


def test_a_truth_that_cannot_be_written_is_told(tmp_path):
    result = run("-o", tmp_path / "t.bin", "--truth", tmp_path / "no" / "folder")

    assert result.exit_code == ExitCode.CANNOT_WRITE


def test_the_time_of_the_machine_can_be_limited(tmp_path, own):
    result = run("-o", tmp_path / "t.bin", "--scenario", f"{own}:endless", "-T", "0.02")
    with Trace(tmp_path / "t.bin") as opened:
        runs = opened.replay().runs

    assert result.exit_code == 0
    assert "0.020 s" in result.stdout
    assert 150 <= len(runs) <= 200


def test_ctrl_c_leaves_a_whole_trace(tmp_path, own):
    trace = tmp_path / "t.bin"
    command = [sys.executable, "-m", "evtrace", "record", "-o", trace, "--scenario"]
    process = subprocess.Popen(
        [*command, f"{own}:endless"], stdout=subprocess.PIPE, env=os.environ | {"LC_ALL": "C"}
    )
    partial = trace.with_name("t.bin.partial")
    while not (partial.exists() and partial.stat().st_size > 200_000):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)

    assert process.returncode == ExitCode.INTERRUPTED
    assert b"interrupted" in output
    with Trace(trace) as opened:
        results = opened.replay()
        assert opened.coverage.level(1) == "C5"
    assert not results.divergences
    assert len(results.runs) > 100
