"""`evtrace doctor`: real dumps, the same with faults put in, cut and garbled texts, exit codes."""

import json
import os
import re
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from evtrace.cli import app
from tests.conftest import SOURCES

SCHEMA = Path(__file__).parents[2] / "evtrace" / "schemas" / "doctor.schema.json"
DUMPS = sorted(SOURCES.glob("*/before.debugkeys.txt"))
MORE = Path(os.environ.get("EVTRACE_CAPTURES", "no captures besides those stored"))
LISTS = sorted(SOURCES.glob("*/*.lsevtchn.txt"))
DEMO = SOURCES / "pv_fifo_blog" / "before.debugkeys.txt"
TWO_LEVEL = SOURCES / "pv_2l_evpp5" / "before.debugkeys.txt"
KICK = "       12 [1/1/  -   ]: s=6 n=1 x=0"


def run(*arguments, text=None):
    return CliRunner().invoke(app, ["doctor", *map(str, arguments)], input=text)


def as_json(*arguments, text=None):
    found = json.loads(run(*arguments, "--format", "json", text=text).stdout)
    schema = json.loads(SCHEMA.read_text())
    jsonschema.validate(found, schema, jsonschema.Draft202012Validator)
    return found


def findings(*arguments, text=None):
    return [
        (one["where"], one["name"])
        for one in as_json(*arguments, text=text)["findings"]
        if one["severity"] != "normal"
    ]


def of_folder(path):
    return path.parent.name


@pytest.mark.parametrize("path", DUMPS, ids=of_folder)
def test_a_real_dump_has_no_stuck_port_and_agrees_with_lsevtchn(path):
    listed = path.with_name("before.lsevtchn.txt")

    for arguments in ((path,), (path, listed), (path, path)):
        done = run(*arguments)
        assert (0, "") == (done.exit_code, done.stderr)
        assert done.stdout.startswith("Nothing found: none of the ")
    kicks = re.findall(r"^\(XEN\) +(\d+) \[1/1/", path.read_text(), re.MULTILINE)
    normal = [one["name"] for one in as_json(path)["findings"]]
    assert len(kicks) == normal.count("KICK_IPI")


@pytest.mark.parametrize("path", LISTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_real_list_has_no_half_open_port(path):
    done = run(path)

    assert done.exit_code == 0
    assert "is half-open; whether one is stuck, lsevtchn does not show" in " ".join(
        done.stdout.split(),
    )


@pytest.mark.skipif(not MORE.is_dir(), reason="EVTRACE_CAPTURES names no folder of captures")
def test_no_dump_of_a_folder_of_captures_has_a_stuck_port():
    dumps = sorted(MORE.glob("*/*.debugkeys_e_s.txt"))
    assert dumps
    for path in dumps:
        listed = path.with_name(path.name.replace("debugkeys_e_s", "lsevtchn"))
        assert (0, "") == (run(path).exit_code, run(path).stderr), path
        assert [] == findings(path, listed), path
        assert "KICK_IPI" in [one["name"] for one in as_json(path)["findings"]], path
    for path in sorted(MORE.glob("*/*.lsevtchn.txt")):
        assert run(path).exit_code == 0, path


def test_the_kick_is_called_normal_by_name():
    output = run(DEMO).stdout

    assert "EVT151 d0:12: masked and pending by design" in output
    assert max(map(len, output.splitlines())) <= 80 + len(str(DEMO))


FAULTS = [
    (DEMO, "30 [0/0/  -   ]", "30 [1/0/  -   ]", ("d0:30", "UNLINKED")),
    (DEMO, "30 [0/0/  -   ]", "30 [1/1/  -   ]", ("d0:30", "HELD_MASKED")),
    (DEMO, "13 [0/0/  -   ]", "13 [0/1/?     ]", ("d0:13", "NO_EVENT_WORD")),
    (DEMO, "8 [0/0/  -   ]: s=6 n=1", "8 [1/1/  -   ]: s=6 n=1", ("d0:8", "MASKED_IPIS")),
    (DEMO, "s=2 n=0 x=0 d=0", "s=2 n=0 x=0 d=4", ("d1:8", "WAITS_FOR_NOBODY")),
    (DEMO, "s=3 n=0 x=0 d=1 p=1", "s=3 n=0 x=0 d=4 p=1", ("d0:30", "PEER_DOMAIN_GONE")),
    (DEMO, "s=3 n=0 x=0 d=1 p=1", "s=3 n=0 x=0 d=1 p=9", ("d0:30", "PEER_PORT_CLOSED")),
    (DEMO, "s=3 n=0 x=0 d=1 p=1", "s=3 n=0 x=0 d=1 p=8", ("d0:30", "PEER_UNCONNECTED")),
    (DEMO, "s=3 n=0 x=0 d=1 p=1", "s=3 n=0 x=0 d=1 p=2", ("d0:30", "PEER_ELSEWHERE")),
    (DEMO, "8 [0/0/  -   ]: s=2", "8 [1/1/  -   ]: s=2", ("d1:8", "PEER_CLOSED")),
    (DEMO, "s=5 n=1 x=0 v=0", "s=5 n=0 x=0 v=0", ("d0:7", "DUPLICATE_VIRQ")),
    (TWO_LEVEL, "32 [0/0/0]", "32 [1/0/0]", ("d0:32", "UNSELECTED")),
    (TWO_LEVEL, "17 [0/0/0]", "17 [1/1/1]", ("d0:17", "HELD_MASKED")),
]


@pytest.mark.parametrize(
    ("path", "was", "becomes", "expected"), FAULTS, ids=[fault[3][1] for fault in FAULTS]
)
def test_a_fault_put_into_a_real_dump_is_found(path, was, becomes, expected):
    text = path.read_text()
    assert was in text

    done = run("-", text=text.replace(was, becomes, 1))

    assert done.exit_code == 1
    assert expected in findings("-", text=text.replace(was, becomes, 1))
    assert expected[0] in done.stdout.split("\n\n", maxsplit=1)[0]


def test_all_faults_at_once_are_found():
    text = DEMO.read_text()
    together = [fault for fault in FAULTS if fault[0] == DEMO][:1] + FAULTS[3:5] + FAULTS[10:11]
    for _, was, becomes, _ in together:
        text = text.replace(was, becomes, 1)

    assert {fault[3] for fault in together} <= set(findings("-", text=text))


@pytest.mark.parametrize("path", [DEMO, TWO_LEVEL], ids=of_folder)
@pytest.mark.parametrize("cut_start", [False, True])
def test_a_dump_cut_at_any_line_claims_nothing_false(path, cut_start):
    lines = path.read_text().splitlines(keepends=True)
    last_header = next(i for i, line in enumerate(lines) if "for domain 1" in line)
    for number in range(5, len(lines) - 3):
        text = "".join(lines[number:] if cut_start else lines[:number])
        whose = f"{int(number > last_header)}=-" if cut_start else "-"
        for ending in (text, text[:-1], text[:-9]):
            done = run(whose, text=ending)
            assert (0, None) == (done.exit_code, done.exception), ending


def test_a_list_of_lsevtchn_cut_at_any_line_agrees_with_the_dump(tmp_path):
    lines = DEMO.with_name("before.lsevtchn.txt").read_text().splitlines(keepends=True)
    path = tmp_path / "cut.txt"
    for number in range(2, len(lines)):
        path.write_text("".join(lines[:number])[:-1])
        assert run(DEMO, path).exit_code == 0


def test_prefixes_quotes_and_lines_in_between_change_nothing():
    text = DEMO.read_text()
    expected = as_json("-", text=text)["findings"]
    prefixes = (
        "(XEN) [2022-03-03 10:11:12.345] ",
        "Mar  3 10:11:12 host xen: (XEN) [  12.34] ",
        "[2022-03-03 10:11:12] (XEN) ",
        "> ",
        "",
    )
    for prefix in prefixes:
        lines = text.replace("(XEN) ", prefix).splitlines()
        mixed = "\r\n".join(f"{line}\r\n[  3.141] xenbus: probing 1 2 [0/1]" for line in lines)
        assert expected == as_json("-", text=mixed + "\n")["findings"], prefix


def test_a_garbled_line_is_reported_and_takes_claims_away():
    text = DEMO.read_text().replace("s=3 n=0 x=0 d=0 p=30", "s=3 n=0 [   3.1] xenbus: probing")

    done = run("-", text=text)

    assert done.exit_code == 0
    assert "standard input: 1 line of debug key e could not be read, such as" in done.stderr
    assert ("d1", "UNSETTLED") in findings("-", text=text)


def test_two_dumps_of_one_log_are_its_past_and_its_present():
    healthy = DEMO.read_text()
    stuck = healthy.replace("30 [0/0/", "30 [1/0/")

    once, twice = as_json("-", text=healthy + stuck), as_json("-", text=stuck + stuck)

    assert ("warning", "error") == (
        once["findings"][0]["severity"],
        twice["findings"][0]["severity"],
    )
    assert len(twice["sources"]) == 2
    assert run("-", text=stuck + healthy).exit_code == 0


def test_a_dump_and_a_list_of_another_time_are_told_apart(tmp_path):
    path = tmp_path / "zero.txt"
    path.write_text("   1: VCPU 0: IPI\n   7: VCPU 1: Virtual IRQ 0\n")

    found = as_json(DEMO, f"0={path}")["findings"]

    disagreeing = [one["where"] for one in found if one["name"] == "SOURCES_DISAGREE"]
    assert ["d0:1", *(f"d0:{port}" for port in range(2, 7))] == disagreeing


@pytest.mark.parametrize(
    ("arguments", "text", "code", "message"),
    [
        (["-"], "nothing of the kind\n", 65, "expected what debug key e, lsevtchn"),
        (["-"], "", 65, "expected what debug key e"),
        (["-"], '{"error": {"class": "GenericError", "desc": "Xen off"}}', 65, "found Xen off"),
        (["-"], "   4: VCPU 1: IPI\n", 2, "give DOM=FILE"),
        (["-"], KICK + "\n", 2, "give DOM=FILE"),
        (["/nowhere/dump.txt"], None, 66, "/nowhere/dump.txt"),
        ([], None, 2, "Missing argument"),
    ],
)
def test_exit_codes(arguments, text, code, message):
    done = run(*arguments, text=text)

    assert code == done.exit_code
    assert message in done.stderr
    assert "Traceback" not in done.output
