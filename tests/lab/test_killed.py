"""Recorders that are killed or run out of room leave what they had, and can be cleaned up after."""

from pathlib import Path

import pytest

from evtrace.api import Trace
from evtrace.commands.import_ import import_
from evtrace.errors import ExitCode

pytestmark = pytest.mark.lab

NUMBERS = range(1, 21)


@pytest.fixture(scope="module")
def folder(ran):
    return ran("killed", seconds=900).folder


def imported(capture: Path, output: Path) -> Trace:
    """Give the trace made of what a recorder left in its folder."""
    lists = [capture / f"before.{tool}.txt" for tool in ("lsevtchn", "debugkeys")]
    lsevtchn, debug_keys = ([str(path)] if path.exists() else [] for path in lists)
    xentrace = capture / "xentrace.raw"
    import_(
        output=output,
        xentrace=xentrace if xentrace.exists() else None,
        ftrace=[f"0={capture / 'ftrace.txt'}"],
        lsevtchn=lsevtchn,
        debug_keys=debug_keys,
    )
    return Trace(output)


def test_what_killed_recorders_had_is_readable(folder: Path, tmp_path: Path, log):
    captures = [folder / f"killed{number}.bin.capture" for number in NUMBERS]
    texts = [capture for capture in captures if (capture / "ftrace.txt").exists()]
    compared = 0
    for capture in texts:
        found = imported(capture, tmp_path / f"{capture.name}.bin").replay()
        assert [] == found.divergences
        compared += found.compared
    log(
        f"killed: {len(NUMBERS)} recorders, {len(texts)} traces readable, {compared} calls compared"
    )
    assert len(texts) >= len(NUMBERS) // 2
    assert compared > len(texts)


def test_clean_leaves_no_probe_behind(folder: Path):
    left = [(folder / f"killed{number}.left.txt").read_text() for number in NUMBERS]
    cleaned = [(folder / f"killed{number}.cleaned.txt").read_text() for number in NUMBERS]
    assert sum(bool(text) for text in left) >= len(NUMBERS) // 2
    assert [""] * len(NUMBERS) == cleaned


def test_a_full_disk_stops_the_recording_and_leaves_it_readable(folder: Path, tmp_path: Path):
    (capture,) = (folder / "full").glob("*.capture")
    assert ExitCode.CANNOT_WRITE == int((folder / "full.rc").read_text())
    assert "" == (folder / "full.left.txt").read_text()
    assert imported(capture, tmp_path / "full.bin").replay().hypercalls > 0
