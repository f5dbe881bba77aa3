"""`evtrace conform --live`: what it prints, how it ends, what it needs."""

import json
import os
import signal
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from evtrace.cli import app
from evtrace.errors import ExitCode
from evtrace.tracer.host import privcmd
from evtrace.tracer.host.privcmd import PrivCmd, XenVersion
from evtrace.xen.abi import Errno, EvtchnOp
from evtrace.xen.machine import Answer
from tests.live_xen import LiveXen

SCHEMA = Path(__file__).parents[2] / "evtrace/schemas/conform-live.schema.json"


class Door(LiveXen):
    """A running Xen as the device shows it."""

    version = XenVersion(4, 17, ".7")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


@pytest.fixture
def run(monkeypatch):
    """Run the command on a Xen; give the result and the Xen."""

    def run(*args, **xen):
        door = Door(**xen)
        monkeypatch.setattr(privcmd, "PrivCmd", lambda: door)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
        return CliRunner().invoke(app, ["conform", "--live", *args]), door

    return run


def answer_wrongly(_xen, command, _args, answer):
    wrong = command == EvtchnOp.BIND_VIRQ and answer.ret == -Errno.EEXIST
    return Answer(-Errno.EBUSY) if wrong else answer


def test_it_takes_the_profile_of_the_running_xen_and_counts(run):
    result, door = run("--operations", "500", "--seed", "4")
    assert result.exit_code == ExitCode.OK, result.output
    lines = result.stdout.splitlines()
    assert lines[-3] == "Xen 4.17.7 against profile 4.17, in domain 0 (fifo, 2 vCPUs)"
    assert lines[-2].endswith(" operations in 2 programs from seed 4: 0 differences")
    assert lines[-1].endswith(" ports opened, all closed again")
    assert lines[0].split()[0] == "operation"
    assert door.strays == []


def test_a_difference_is_shown_with_what_came_before(run):
    result, _ = run("--operations", "2000", "-x", alter=answer_wrongly)
    assert result.exit_code == ExitCode.FINDING
    head, *rest = result.stdout.splitlines()
    assert head.startswith("seed ")
    assert head.endswith(": result differs")
    assert rest[8].startswith("    > bind_virq virq=")
    assert rest[9:11] == ["      expected EEXIST", "      found    EBUSY"]
    assert "1 difference" in rest[-2]


def test_json_follows_its_schema(run):
    result, _ = run("--operations", "900", "--format", "json", alter=answer_wrongly)
    report = json.loads(result.stdout)
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    assert report["domain"] == {
        "domid": 0,
        "form": "fifo",
        "vcpus": 2,
        "used_vcpus": [0, 1],
        "open_ports": 32,
    }
    assert report["operations"] == sum(
        count for results in report["answers"].values() for count in results.values()
    )
    assert report["differences"][0]["expected"] == "EEXIST"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_everything_closed(run, number):
    def be_interrupted(xen, _command, _args, answer):
        if xen.calls == 300:
            signal.raise_signal(number)
        return answer

    before = signal.getsignal(number)
    result, door = run(alter=be_interrupted)
    assert result.exit_code == ExitCode.INTERRUPTED
    assert "0 differences, interrupted" in result.stdout
    assert door.calls < 400
    assert door.strays == []
    assert before == signal.getsignal(number)


@pytest.mark.parametrize("args", [[], ["--live", "vectors"]])
def test_it_needs_either_recordings_or_the_running_xen(args):
    result = CliRunner().invoke(app, ["conform", *args])
    assert result.exit_code == ExitCode.USAGE
    assert "either PATH or --live" in result.stderr


def test_without_xen_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(privcmd, "PrivCmd", lambda: PrivCmd(tmp_path))
    result = CliRunner().invoke(app, ["conform", "--live"])
    assert result.exit_code == ExitCode.CANNOT_RECORD
    assert "no such device" in result.stderr
