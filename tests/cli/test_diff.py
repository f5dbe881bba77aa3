"""`evtrace diff`: what it says, forms, exit codes, and every stored trace against others."""

import json
import re
import shutil
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from evtrace.analysis.diff.failing import WORDS
from evtrace.cli import app
from tests.diff.acceptance import recorded
from tests.stored_traces import TRACES

PAGE = Path(__file__).parents[2] / "docs" / "diff.md"
SCHEMA = Path(__file__).parents[2] / "evtrace" / "schemas" / "diff.schema.json"
FAULTY, FIXED = "emu-fifo-netfront", "emu-fifo-netfront-fixed"
PINGPONG, LOST = "emu-fifo-pingpong", "emu-fifo-pingpong-lost-send"


def stored(name):
    return name if "/" in name or name == "-" else str(TRACES / f"{name}.bin.zst")


def run(a, b, *options):
    return CliRunner().invoke(app, ["diff", stored(a), stored(b), *options])


def as_json(a, b, *options):
    found = json.loads(run(a, b, *options, "--format", "json").stdout)
    jsonschema.validate(found, json.loads(SCHEMA.read_text()), jsonschema.Draft202012Validator)
    return found


def test_netfront_faulty_and_fixed_in_one_screen():
    found = run(FAULTY, FIXED)
    lines = found.stdout.splitlines()

    assert found.exit_code == 0
    assert lines[0] == "3 differences beyond noise:"
    assert lines[1].startswith(" 1. d0:8→d1:15: 50.0% → 0.0% of runs found no work (spurious.L3)")
    assert "76.7% → 0.0% of sends were COALESCED" in found.stdout
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 80


def test_the_page_shows_what_is_printed():
    shown = re.search(r"<!-- example -->\n```\n(.*?)\n```", PAGE.read_text(), re.DOTALL)

    assert shown
    assert shown[1] == run(FAULTY, FIXED).stdout.rstrip("\n")


def test_the_page_names_what_can_be_failed_on():
    section = PAGE.read_text().partition("## Failing on it")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([\w.]+)`", section))

    assert named >= WORDS.keys()
    told = CliRunner().invoke(app, ["diff", "--help"]).stdout
    assert [word for word in WORDS if word not in told] == []


def test_a_lost_event_is_told_first_and_fails():
    found = run(PINGPONG, LOST, "--fail-on", "lost")

    assert found.exit_code == 1
    assert found.stdout.splitlines()[1].startswith(" 1. new: NOT_DELIVERED 1 time, first EVT205")
    assert "Fails: --fail-on lost: difference 1." in found.stdout


def test_what_is_gone_is_no_failure():
    found = run(LOST, PINGPONG, "--fail-on", "lost", "--fail-on", "faults", "--fail-on", "worse")

    assert found.exit_code == 0
    assert " 1. gone: NOT_DELIVERED 1 time in A, none in B" in found.stdout


def test_a_trace_is_like_itself():
    found = run(PINGPONG, PINGPONG, "--fail-on", "any")

    assert found.exit_code == 0
    assert found.stdout.startswith("No difference beyond noise.\n")
    assert "the same calls with the same answers" in found.stdout


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (PINGPONG, "emu-fifo-pingpong-stock"),
        ("emu-fifo-pingpong-stock", "emu-fifo-pingpong-stock"),
        (PINGPONG, "emu-fifo-pingpong-cut-file"),
        ("emu-fifo-pingpong-lost-records", PINGPONG),
        ("xen4.17-fifo-pv-demo", "cut-fifo-pv-demo"),
        ("xen4.17-fifo-pv-demo", "xen4.17-fifo-pvh-demo"),
        ("xen4.17-fifo-pv-demo", "emu-fifo-demo"),
        ("xen4.17-2l-pv-pingpong", "xen4.17-fifo-pv-pingpong-lost"),
        ("emu-fifo-demo", "emu-fifo-demo-pvh"),
        ("emu-fifo-ipi", "emu-fifo-storm"),
        ("emu-2l-blkfront", "emu-fifo-blkfront"),
        ("emu-fifo-reset", "emu-fifo-boot"),
    ],
)
def test_odd_pairs_are_told_in_every_form(a, b):
    for form in ("text", "markdown"):
        found = run(a, b, "--format", form, "--all")
        assert (found.exit_code, found.exception) == (0, None)
        assert found.stdout
    assert as_json(a, b)["verdict"]


def test_times_that_mean_nothing_beside_each_other_are_refused():
    found = as_json("xen4.17-fifo-pv-demo", "emu-fifo-demo")

    assert found["times"] == []
    assert (
        "times are not compared: those of A are of an emulated CPU, of B scripted"
        in found["remarks"]
    )


def test_a_condition_that_nothing_answers_fails():
    found = run("xen4.17-fifo-pv-demo", "emu-fifo-demo", "--fail-on", "slower")

    assert found.exit_code == 1
    assert "Fails: --fail-on slower: nothing that it asks about was compared." in found.stdout


def test_nothing_to_compare_is_not_no_difference():
    stock = "emu-fifo-pingpong-stock"

    assert run(stock, stock).stdout.startswith("Nothing could be compared.\n")
    assert run(stock, stock, "--fail-on", "any").exit_code == 1


def test_an_empty_trace_is_not_one(tmp_path):
    (tmp_path / "empty.bin").write_bytes(b"")

    assert run(str(tmp_path / "empty.bin"), PINGPONG).exit_code == 65
    assert run(PINGPONG, str(tmp_path / "none.bin")).exit_code == 66


@pytest.mark.parametrize(
    "options",
    [
        ("--fail-on", "slowly"),
        ("--fail-on", "spurious > 2x"),
        ("--map", "d1"),
        ("--map", "d9=d1"),
        ("--ignore", "little"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(options):
    found = run(PINGPONG, PINGPONG, *options)

    assert found.exit_code == 2
    assert options[0] in found.stderr


def test_only_one_trace_comes_from_standard_input():
    assert run("-", "-").exit_code == 2


def test_all_lists_what_was_compared():
    found = run(FAULTY, FIXED, "--all").stdout

    assert re.search(r"^ +d0:8→d1:15 +p50\(send→handler\) +42 +177 ", found, re.MULTILINE)
    assert re.search(r"^ +d0:8→d1:15 +fate.COALESCED +180 +177 +76.7% ", found, re.MULTILINE)


def test_other_numbers_are_recognized_or_said(tmp_path):
    one = recorded("demo", tmp_path / "one.bin", ["domid=6"])
    other = recorded("demo", tmp_path / "other.bin", ["domid=9"])
    found = as_json(str(one), str(other))

    assert found["alignment"]["domains"] == {"d0": "d0", "d6": "d9"}
    assert found["differences"] == []
    assert any("other numbers in B, shown as in A: d6=d9" in text for text in found["remarks"])
    assert as_json(str(one), str(other), "--map", "d6=d9")["differences"] == []


def test_a_name_in_a_trace_is_inert(tmp_path):
    path = tmp_path / "x\x1b[31m`.bin.zst"
    shutil.copy(TRACES / f"{PINGPONG}.bin.zst", path)
    for form in ("text", "markdown"):
        assert "\x1b" not in run(str(path), PINGPONG, "--format", form).stdout


def test_other_xens_model_can_be_asked():
    assert run(PINGPONG, PINGPONG, "--xen", "4.17").exit_code == 0
    assert run(PINGPONG, PINGPONG, "--xen", "none").exit_code == 2
