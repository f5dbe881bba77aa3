"""`evtrace record --host`, `--guest`, `--script`: what the command refuses, says and writes."""

import pytest
from typer.testing import CliRunner

from evtrace.cli import app
from evtrace.commands import record_host
from evtrace.errors import ExitCode
from evtrace.tracefile.family import Timing
from evtrace.tracefile.reader import open_trace
from evtrace.tracer.host import machine
from evtrace.tracer.host.recorder import Status
from tests.unit.host.machine_builder import FakeTracefs, make_dom0, make_program, write
from tests.unit.host.test_images import kernel  # noqa: F401  a fixture


def run(*arguments):
    return CliRunner().invoke(app, ["record", *map(str, arguments)])


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Run the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def dom0(tmp_path, monkeypatch):
    """The command's machine is a dom0 made of files."""
    dom0 = make_dom0(tmp_path / "root")
    monkeypatch.setattr(machine, "Machine", lambda: dom0.machine)
    for module in ("preflight", "ledger"):
        monkeypatch.setattr(f"evtrace.tracer.host.{module}.Tracefs", FakeTracefs)
    return dom0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "--scenario", "demo"], "--scenario does not go with --host"),
        (["--host", "--set", "a=1"], "--set does not go with --host"),
        (["--host", "--guest"], "--host and --guest are two ways to record: choose one"),
        (["--check"], "--check goes with --host or --guest"),
        (["--kernel", "vmlinux"], "--kernel goes with --script"),
        (["--guest", "--no-probes"], "--no-probes does not go with --guest"),
        (["--script"], "--script is for a kernel: give --kernel FILE, or --running"),
        (["--script", "--running", "--kernel", "x"], "--script is for a kernel"),
        (["--script", "--running", "--modules", "x"], "--modules goes with --kernel"),
        (["--host", "--timing", "pinned-x86"], "expected one of hardware, emulated-cpu"),
    ],
)
def test_options_that_do_not_go_together(here, arguments, message):
    result = run(*arguments)

    assert ExitCode.USAGE == result.exit_code
    assert message in result.stderr
    assert [] == list(here.iterdir())


def test_check_on_a_machine_without_xen(here, monkeypatch):
    empty = machine.Machine(here / "nothing", is_root=True)
    monkeypatch.setattr(machine, "Machine", lambda: empty)
    result = run("--host", "--check")

    assert ExitCode.CANNOT_RECORD == result.exit_code
    rows = {line.split()[0]: line.split()[1] for line in result.stdout.splitlines()}
    assert {"root": "yes", "Xen": "no", "tracefs": "no", "xentrace": "no"}.items() <= rows.items()
    assert "this machine does not run on Xen" in result.stderr


def test_check_in_dom0(dom0):
    result = run("--host", "--check")

    assert ExitCode.OK == result.exit_code, result.stderr
    assert "Xen 4.17, dom0" in result.stdout
    assert "xentrace no not installed" in " ".join(result.stdout.split())
    assert not (dom0.tracefs.instance).exists()


@pytest.mark.usefixtures("dom0")
def test_what_is_missing_is_said_and_the_rest_recorded(here):
    result = run("--host", "-T", "0.2", "-o", "t.bin", "--keep")

    assert ExitCode.OK == result.exit_code, result.stderr
    assert "evtrace: xentrace: not installed; no scheduling" in result.stderr
    assert (here / "t.bin").exists()
    assert {"ftrace.txt", "before.lsevtchn.txt", "after.lsevtchn.txt"} == {
        path.name for path in (here / "t.bin.capture").iterdir()
    }
    with open_trace("t.bin") as opened:
        assert ((4, 17), Timing.HARDWARE) == (opened.facts.xen_version, opened.facts.timing)


@pytest.mark.usefixtures("dom0")
def test_without_keep_only_the_trace_is_left(here):
    run("--host", "-T", "0.1", "-o", "t.bin")

    assert ["root", "t.bin"] == sorted(path.name for path in here.iterdir())


def test_channels_of_other_domains_are_left_out(here, dom0):
    make_program(
        dom0.root,
        "xl",
        'case $1 in list) printf "Name ID Mem V S T\\n'
        'a 0 1 1 r- 1.0\\nb 3 1 1 r- 1.0\\nc 4 1 1 r- 1.0\\n";; esac',
    )
    run("--host", "-T", "0.1", "-o", "t.bin", "--dom", "4", "--keep")
    listed = (here / "t.bin.capture/before.lsevtchn.txt").read_text()

    assert ["# lsevtchn 0", "# lsevtchn 4"] == [
        line for line in listed.splitlines() if line.startswith("#")
    ]


@pytest.mark.usefixtures("dom0")
def test_a_guests_text_is_handed_over(here):
    result = run("--guest", "-T", "0.1")

    assert ExitCode.OK == result.exit_code, result.stderr
    assert (here / "ftrace.txt").read_text().startswith("# tracer: function\n#\n# evtrace record")
    assert not (here / "ftrace.txt.capture").exists()


@pytest.mark.usefixtures("dom0")
def test_an_output_that_exists_is_refused_before_anything_is_set_up(here):
    (here / "t.bin").write_text("precious")
    result = run("--host", "-o", "t.bin")

    assert ExitCode.OUTPUT_EXISTS == result.exit_code
    assert "precious" == (here / "t.bin").read_text()


@pytest.mark.usefixtures("dom0")
def test_what_another_recording_got_is_not_written_over(here):
    (here / "t.bin.capture").mkdir()
    result = run("--host", "-o", "t.bin")

    assert ExitCode.CANNOT_WRITE == result.exit_code
    assert "import it, move it or remove it" in result.stderr


@pytest.mark.usefixtures("dom0")
def test_a_disk_that_fills_leaves_what_was_recorded_and_says_how_to_read_it(here, monkeypatch):
    def full(self):
        raise self._cannot(OSError(28, "No space left on device"))

    monkeypatch.setattr("evtrace.tracer.host.pipe.PipeCopy.copy", full)
    result = run("--host", "-T", "5", "-o", "t.bin")

    assert ExitCode.CANNOT_WRITE == result.exit_code
    assert "No space left on device; what was recorded so far is in t.bin.capture" in result.stderr
    command = result.stderr.split("t.bin.capture: ")[1].split()
    assert ["evtrace", "import", "--ftrace", "0=t.bin.capture/ftrace.txt"] == command[:4]
    assert (here / "t.bin.capture/ftrace.txt").exists()


@pytest.mark.usefixtures("dom0")
def test_clean_says_when_there_is_nothing():
    result = run("--host", "--clean")

    assert ("nothing was left\n", ExitCode.OK) == (result.stdout, result.exit_code)


def test_a_script_for_a_kernel_on_disk(here, kernel):  # noqa: F811
    result = run("--script", "--kernel", kernel, "-o", "setup.sh")
    script = (here / "setup.sh").read_text()

    assert ExitCode.OK == result.exit_code, result.stderr
    assert "probe notify_12_pre 'p:evtrace/notify_12_pre notify+8 cmd=%di:u32" in script
    assert "kernel='Linux version 6.1.0-test (somebody) #1 SMP'" in script


def test_the_live_line(capsys):
    show = record_host._Show(is_shown=True)
    show(Status(2.0, 100, 50.0, 3, 0.25, 1_500_000))
    show.end()

    assert (
        "\r     2 s         50 events/s  3 lost  buffer  25%  xentrace 1.5 MB\n"
        == capsys.readouterr().err
    )


@pytest.mark.parametrize("arguments", [["-T", "0.1"], ["--check"]])
def test_what_a_killed_recorder_left_is_to_be_cleaned_first(here, dom0, arguments):
    write(
        dom0.root / "run/evtrace/recording.json", '{"pid": 7, "started": "1", "folder": "/there"}'
    )
    result = run("--host", *arguments)

    assert ExitCode.CANNOT_RECORD == result.exit_code
    assert "run `evtrace record --host --clean` first" in result.stderr
    assert not list(here.glob("*.capture"))
    assert "the ended recording's capture is in /there\n" == run("--host", "--clean").stdout
