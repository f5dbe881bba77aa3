"""The judge itself: it finds a wrong answer, names a malformed line, and runs the rest."""

import gzip
import json
from pathlib import Path

import jsonschema
import pytest
import typer
from typer.testing import CliRunner

from evtrace.commands.conform import conform
from evtrace.errors import NoInputError, UsageError
from evtrace.replay.conform.judge import Aspect, judge_files

SCHEMA = Path(__file__).parents[2] / "evtrace/schemas/conform.schema.json"

NEW = '{"op":"new","args":{"name":"one"}}'
CREATE = '{"op":"domain_create","args":{"domid":1,"vcpus":1},"ret":0,"effects":[]}'
BIND = '{"op":"bind_ipi","dom":1,"vcpu":0,"args":{"vcpu":0},"ret":0,"out":{"port":1},"effects":[]}'
SEND = (
    '{"op":"send","dom":1,"vcpu":0,"args":{"port":1},"ret":0,'
    '"effects":[{"t":"wake","dom":1,"vcpu":0}]}'
)


@pytest.fixture
def write(tmp_path: Path):
    def write(*lines: str, name: str = "v.jsonl") -> Path:
        path = tmp_path / name
        text = "\n".join(lines) + "\n"
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


@pytest.mark.parametrize("name", ["v.jsonl", "v.jsonl.gz"])
def test_right_answers_pass(write, name):
    (verdict,) = judge_files([write(NEW, CREATE, BIND, name=name)])
    assert (verdict.passed, verdict.name, verdict.operations) == (True, "one", 2)


def test_a_wrong_result_is_the_first_difference(write):
    wrong = BIND.replace('"port":1', '"port":2')
    (verdict,) = judge_files([write(NEW, CREATE, wrong, SEND)])
    assert verdict.difference is not None
    assert verdict.difference.aspect is Aspect.RESULT
    assert verdict.difference.divergence == ("out.port", 2, 1)
    assert verdict.difference.number == 3
    assert verdict.difference.before == (CREATE,)


def test_a_wrong_errno_differs(write):
    wrong = '{"op":"close","dom":1,"vcpu":0,"args":{"port":1},"ret":-2,"err":"ENOENT","effects":[]}'
    (verdict,) = judge_files([write(NEW, CREATE, wrong)])
    assert verdict.difference is not None
    assert verdict.difference.divergence == ("ret", -2, -22)


def test_wrong_effects_are_compared_after_results(write):
    (verdict,) = judge_files([write(NEW, CREATE, BIND, SEND)])
    assert verdict.difference is not None
    assert verdict.difference.aspect is Aspect.EFFECTS
    assert verdict.difference.divergence == ("[0].t", "wake", "set_pending")


def test_a_wrong_state_is_narrowed_to_its_place(write):
    dump = '{"op":"dump","state":{"domains":[],"virq_handlers":{"2":1}}}'
    (verdict,) = judge_files([write(NEW, dump)])
    assert verdict.difference is not None
    assert verdict.difference.aspect is Aspect.STATE
    assert verdict.difference.divergence == ("virq_handlers.2", 1, None)


def test_a_line_without_answers_is_input_only(write):
    (verdict,) = judge_files([write(NEW, '{"op":"domain_create","args":{"domid":1,"vcpus":1}}')])
    assert verdict.passed


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON: Expecting property name enclosed in double quotes"),
        ("[]", "not a JSON object"),
        ('{"args":{}}', "no operation 'op'"),
        ('{"op":"send","args":[]}', "'args' is not an object"),
        ('{"op":"send","dom":"x"}', "'dom' is not a number"),
        ('{"op":"juggle"}', "unknown operation 'juggle'"),
        ('{"op":"send","dom":1,"vcpu":0,"args":{}}', "send without number 'port'"),
        ('{"op":"send","dom":7,"vcpu":0,"args":{"port":1}}', "no vcpu 0 of a domain 7"),
        ('{"op":"send","dom":1,"vcpu":9,"args":{"port":1}}', "no vcpu 9 of a domain 1"),
        ('{"op":"xen_notify","args":{"domid":1}}', "xen_notify without number 'port'"),
    ],
)
def test_a_malformed_line_spoils_its_program_only(write, line, reason):
    path = write(NEW, CREATE, line, BIND, NEW.replace("one", "two"), CREATE, BIND)
    spoilt, whole = judge_files([path])
    assert spoilt.bad is not None
    assert (spoilt.bad.path, spoilt.bad.number) == (path, 3)
    assert spoilt.bad.reason.startswith(reason)
    assert not spoilt.passed
    assert (whole.name, whole.passed, whole.number) == ("two", True, 5)


def test_lines_before_the_first_program_are_malformed(write):
    early, whole = judge_files([write(CREATE, BIND, NEW, CREATE)])
    assert early.bad is not None
    assert early.bad.reason == "stands before the first 'new'"
    assert whole.passed


def test_a_cut_gz_file_is_reported_where_it_ends(tmp_path):
    whole = gzip.compress(f"{NEW}\n{CREATE}\n{BIND}".encode())
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(whole[:-9])
    (verdict,) = judge_files([path])
    assert verdict.bad is not None
    assert "Compressed file ended" in verdict.bad.reason or "not JSON" in verdict.bad.reason


def test_folders_are_searched_and_missing_paths_refused(write, tmp_path):
    write(NEW, CREATE)
    write(NEW, CREATE, name="w.jsonl.gz")
    (tmp_path / "notes.txt").write_text("no vectors")
    assert len(list(judge_files([tmp_path]))) == 2
    with pytest.raises(NoInputError, match="no such file"):
        list(judge_files([tmp_path / "missing"]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoInputError, match="no vector files"):
        list(judge_files([tmp_path / "empty"]))


# The command


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(conform)

    def run(*args: str | Path):
        return CliRunner().invoke(app, [str(arg) for arg in args])

    return run


def test_the_command_counts_and_succeeds(write, run):
    result = run(write(NEW, CREATE, BIND))
    assert result.exit_code == 0
    first, second = result.stdout.splitlines()
    assert first == "Xen HEAD: 1 of 1 programs passed, 0 failed"
    assert second.startswith("2 operations, ")
    assert second.endswith(" per second")


def test_the_command_shows_the_difference_side_by_side(write, run):
    wrong = BIND.replace('"port":1', '"port":2')
    path = write(NEW, CREATE, wrong)
    result = run(path)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[:6] == [
        f"{path}:3: one: result differs",
        f"      {CREATE}",
        f"    > {wrong}",
        "      at       out.port",
        "      expected 2",
        "      found    1",
    ]


def test_the_command_stops_at_the_first_failure_if_asked(write, run):
    wrong = BIND.replace('"port":1', '"port":2')
    path = write(NEW, CREATE, wrong, NEW, CREATE, wrong)
    assert "0 of 2 programs passed, 2 failed" in run(path).stdout
    assert "0 of 1 programs passed, 1 failed" in run(path, "-x").stdout


def test_the_command_writes_json_by_its_schema(write, run):
    path = write(NEW, CREATE, BIND.replace('"port":1', '"port":2'), NEW, "{", NEW, CREATE)
    result = run(path, "--format", "json")
    report = json.loads(result.stdout)
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    assert (report["programs"], report["passed"], report["failed"]) == (3, 1, 2)
    assert report["failures"][0]["difference"]["where"] == "out.port"
    assert report["failures"][1]["malformed"]["line"] == 5


def test_the_command_runs_as_another_xen(write, run):
    poll = '{"op":"sched_poll","dom":1,"vcpu":0,"args":{"ports":[9]},"ret":0,"out":{"blocked":1}}'
    path = write(NEW, CREATE, poll)
    assert run(path).exit_code == 1
    assert run(path, "--xen", "4.9").exit_code == 0
    assert isinstance(run(path, "--xen", "5,0").exception, UsageError)
