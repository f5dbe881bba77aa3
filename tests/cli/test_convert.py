"""`evtrace convert --stock`: what it writes and says, refusals, and what xenalyze makes of it."""

import re
import subprocess
import sys
from collections import Counter

import pytest
import zstandard
from typer.testing import CliRunner

from evtrace.cli import app
from evtrace.errors import ExitCode
from evtrace.timeline import Kind
from evtrace.tracefile.family import FACTS_STREAM
from evtrace.tracefile.records import encode, encode_family
from tests.conftest import FTRACE_CAPTURES
from tests.tinytrace import hypercall, tiny_trace, wake, window
from tests.xenalyze import NAMES, XENALYZE, told, with_xenalyze, xenalyze

STOCK = tiny_trace(window(0, hypercall(32, 5), wake(1, 0, tsc=7)), window(1, hypercall(29, 6)))
OF_FAMILY = encode_family(Kind.MASK, 1, 0, [3], 6)
MIXED = tiny_trace(
    window(FACTS_STREAM, OF_FAMILY),
    window(0, hypercall(32, 5), OF_FAMILY, wake(1, 0, tsc=7)),
    window(1, hypercall(29, 6)),
)
SAYS = "3 records kept, 2 of evtrace's family left out"


def run(*arguments):
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Give a folder to work in, with a trace."""
    (tmp_path / "t.bin").write_bytes(MIXED)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- what is written and said ------------------------------------------------------------------


def test_it_says_what_was_kept_and_what_not(folder):
    done = run("t.bin", "-o", "out.bin", "--stock")

    assert (done.exit_code, done.stdout, done.stderr) == (0, f"out.bin: {SAYS}\n", "")
    assert (folder / "out.bin").read_bytes() == STOCK
    assert not (folder / "out.bin.partial").exists()


def test_large_numbers_are_grouped_and_strays_are_told(folder):
    records = [hypercall(1, tsc) for tsc in range(12_345)]
    (folder / "t.bin").write_bytes(window(0, *records, OF_FAMILY * 1_000, encode(0x123, [])))

    done = run("t.bin", "-o", "out.bin", "--stock")

    counts = "12,345 records kept, 1,000 of evtrace's family and 1 that xentrace never writes"
    assert f"out.bin: {counts} left out\n" == done.stdout


def test_damage_is_told_on_stderr_and_does_not_reach_the_output(folder):
    cut = MIXED[:-4]
    (folder / "t.bin").write_bytes(cut)

    done = run("t.bin", "-o", "out.bin", "--stock")

    assert 0 == done.exit_code
    assert done.stderr.splitlines() == [
        "evtrace: t.bin: byte 100: window cut short: 4 of its 16 bytes are missing",
        "evtrace: t.bin: byte 112: record cut short, 12 bytes skipped",
    ]
    assert (folder / "out.bin").read_bytes() == window(0, hypercall(32, 5), wake(1, 0, tsc=7))


def test_compressed_in_and_out(folder):
    (folder / "t.bin.zst").write_bytes(zstandard.ZstdCompressor().compress(MIXED))

    done = run("t.bin.zst", "-o", "out.bin.zst", "--stock")

    assert f"out.bin.zst: {SAYS}\n" == done.stdout
    packed = (folder / "out.bin.zst").read_bytes()
    unpacked = zstandard.ZstdDecompressor().stream_reader(packed).read()
    assert STOCK == unpacked


def test_standard_input(folder):
    command = [sys.executable, "-m", "evtrace", "convert", "-", "-o", "out.bin", "--stock"]

    done = subprocess.run(command, input=MIXED, capture_output=True, check=True)

    assert f"out.bin: {SAYS}\n".encode() == done.stdout
    assert (folder / "out.bin").read_bytes() == STOCK


def test_a_trace_may_replace_itself_by_force(folder):
    assert ExitCode.OUTPUT_EXISTS == run("t.bin", "-o", "t.bin", "--stock").exit_code
    assert (folder / "t.bin").read_bytes() == MIXED

    assert 0 == run("t.bin", "-o", "t.bin", "--stock", "--force").exit_code
    assert (folder / "t.bin").read_bytes() == STOCK


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("t.bin", "-o", "out.bin"), ExitCode.USAGE, "no format is named so"),
        (("t.bin", "--stock"), ExitCode.USAGE, "--output"),
        (("family.bin", "-o", "out.bin", "--stock"), ExitCode.USAGE, "family.bin: no record"),
        (("out.bin.partial", "-o", "out.bin", "--stock"), ExitCode.USAGE, "another name"),
        (("text.bin", "-o", "out.bin", "--stock"), ExitCode.NOT_A_TRACE, "a xentrace window"),
        (("none.bin", "-o", "out.bin", "--stock"), ExitCode.NO_INPUT, "none.bin"),
        (("t.bin", "-o", "there.bin", "--stock"), ExitCode.OUTPUT_EXISTS, "--force"),
        (("t.bin", "-o", "no/out.bin", "--stock"), ExitCode.CANNOT_WRITE, "no/out.bin"),
    ],
)
def test_refusals_say_what_and_write_nothing(folder, arguments, code, message):
    (folder / "family.bin").write_bytes(window(FACTS_STREAM, OF_FAMILY))
    (folder / "out.bin.partial").write_bytes(MIXED)
    (folder / "text.bin").write_text("no trace")
    (folder / "there.bin").write_bytes(b"kept")

    done = run(*arguments)

    assert code == done.exit_code
    assert message in done.stderr, done.stderr
    assert (folder / "there.bin").read_bytes() == b"kept"
    assert (folder / "out.bin.partial").read_bytes() == MIXED
    assert not (folder / "out.bin").exists()


# --- xenalyze ----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=FTRACE_CAPTURES)
def stripped(request, imported, tmp_path_factory):
    """Give an imported capture without evtrace's records, and xenalyze's options for it."""
    output = tmp_path_factory.mktemp("stock") / "stock.bin"
    assert 0 == run(imported(request.param), "-o", output, "--stock").exit_code
    options = ["--svm-mode"] if request.param == "pvh_blog" else []
    if options and XENALYZE and "--svm-mode" not in "".join(xenalyze(output, "--help")):
        pytest.skip("this xenalyze cannot be told that a capture was taken on AMD's SVM")
    return output, options


@with_xenalyze
def test_xenalyze_reads_every_record_of_what_is_left(stripped):
    output, options = stripped

    lines = xenalyze(output, *options, "--dump-raw-process")

    seen = Counter(int(line[1:].split()[0], 16) for line in lines if line.startswith("*"))
    assert told(output) == seen
    assert seen.total() > 10_000


@with_xenalyze
def test_xenalyze_dumps_what_is_left_to_its_end(stripped):
    output, options = stripped
    counted = Counter[str]()
    for event, number in told(output).items():
        counted[NAMES.get(event, "other")] += number
        counted["runstate_change"] += number * (event & 0xFF00F == 0x21001)

    lines = xenalyze(output, *options, "--dump-all")

    words = Counter(word for line in lines for word in set(line.split()))
    for name in (*NAMES.values(), "runstate_change"):
        assert counted[name] == words[name], name
    assert words["vcpu_wake"] > 100


@with_xenalyze
def test_xenalyze_sums_what_is_left_up(stripped):
    output, options = stripped
    records = told(output)

    text = "\n".join(xenalyze(output, *options, "--summary", "--show-default-domain-summary"))

    calls = sum(map(int, re.findall(r"^  hypercall  (\d+)$", text, re.MULTILINE)))
    assert records[0x20100D] + records[0x20200E] == calls > 100
    assert "|-- Domain 0 --|" in text


@with_xenalyze
@pytest.mark.parametrize(
    "mode",
    [
        ["--report-pcpu"],
        ["--dump-raw-reads"],
        ["--scatterplot-runstate"],
        ["--interval-domain-total-time-all", "--interval=1"],
    ],
)
def test_xenalyze_ends_in_its_other_modes_too(stripped, mode):
    output, options = stripped

    assert len(xenalyze(output, *options, *mode)) > 3
