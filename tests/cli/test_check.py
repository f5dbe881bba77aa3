"""`evtrace check`: the project's own traces, formats, updates, what is broken, exit codes."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from typer.testing import CliRunner

from evtrace.cli import app
from tests.stored_traces import TRACES

SCHEMA = Path(__file__).parents[2] / "evtrace" / "schemas" / "check.schema.json"
PINGPONG = "emu-fifo-pingpong"


def run(*arguments):
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


def as_json(*arguments):
    found = json.loads(run(*arguments, "--format", "json").stdout)
    jsonschema.validate(found, json.loads(SCHEMA.read_text()), jsonschema.Draft202012Validator)
    return found


def failed(*arguments):
    return [
        (Path(one["trace"]).name, check["name"])
        for one in as_json(*arguments)["traces"]
        for check in one["checks"]
        if check["outcome"] in {"failed", "broken"}
    ]


@pytest.fixture
def folder(tmp_path):
    """Give a folder with a stored trace and its expectations."""
    for suffix in (".bin.zst", ".toml"):
        shutil.copy(TRACES / f"{PINGPONG}{suffix}", tmp_path)
    return tmp_path


def change(folder, was, becomes):
    path = folder / f"{PINGPONG}.toml"
    text = path.read_text()
    assert was in text
    path.write_text(text.replace(was, becomes, 1))


def rules_in(folder, *tables):
    path = folder / "rules.toml"
    path.write_text("".join(f"[[rule]]\n{table}\n" for table in tables))
    return path


def test_the_stored_traces_pass():
    done = run(TRACES)

    assert (0, "") == (done.exit_code, done.stderr)
    assert f"{len(list(TRACES.glob('*.toml')))} traces: " in done.stdout
    assert done.stdout.endswith(" passed, 0 failed\n")
    assert "no expectations" not in done.stdout


def test_a_difference_fails_and_says_what_was_expected(folder):
    change(folder, "DELIVERED = 198", "DELIVERED = 197")

    done = run(folder)

    assert done.exit_code == 1
    assert f"FAIL  {folder / PINGPONG}.bin.zst: 1 of " in done.stdout
    assert "fate.DELIVERED: expected 197, found 198" in done.stdout
    assert done.stdout.endswith("1 trace: 0 passed, 1 failed\n")


def test_a_broken_trace_fails_itself_and_not_the_run(folder):
    (folder / "a.bin").write_bytes(b"no trace at all" * 10)
    (folder / "b.bin").write_bytes(b"")
    (folder / "c.toml").write_text("[expect]\nruns = 1\n")
    shutil.copy(folder / f"{PINGPONG}.bin.zst", folder / "d.bin.zst")
    (folder / "d.toml").write_text("[expect]\nruns = 'many'\n")

    found = failed(folder, "-j", 2)

    assert [("a.bin", "readable"), ("b.bin", "readable"), ("c.bin", "readable")] == found[:3]
    assert [("d.bin.zst", "readable")] == found[3:]
    assert run(folder).exit_code == 1
    assert f"ok    {folder / PINGPONG}.bin.zst: " in run(folder).stdout


def test_a_damaged_trace_fails_unless_that_is_expected(folder):
    damaged = "emu-fifo-pingpong-cut-file.bin.zst"
    shutil.copy(TRACES / damaged, folder / f"{PINGPONG}.bin.zst")
    shutil.copy(TRACES / damaged, folder / "alone.bin.zst")

    found = failed(folder)

    assert ("alone.bin.zst", "damage") in found
    assert (f"{PINGPONG}.bin.zst", "damage") in found
    assert run(TRACES / damaged).exit_code == 0


def test_without_expectations_a_fault_is_found_all_the_same(tmp_path):
    trace = tmp_path / "new.bin"
    CliRunner().invoke(
        app, ["record", "--scenario", "pingpong", "--fault", "lost-send", "-o", str(trace)]
    )

    assert [("new.bin", "finding.LOST_SEND")] == failed(trace)
    assert "no expectations" in run(trace).stdout


def test_json_follows_its_schema(folder):
    change(folder, "runs = 200", "runs = 201")
    found = as_json(folder)

    assert not found["passed"]
    assert [False] == [one["passed"] for one in found["traces"]]
    assert "1 was provoked by nobody" in found["traces"][0]["verdict"]


# --- rules -------------------------------------------------------------------------------------


def test_rules_are_kept_or_broken(folder):
    kept = 'check = "fate.LOST == 0"'
    broken = 'check = "p99(send->handler) <= 1us"\non = "d0:8"'
    rules = rules_in(folder, kept, broken)

    done = run(folder / f"{PINGPONG}.bin.zst", "--rules", rules)

    assert done.exit_code == 1
    assert "rule p99(send->handler) <= 1us on d0:8: d0:8: 6.17us, not <= 1.00us" in " ".join(
        done.stdout.split()
    )
    assert "fate.LOST" not in done.stdout


def test_a_rule_is_for_the_traces_it_names(folder):
    rules = rules_in(folder, 'check = "runs == 0"\ntraces = "xen*"', 'check = "runs > 0"')

    found = failed(folder / f"{PINGPONG}.bin.zst", "--rules", rules)

    assert [("rules.toml", "rule runs == 0 (xen*)")] == found


def test_a_rule_that_no_trace_can_answer_fails_the_run(folder):
    rules = rules_in(folder, 'check = "p99(send→handler) <= 1s"\non = "d7:1"')

    done = run(folder / f"{PINGPONG}.bin.zst", "--rules", rules)

    assert done.exit_code == 1
    assert "no trace can answer it" in done.stdout
    assert done.stdout.endswith("\n1 trace: 1 passed, 0 failed; 1 rule that none can answer\n")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('check = "fate.LOSS == 0"', "there is no quantity fate.LOSS; the nearest is fate.LOST"),
        ('check = "p98(send→handler) < 1s"', "there is no function p98; the nearest is p9"),
        ('check = "p99(send→handle) < 1s"', "there is no stage send→handle; the nearest is send→h"),
        ('check = "runs"', "expected one comparison"),
        ('check = "runs > 0"\nwhere = "d0"', "there is no key where; the nearest is"),
        ('on = "d0"', "check is missing"),
        ('check = "runs > 0"\non = "dom0"', "expected d0, d0:33, d1:8→d0:33 or all"),
        ('check = "runs > 0"\neach = "vcpu"', "expected one of domain, port, channel"),
    ],
)
def test_a_rule_that_means_nothing_is_a_usage_error(folder, table, says):
    done = run(folder, "--rules", rules_in(folder, table))

    assert done.exit_code == 2
    assert says in done.stderr
    assert f"{folder / 'rules.toml'} [[rule]] 1: " in done.stderr


# --- update ------------------------------------------------------------------------------------


def test_update_writes_what_is_found_keeps_comments_and_shows_the_difference(folder):
    change(folder, "DELIVERED = 198", "# why: a ring holds 99\nDELIVERED = 7  # wrong")
    before = (TRACES / f"{PINGPONG}.toml").read_text()

    done = run(folder, "--update")

    text = (folder / f"{PINGPONG}.toml").read_text()
    expected = before.replace("DELIVERED = 198", "# why: a ring holds 99\nDELIVERED = 198  # wrong")
    assert (0, expected) == (done.exit_code, text)
    assert "    -DELIVERED = 7  # wrong\n    +DELIVERED = 198  # wrong" in done.stdout
    assert run(folder).exit_code == 0


def test_update_without_a_difference_touches_nothing(folder):
    path = folder / f"{PINGPONG}.toml"
    before = path.read_bytes(), path.stat().st_mtime_ns

    assert run(folder, "--update").exit_code == 0
    assert before == (path.read_bytes(), path.stat().st_mtime_ns)


def test_update_writes_new_expectations(folder):
    (folder / f"{PINGPONG}.toml").unlink()

    assert run(folder, "--update").exit_code == 0
    text = (folder / f"{PINGPONG}.toml").read_text()
    assert [] == failed(folder)
    assert '[[expect.token]]\nrun = "d0:8"\ncause = "BIND_CONSERVATIVE"' in text


def test_a_token_that_does_not_appear_outlives_an_update(folder):
    change(folder, 'cause = "VIRQ"', 'cause = "PIRQ"')

    done = run(folder, "--update")

    assert done.exit_code == 1
    assert [(f"{PINGPONG}.bin.zst", "appears: run d0:1 PIRQ")] == failed(folder)


LOADED = """
import sys
from evtrace.analysis.checks.stored import Stored
from evtrace.commands.check import judge_stored
print(judge_stored(Stored(sys.argv[1]), []).passed, "tomlkit" in sys.modules)
"""


def test_only_an_update_loads_tomlkit(folder):
    trace = folder / f"{PINGPONG}.bin.zst"
    done = subprocess.run(
        [sys.executable, "-c", LOADED, trace], capture_output=True, text=True, check=True
    )

    assert done.stdout == "True False\n"


# --- forms -------------------------------------------------------------------------------------

COUNTS = {"tests", "failures", "errors"}
MAY_HAVE = {
    "testsuites": ({"name", "time", *COUNTS}, {"testsuite"}),
    "testsuite": ({"name", "time", "skipped", *COUNTS}, {"properties", "testcase"}),
    "properties": (set(), {"property"}),
    "property": ({"name", "value"}, set()),
    "testcase": ({"name", "classname", "time"}, {"skipped", "error", "failure"}),
    "skipped": ({"message"}, set()),
    "error": ({"message", "type"}, set()),
    "failure": ({"message", "type"}, set()),
}
"""Attributes and children that all of the common schemas allow (Jenkins' junit-10 and older)."""


def check_junit(text):
    """Hold a document to what the common JUnit schemas demand; give its root."""
    root = ET.fromstring(text)  # noqa: S314  our own output
    assert "testsuites" == root.tag
    for element in root.iter():
        attributes, children = MAY_HAVE[element.tag]
        assert set(element.attrib) <= attributes
        assert {child.tag for child in element} <= children
        assert all(element.attrib.values())
        assert re.fullmatch(r"\d+(\.\d{3})?", element.get("time", "0"))
    for suite in root:
        assert set(suite.attrib) == {"name", "time", "skipped", *COUNTS}
        assert "properties" not in [child.tag for child in suite][1:]
        assert [properties for properties in suite.iter("properties") if not len(properties)] == []
        cases = suite.findall("testcase")
        found = {"tests": len(cases)}
        for count, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            found[count] = len(suite.findall(f"testcase/{tag}"))
        assert found == {name: int(suite.get(name, "x")) for name in found}
        for case in cases:
            assert "." not in case.attrib["classname"]
            assert len(case) <= 1
            for child in case:
                assert str(child.text).startswith(child.attrib["message"])
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(set(names)) == len(names)  # of two alike a viewer shows one
    for name in COUNTS:
        assert int(root.get(name, "x")) == sum(int(suite.get(name, "x")) for suite in root)
    return root


def test_junit_is_valid_and_says_what_failed_and_why(folder):
    change(folder, "runs = 200", "runs = 3")
    (folder / "broken.bin").write_bytes(b"\0" * 64)
    shutil.copy(TRACES / "emu-fifo-pingpong-lost-records.bin.zst", folder / "lost.bin.zst")
    shutil.copy(TRACES / f"{PINGPONG}.toml", folder / "lost.toml")

    root = check_junit(run(folder, "--format", "junit").stdout)

    said = {
        (Path(case.get("classname")).name, case.get("name")): (case[0].tag, case[0].get("message"))
        for case in root.iter("testcase")
        if len(case)
    }
    assert ("failure", "expected 3, found 200") == said[PINGPONG, "runs"]
    assert said["broken", "readable"][0] == "error"
    assert said["lost", "lost records"][0] == "failure"
    assert said["lost", "cause.SEND"][0] == "skipped"
    assert "; withheld: the capture" in said["lost", "cause.SEND"][1]


def test_junit_tells_traces_of_one_name_apart(folder):
    shutil.copy(folder / f"{PINGPONG}.bin.zst", folder / f"{PINGPONG}.bin")

    root = check_junit(run(folder, "--format", "junit").stdout)

    classes = {Path(case.get("classname")).name for case in root.iter("testcase")}
    assert {f"{PINGPONG}_bin", f"{PINGPONG}_bin_zst"} == classes


def test_junit_of_hostile_names_is_still_xml(tmp_path):
    path = tmp_path / "a<&\x1b\u202e.bin"
    path.write_bytes(b"no trace")

    root = check_junit(run(path, "--format", "junit").stdout)

    assert "1" == root.get("errors")


def test_markdown_is_a_table_and_what_failed_below_it(folder):
    change(folder, "divergences = 0", "divergences = 2")

    text = run(folder, "--format", "markdown").stdout

    assert text.startswith("**evtrace check: 1 trace: 0 passed, 1 failed**\n")
    assert re.search(
        r"^\| ❌ \| .*emu-fifo-pingpong.bin.zst \| 1 of \d+ checks failed \|$", text, re.MULTILINE
    )
    assert "- **divergences**: expected 2, found 0" in text


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["/nowhere/x.bin"], 66, "/nowhere/x.bin: no such file or folder"),
        ([], 2, "Missing argument"),
        ([TRACES, "--rules", "/nowhere/rules.toml"], 66, "/nowhere/rules.toml: cannot be read"),
        ([TRACES / "sources"], 66, "no trace in it"),
    ],
)
def test_exit_codes(arguments, code, says):
    done = run(*arguments)

    assert code == done.exit_code
    assert says in done.stderr
