"""`evtrace explain`: pages as text and JSON, the list, usage errors."""

import json
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from evtrace.cli import app
from evtrace.replay.explanations import MEMBERS, all_pages

SCHEMA = Path(__file__).parents[2] / "evtrace" / "schemas" / "explain.schema.json"
NAMES = sorted({page.name for page in all_pages()})


def run(*arguments):
    return CliRunner().invoke(app, ["explain", *arguments])


def test_a_page_in_words():
    output = run("bind_conservative").output

    assert output.startswith("BIND_CONSERVATIVE: cause of a handler run\n\n  Nobody sent anything.")
    assert "evtchn_bind_interdomain" in " ".join(output.split())
    assert "\n  needs     call, handler\n" in output


def test_a_name_of_two_sets_is_explained_in_both():
    heads = [line for line in run("DOUBLE_HANDLE").output.splitlines() if line[:1].strip()]

    assert [
        "DOUBLE_HANDLE: cause of a handler run",
        "DOUBLE_HANDLE (EVT304, warning): finding of a replay",
    ] == heads


def test_every_page_fits_80_columns_and_follows_the_schema():
    found = json.loads(run(*NAMES, "--format", "json").output)
    jsonschema.validate(found, json.loads(SCHEMA.read_text()), jsonschema.Draft202012Validator)

    assert max(map(len, run(*NAMES).output.splitlines())) <= 80
    assert len(all_pages()) == len(found["pages"])


def test_the_list_names_every_member_once():
    lines = run("--list").output.splitlines()
    names = [line.partition(":")[0].split()[-1] for line in lines if line.startswith("  ")]

    assert [name for cls in MEMBERS.values() for name in cls.__members__] == names
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["LOST_SENT"], "LOST_SEND"), ([], "--list"), (["LOST", "--list"], "--list")],
)
def test_usage_errors_end_with_2(arguments, says):
    found = run(*arguments)

    assert found.exit_code == 2
    assert says in found.output
