"""The stored traces: named as they should, each with a token, made anew byte by byte."""

import re
import shlex

import pytest
from typer.testing import CliRunner

from evtrace.analysis.checks.expectations import read_expectations
from evtrace.analysis.checks.stored import find_traces
from evtrace.cli import app
from evtrace.tracer.emulator.catalogue import list_scenarios
from tests.stored_traces import TRACES, names, recorded, stored

ALL = names()
EMULATED = [name for name in ALL if name.startswith("emu-")]
LIMIT_BYTES = 10_000_000


def test_each_trace_has_expectations_and_a_row():
    readme = (TRACES / "README.md").read_text()
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", readme, re.MULTILINE))
    found = find_traces([str(TRACES)])

    assert sorted(ALL) == sorted(one.name for one in found)
    for name in ALL:
        assert re.fullmatch(r"(xen4\.17|emu|cut)-(2l|fifo)-[a-z0-9-]+", name)
        assert rows[name] == read_expectations(TRACES / f"{name}.toml").about
        assert stored(name)


def test_all_that_was_asked_for_is_there():
    wanted = {"xen4.17-fifo-pv-demo", "xen4.17-fifo-pvh-demo", "emu-2l-demo", "emu-fifo-demo"}
    wanted |= {f"emu-fifo-{entry.name}" for entry in list_scenarios()}

    assert wanted - set(ALL) == set()
    assert sum(path.stat().st_size for path in TRACES.glob("*.*")) < LIMIT_BYTES


@pytest.mark.parametrize("name", ALL)
def test_nothing_passes_in_which_nothing_is_found(name):
    assert read_expectations(TRACES / f"{name}.toml").tokens


@pytest.mark.parametrize("name", EMULATED)
def test_the_same_command_gives_the_same_bytes(name, tmp_path, monkeypatch):
    monkeypatch.chdir(TRACES)
    output = tmp_path / "again.bin"
    program, *arguments = shlex.split(recorded(name))

    done = CliRunner().invoke(app, [*arguments, "-o", str(output)])

    assert ("evtrace", 0) == (program, done.exit_code)
    assert stored(name) == output.read_bytes()
