"""`evtrace minimise`: what it prints, what it writes, and how it ends."""

import json
import os
import re
import signal
from contextlib import contextmanager
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from evtrace.api import Trace
from evtrace.cli import app
from evtrace.commands import minimising
from evtrace.errors import ExitCode
from evtrace.verdicts import Fate, FindingCode

TRACES = Path(__file__).parents[2] / "traces"
SCHEMA = Path(__file__).parents[2] / "evtrace/schemas/minimise.schema.json"
LOST = TRACES / "emu-fifo-pingpong-lost-send.bin.zst"


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def lost(tmp_path_factory):
    """Give what the command prints of the lost send, and the trace that it writes."""
    small = tmp_path_factory.mktemp("minimised") / "small.bin"
    done = run("minimise", LOST, "--keep", "fate=LOST", "-o", small)
    assert done.exit_code == ExitCode.OK, done.stderr
    return done.stdout, small


def test_a_lost_send_comes_down_to_six_operations(lost):
    lines = lost[0].splitlines()

    assert lines[0] == "Kept: send on d1:8 to d0:8 LOST: Xen did not wake d0v0"
    assert "→ 6 operations;" in lines[1]
    assert ["alloc_unbound", "bind_interdomain", "unmask", "upcall", "unlink", "send"] == [
        re.split(r"[ (]", line[23:].strip())[0] for line in lines[4:10]
    ]
    assert lines[9].endswith("LOST <-- kept")
    assert lines[-1].endswith("the emulator shows it with the fault lost-send, not without")


def test_the_same_as_json(tmp_path):
    small = tmp_path / "small.bin"
    done = run("minimise", LOST, "--keep", "fate=LOST", "-o", small, "--format", "json")
    told = json.loads(done.stdout)

    jsonschema.validate(told, json.loads(SCHEMA.read_text()))
    assert ["alloc_unbound", "bind_interdomain", "unmask", "upcall", "unlink", "send"] == [
        re.split(r"[ (]", one["text"])[0] for one in told["operations"]
    ]
    assert [False] * 5 + [True] == [one["is_kept"] for one in told["operations"]]
    assert {"name": "fate.LOST", "seq": told["kept"]["seq"]}.items() <= told["kept"].items()
    assert (True, "lost-send") == (told["scenario"]["is_shown"], told["scenario"]["fault"])


def test_the_trace_it_writes_shows_the_same_and_nothing_else(lost):
    with Trace(lost[1]) as small:
        results = small.replay()
        assert [Fate.LOST] == [send.fate for send in results.sends]
        assert [FindingCode.NOT_DELIVERED] == [found.code for found in results.findings]
        assert [] == results.divergences
        assert not small.reader.damage
        assert (
            "--minimise emu-fifo-pingpong-lost-send.bin.zst: 6 of 226 operations that show"
            in (small.facts.sources[-1])
        )
    assert run("replay", lost[1]).exit_code == ExitCode.FINDING
    assert run("report", lost[1], "--as", "interleaving").exit_code == ExitCode.OK


def test_the_scenario_shows_it_with_the_fault_alone(lost, tmp_path):
    scenario = lost[1].with_name("small.scenario.toml")
    again = ["record", "--scenario", scenario, "-o", tmp_path / "again.bin", "--force"]
    for options, fate in ([], Fate.LOST), (["--set", "faults=no"], Fate.DELIVERED):
        assert run(*again, *options).exit_code == ExitCode.OK
        with Trace(tmp_path / "again.bin") as played:
            assert [fate] == [send.fate for send in played.replay().sends]


def test_a_spurious_run_of_a_real_xen(imported, tmp_path):
    done = run(
        "minimise", imported("pv_fifo_blog"), "--keep", "spurious=L2", "-o", tmp_path / "small.bin"
    )

    assert done.exit_code == ExitCode.OK
    assert "Kept: d0:33 v0 BIND_CONSERVATIVE" in done.stdout
    assert "the emulator shows it" in done.stdout
    with Trace(tmp_path / "small.bin") as small:
        assert {"BIND_CONSERVATIVE"} <= {str(run.cause) for run in small.replay().runs}


def test_without_keep_it_is_the_first_thing_that_is_wrong(tmp_path):
    done = run("minimise", LOST, "-o", tmp_path / "small.bin")

    assert "Kept: EVT205 NOT_DELIVERED" in done.stdout


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("cause=SEMD", "there is no quantity cause.SEMD; the nearest is cause.SEND"),
        ("colour=red", "expected one of divergence, cause=X, eoi_delay=X, fate=X, finding=X"),
        ("fate", "expected one of divergence"),
        ("divergence=sent", "there is no operation sent; the nearest is send"),
    ],
)
def test_an_unknown_word_is_told_with_the_nearest(keep, expected, tmp_path):
    done = run("minimise", LOST, "--keep", keep, "-o", tmp_path / "small.bin")

    assert ExitCode.USAGE == done.exit_code
    assert expected in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--keep", "divergence"],
        ["--keep", "fate=LOST", "--on", "d1:9"],
        ["--keep", "fate=LOST", "--at", "3"],
    ],
)
def test_what_is_not_shown_is_said_and_nothing_is_written(options, tmp_path):
    done = run("minimise", LOST, *options, "-o", tmp_path / "small.bin")

    assert ExitCode.FINDING == done.exit_code
    assert "does not show" in done.stderr
    assert [] == list(tmp_path.iterdir())


def test_a_code_and_a_name_mean_the_same(tmp_path):
    said = [
        run("minimise", LOST, "--keep", f"finding={name}", "-o", tmp_path / "s.bin", "--force")
        for name in ("EVT205", "not_delivered")
    ]

    assert [ExitCode.OK] * 2 == [done.exit_code for done in said]
    first, second = (done.stdout.partition("replays")[0] for done in said)
    assert first == second


@pytest.mark.parametrize("name", ["small.bin", "small.scenario.toml"])
def test_no_output_is_replaced_unasked(name, tmp_path):
    (tmp_path / name).write_text("mine")
    done = run("minimise", LOST, "--keep", "fate=LOST", "-o", tmp_path / "small.bin")

    assert ExitCode.OUTPUT_EXISTS == done.exit_code
    assert "mine" == (tmp_path / name).read_text()


def interrupted_after(monkeypatch, reports):
    """Let Ctrl-C be pressed when so many reports of progress were made in the search."""
    left = [reports]

    @contextmanager
    def bar(label, item=None):
        del item

        def progress(share):
            del share
            if label == "minimising":
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGINT)

        yield progress

    monkeypatch.setattr(minimising, "progress_bar", bar)


def test_ctrl_c_writes_the_best_so_far(monkeypatch, tmp_path):
    interrupted_after(monkeypatch, 12)
    small = tmp_path / "small.bin"
    done = run("minimise", LOST, "--keep", "fate=LOST", "-o", small)

    assert ExitCode.INTERRUPTED == done.exit_code
    assert "Ended early" in done.stdout
    with Trace(small) as written:
        assert Fate.LOST in {send.fate for send in written.replay().sends}


def test_ctrl_c_at_once_writes_nothing(monkeypatch, tmp_path):
    interrupted_after(monkeypatch, 1)
    done = run("minimise", LOST, "--keep", "fate=LOST", "-o", tmp_path / "small.bin")

    assert ExitCode.INTERRUPTED == done.exit_code
    assert "nothing is written" in done.stderr
    assert [] == list(tmp_path.iterdir())


def test_no_time_at_all_is_too_little(tmp_path):
    done = run("minimise", LOST, "--keep", "fate=LOST", "--seconds", "0", "-o", tmp_path / "s.bin")

    assert ExitCode.FINDING == done.exit_code
    assert "nothing is written" in done.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--keep", "divergence"], "Kept: handler of d0:29 runs: expected d0:29 not pending"),
        (["--keep", "divergence=handler", "--on", "d0:29"], "Kept: handler of d0:29 runs"),
    ],
)
def test_a_divergence_from_another_hypervisor(options, expected, tmp_path):
    trace, small = TRACES / "emu-fifo-demo.bin.zst", tmp_path / "small.bin"
    done = run("minimise", trace, "--xen", "qemu", *options, "-o", small)

    assert done.exit_code == ExitCode.OK, done.output
    assert expected in done.stdout
    with Trace(small) as written:
        assert 1 == len(written.replay("qemu").divergences)
        assert [29] == [run.port for run in written.replay("qemu").runs]


KEPT = [
    ("emu-fifo-pingpong-lost-records", "fate=DELIVERED"),
    ("emu-fifo-pingpong-lost-records", "fate=UNKNOWN"),
    ("emu-fifo-pingpong-cut-file", "cause=UNKNOWN"),
    ("emu-2l-port-reuse", "cause=PEER_CLOSE_RESIDUE"),
    ("emu-fifo-netfront", "spurious=L3"),
    ("emu-fifo-boot", "spurious=L1"),
    ("emu-fifo-poll", "fate=HELD_MASKED"),
    ("emu-fifo-reset", "fate=CLOSED"),
    ("xen4.17-fifo-pvh-demo", "spurious=L1"),
    ("xen4.17-fifo-pv-pingpong-lost", "fate=COALESCED"),
]


@pytest.mark.parametrize(("name", "keep"), KEPT)
def test_other_traces_and_facts(name, keep, tmp_path):
    done = run("minimise", TRACES / f"{name}.bin.zst", "--keep", keep, "-o", tmp_path / "s.bin")
    counts = re.search(r"([\d,]+) → (\d+) operations", done.stdout)

    assert done.exit_code == ExitCode.OK, done.output
    assert counts is not None
    assert 25 > int(counts[2]) < int(counts[1].replace(",", ""))


@pytest.mark.parametrize("name", ["emu-fifo-pingpong-stock", "xen4.17-fifo-pv-demo-stock"])
def test_a_stock_capture_shows_nothing_of_it(name, tmp_path):
    done = run("minimise", TRACES / f"{name}.bin.zst", "--keep", "fate=LOST", "-o", tmp_path / "s")

    assert ExitCode.FINDING == done.exit_code


LONG = [
    ("pingpong", {"rounds": 2_500}, 0.02),
    ("ipi", {"calls": 1_000}, 0.015),
    ("blkfront", {"requests": 4_000}, 0.025),
    ("storm", {"events": 13_000, "every": 3}, 1.5),
]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("scenario", "parameters", "seconds"), LONG)
def test_a_long_trace_with_one_lost_send(scenario, parameters, seconds, seed, tmp_path):
    options = [f"--set={key}={value}" for key, value in parameters.items()]
    options += [f"--seed={seed}", f"--fault=lost-send@{seconds}", "-o", tmp_path / "long.bin"]
    assert run("record", "--scenario", scenario, *options).exit_code == ExitCode.OK
    done = run("minimise", tmp_path / "long.bin", "--keep", "fate=LOST", "-o", tmp_path / "s.bin")
    counts = re.search(r"→ (\d+) operations; .*", done.stdout)

    assert done.exit_code == ExitCode.OK, done.output
    assert counts is not None
    print(scenario, seed, done.stdout.splitlines()[1])
    assert 20 > int(counts[1])
    assert "lost-send" in done.stdout.splitlines()[-1]
