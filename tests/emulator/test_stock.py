"""What Xen would write for the same run: held against real captures and read by xenalyze."""

import json
import re
import struct
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import zstandard
from typer.testing import CliRunner

from evtrace.cli import app
from evtrace.tracer.emulator.catalogue import list_scenarios
from tests.xenalyze import told, with_xenalyze, xenalyze

CAPTURES = Path(__file__).parents[2] / "traces" / "sources"
SCENARIOS = [entry.name for entry in list_scenarios()]

Shape = tuple[int, int]
"""(words, 1 with a TSC)."""


def shapes(data: bytes) -> dict[int, set[Shape]]:
    """Give the shapes of each event's records, straight from the bytes."""
    found: dict[int, set[Shape]] = defaultdict(set)
    at = 0
    while at + 12 <= len(data):
        header, _, size = struct.unpack_from("<IiI", data, at)
        assert header == 0x2001F003
        at += 12
        end = min(at + size, len(data))
        while at < end:
            (word,) = struct.unpack_from("<I", data, at)
            words, timed = word >> 28 & 7, word >> 31
            found[word & 0xFFFFFFF].add((words, timed))
            at += 4 + 8 * timed + 4 * words
    return found


@pytest.fixture(scope="module")
def real() -> dict[int, set[Shape]]:
    """Give the shapes in all stored captures of a real Xen."""
    merged: dict[int, set[Shape]] = defaultdict(set)
    for path in sorted(CAPTURES.glob("*/xentrace.bin.zst")):
        with path.open("rb") as file:
            data = zstandard.ZstdDecompressor().stream_reader(file).read()
        for event, found in shapes(data).items():
            merged[event] |= found
    return merged


def record_stock(path: Path, scenario: str, kind: str, *options: str) -> Path:
    base = ["record", "-o", str(path), "--scenario", scenario, "--kind", kind, "--xen", "4.17"]
    result = CliRunner().invoke(app, [*base, "--capture", "stock", *options])
    assert result.exit_code == 0, result.output
    return path


@pytest.mark.parametrize("kind", ["pv", "pvh"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_records_look_like_those_of_a_real_xen(tmp_path, real, scenario, kind):
    made = shapes(record_stock(tmp_path / "t.bin", scenario, kind, "--chaos").read_bytes())
    unseen = {event for event in made if event not in real} - NOT_IN_THE_CAPTURES

    assert not unseen
    for event, found in made.items():
        assert found <= real.get(event, found), hex(event)


NOT_IN_THE_CAPTURES = {
    0x28001,  # a domain is made
    0x28002,  # and destroyed: in no stored capture
}


def test_a_stock_file_is_level_c1(tmp_path):
    path = record_stock(tmp_path / "t.bin", "pingpong", "pv")
    info = json.loads(CliRunner().invoke(app, ["info", str(path), "--format", "json"]).output)

    assert info["level"] == "C1"
    assert not any(event.startswith("0800fe") for event in info["records_by_event"])


@with_xenalyze
@pytest.mark.parametrize("kind", ["pv", "pvh"])
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("converted", [False, True], ids=["stock", "converted"])
def test_xenalyze_reads_them_to_the_end(tmp_path, scenario, kind, converted):
    """Recorded as stock, or recorded whole and converted: xenalyze sees what evtrace counts."""
    path = tmp_path / "t.bin"
    record_stock(path, scenario, kind, *(["--capture", "full"] if converted else []))
    if converted:
        whole, path = path, tmp_path / "stock.bin"
        result = CliRunner().invoke(app, ["convert", str(whole), "-o", str(path), "--stock"])
        assert result.exit_code == 0
    records = told(path)
    seen = Counter[str]()
    for line in xenalyze(path, "--svm-mode", "-a"):
        seen.update(set(line.split()))
    calls = re.findall(
        r"^  hypercall  (\d+)$", "\n".join(xenalyze(path, "--svm-mode", "-s")), re.MULTILINE
    )

    assert seen["vcpu_wake"] == records[0x28004] > 0
    assert seen["vcpu_block"] == records[0x28006]
    assert seen["hypercall"] == records[0x20100D] + records[0x20200E]
    assert sum(map(int, calls)) == seen["hypercall"]
    assert seen["vmexit"] == records[0x81102]
    raw = [line for line in xenalyze(path, "--svm-mode", "--dump-raw-process") if line[:1] == "*"]
    assert Counter(int(line[1:].split()[0], 16) for line in raw) == records
