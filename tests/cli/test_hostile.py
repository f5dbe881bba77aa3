"""A trace is hostile input: what commands print of it, a terminal shows and does not obey."""

import pytest
import zstandard
from typer.testing import CliRunner

from evtrace.cli import app
from tests.conftest import SOURCES
from tests.hostile import FILE_NAME, hostile_trace


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / FILE_NAME
    path.write_bytes(hostile_trace())
    return path


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def is_inert(text):
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["report"], "window.__hacked=1>\\x1b[31m\\u202e.bin"),
        (["report", "--format", "json"], '"runs"'),
        (["report", "--format", "markdown"], "x1b"),
        (["report", "--format", "csv"], "d0:33"),
        (["report", "--as", "interleaving"], "d0v0 (<img src=x"),
        (["report", "--table", "ports"], "\\x1b]0;hacked"),
        (["replay"], "divergence"),
        (["info"], "\\x1b]0;hacked\\x07\\x1b[2J"),
        (["info", "--format", "json"], "\\\\x1b]0;hacked"),
        (["dump"], "\\x1b]0;hacked"),
        (["dump", "--style", "xentrace_format"], "\\x1b]0;hacked"),
        (["dump", "--format", "csv"], "\\x1b]0;hacked"),
        (["dump", "--format", "json"], "\\\\x1b]0;hacked"),
    ],
)
def test_nothing_that_is_printed_is_obeyed(trace, arguments, says):
    command, *options = arguments
    found = run(command, trace, *options)

    assert found.exit_code == 0
    assert says in found.output
    assert is_inert(found.output)


def test_messages_are_inert_too(tmp_path):
    found = run("report", tmp_path / "\x1b[2Jnowhere\u202e.bin")

    assert found.exit_code == 66
    assert "\\x1b[2Jnowhere\\u202e.bin" in found.output
    assert is_inert(found.output)


def test_remarks_on_damage_are_inert(trace):
    trace.write_bytes(hostile_trace() + b"\xff" * 40)
    found = run("info", trace)

    assert "\\x1b[31m" in found.stderr
    assert is_inert(found.stderr)


def test_remarks_of_an_import_are_inert(tmp_path):
    packed = (SOURCES / "dom0_self20" / "dom0.ftrace.txt.zst").read_bytes()
    lines = zstandard.ZstdDecompressor().decompress(packed, 1 << 26).splitlines()
    lines.insert(len(lines) // 2, b"nonsense \x1b[2J\xe2\x80\xae of a hostile guest")
    text = tmp_path / "dom0.txt"
    text.write_bytes(b"\n".join(lines))
    found = run("import", "--ftrace", f"0={text}", "-o", tmp_path / "out.bin")

    assert found.exit_code == 0
    assert "nonsense \\x1b[2J" in found.output
    assert is_inert(found.output)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".pftrace"])
@pytest.mark.parametrize("table", ["records", "runs"])
def test_exports_hold_no_escape(trace, tmp_path, suffix, table):
    output = tmp_path / f"out{suffix}"
    found = run("convert", trace, "-o", output, "--table", table)
    data = output.read_bytes()

    assert found.exit_code == 0
    assert b"\x1b]0;hacked" not in data
    assert b"\x1b]" not in data
    if suffix == ".pftrace":
        assert b"\\x1b]0;hacked" in data
