"""What the README and the help say of the commands is the same."""

import re
from pathlib import Path

from typer.testing import CliRunner

from evtrace.cli import app
from evtrace.errors import ExitCode

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_table_names_every_command_and_no_other():
    listed = re.findall(r"^\| `evtrace (\w+)", README, re.MULTILINE)
    offered = [command.name for command in app.registered_commands]

    assert offered == listed


def test_the_exit_codes_are_those_of_the_code():
    text = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    prose = " ".join(README.split())
    for code in ExitCode:
        assert re.search(rf"\b{code.value}\b", text), code
        assert re.search(rf"\b{code.value}\b", prose), code


def test_the_files_that_the_readme_links_are_there():
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link).exists(), link


def test_the_result_it_shows_is_that_of_the_real_capture(imported):
    shown = README.partition("a real Xen 4.17:\n")[2].partition("\nand the same as a page")[0]
    expected = [line.removeprefix("    ") for line in shown.splitlines() if line]
    found = CliRunner().invoke(app, ["report", str(imported("pv_fifo_blog")), "--port", "d0:33"])

    assert len(expected) > 8
    assert [line for line in expected if line not in found.output.splitlines()] == []
