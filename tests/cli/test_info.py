"""`evtrace info`: text, JSON by its schema, exit codes."""

import json
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from evtrace.cli import app
from evtrace.tracefile.damage import DamageKind
from evtrace.tracefile.records import encode
from tests.tinytrace import hypercall, lost, sample, tiny_trace, window

SOURCES = Path(__file__).parents[2] / "traces" / "sources"
SCHEMA = Path(__file__).parents[2] / "evtrace" / "schemas" / "info.schema.json"


def run(*args):
    return CliRunner().invoke(app, ["info", *map(str, args)])


def as_json(*args):
    result = run(*args, "--format", "json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    jsonschema.validate(answer, json.loads(SCHEMA.read_text()))
    return answer


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.bin"
    path.write_bytes(sample())
    return path


def test_json_of_a_tiny_trace(tiny):
    answer = as_json(tiny)
    assert answer["records"] == 14
    assert answer["records_by_event"]["0020100d"] == 3
    assert answer["event_names"]["0020100d"] == "PV_HYPERCALL_V2"
    assert "0001f003" not in answer["records_by_event"]
    assert sum(answer["records_by_event"].values()) == 14
    assert (answer["pcpus"], answer["records_by_stream"]) == (2, {"0": 8, "1": 6})
    assert (answer["tsc_first"], answer["tsc_last"]) == (100, 180)
    assert (answer["tsc_hz"], answer["tsc_hz_source"], answer["duration_s"]) == (
        None,
        "unknown",
        None,
    )
    assert (answer["level"], answer["damage"], answer["lost_records"]) == ("C1", [], 5)
    assert [gap["first_tsc"] for gap in answer["gaps"]] == [161]


def test_json_of_the_capture_with_gaps():
    answer = as_json(SOURCES / "dom0_lost" / "xentrace.bin.zst")
    assert answer["lost_records"] == 45_082 + 45_951
    spans = [(gap["pcpu"], gap["count"], gap["first_tsc"], gap["tsc"]) for gap in answer["gaps"]]
    assert spans == [
        (0, 45_082, 186920672469, 193050136138),
        (1, 45_951, 186659115503, 193129761846),
    ]
    assert answer["duration_s"] == pytest.approx(9.951, abs=0.001)
    assert answer["tsc_hz_source"] == "calibrated"


def test_json_of_an_imported_trace(imported):
    answer = as_json(imported("pvh_blog"))
    assert answer["level"] == "C4"
    by_dom = {told["dom"]: told for told in answer["domains"]}
    assert by_dom[0]["guest_type"] == "pv"
    assert by_dom[0]["clock_offset"] is None
    assert by_dom[1]["guest_type"] == "hvm"
    assert by_dom[1]["clock_offset"] == [140928944930, 140929111066]
    assert {"call", "handler"} <= set(answer["coverage"][0]["classes"])
    assert answer["unknown_family_records"] == 0


def test_text_names_what_matters(tiny):
    result = run(tiny)
    assert result.exit_code == 0
    assert "14 records" in result.stdout
    assert "frequency unknown" in result.stdout
    assert "lost      5 records of pcpu 0, tsc 161..170, d0v0 running at the end" in result.stdout
    assert "0020100d  PV_HYPERCALL_V2" in result.stdout


def test_text_of_an_imported_trace_names_its_sources_and_clocks(imported):
    out = run(imported("pvh_blog")).stdout
    assert "source    xentrace xentrace.bin.zst" in out
    assert "host tsc = its tsc + [140928944930, 140929111066]" in out
    assert "level     C4" in out


def test_damage_goes_to_stderr_and_does_not_fail(tiny):
    tiny.write_bytes(sample()[:-4])
    result = run(tiny)
    assert result.exit_code == 0
    assert "byte 200: window cut short: 4 of its 64 bytes are missing" in result.stderr
    assert "cut short" not in result.stdout
    assert [found["kind"] for found in as_json(tiny)["damage"]] == ["window_cut", "record_cut"]


def test_many_kinds_of_damage_at_once_fit_the_schema(tmp_path):
    path = tmp_path / "tiny.bin"
    odd = encode(0x123, [], 5)
    first = window(0, odd, lost(1, 0, 0, 9, 6), hypercall(1, 4), hypercall(1, 5))
    path.write_bytes(tiny_trace(b"junk", first)[:-2])
    assert [(found["kind"], found["offset"]) for found in as_json(path)["damage"]] == [
        ("garbage", 0),
        ("window_cut", 4),
        ("unknown_class", 16),
        ("lost_records", 28),
        ("tsc_backwards", 56),
        ("record_cut", 72),
    ]


def test_the_schema_names_every_kind_of_damage():
    kinds = json.loads(SCHEMA.read_text())["properties"]["damage"]["items"]["properties"]["kind"]
    assert kinds["enum"] == [kind.value for kind in DamageKind]


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b"", 65, "an empty file"),
        (b"GIF89a not a trace", 65, "expected a xentrace window"),
        (b"\x20\x01\xf0\x03" + bytes(12), 65, "big-endian"),
    ],
)
def test_what_is_no_trace_ends_with_65(tmp_path, content, code, says):
    path = tmp_path / "none.bin"
    path.write_bytes(content)
    result = run(path)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr
    assert "byte 0" in result.stderr


def test_a_file_that_is_not_there_ends_with_66(tmp_path):
    result = run(tmp_path / "none.bin")
    assert result.exit_code == 66
    assert "none.bin: No such file" in result.stderr
