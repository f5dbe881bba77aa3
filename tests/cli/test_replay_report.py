"""`evtrace replay` and `evtrace report`: text, JSON by its schema, selections, exit codes."""

import json
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from evtrace.analysis.report import Report
from evtrace.api import Trace
from evtrace.cli import app
from tests.conftest import FTRACE_CAPTURES, SOURCES

SCHEMAS = Path(__file__).parents[2] / "evtrace" / "schemas"
STOCK = SOURCES / "pv_fifo_blog_stock" / "xentrace.bin.zst"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def as_json(command, *arguments):
    found = json.loads(run(command, *arguments, "--format", "json").output)
    schema = json.loads((SCHEMAS / f"{command}.schema.json").read_text())
    jsonschema.validate(found, schema, jsonschema.Draft202012Validator)
    return found


def report_of(trace: Trace) -> Report:
    return trace.report()


@pytest.mark.parametrize("name", FTRACE_CAPTURES)
@pytest.mark.parametrize("command", ["replay", "report"])
def test_json_follows_its_schema(command, name, imported):
    found = as_json(command, imported(name))

    assert found["divergences"] == []


@pytest.mark.parametrize("command", ["replay", "report"])
def test_findings_have_code_name_and_severity(command, tmp_path):
    trace = tmp_path / "t.bin"
    run("record", "--scenario", "pingpong", "--fault", "lost-send", "-o", trace)

    (found,) = as_json(command, trace)["findings"]
    expected = {"severity": "error", "code": "EVT202", "name": "LOST_SEND", "blame": "hypervisor"}

    assert expected == {key: found[key] for key in expected}
    assert "error EVT202 LOST_SEND, by the hypervisor" in run(command, trace).output


def test_the_report_of_the_demonstration(imported):
    output = run("report", imported("pv_fifo_blog"), "--port", "d0:33").output

    assert output.startswith(
        "2 runs of d0:33; 1 was provoked by nobody: Xen's conservative event at bind.",
    )
    assert "279750097572 d0:33 v0  BIND_CONSERVATIVE via UNMASK_RESEND" in output
    assert "d1:8→d0:33  send→handler" in output
    assert max(map(len, output.splitlines())) <= 100


def test_what_cannot_be_observed_is_null(imported):
    report = as_json("report", imported("pv_fifo_blog"))
    stock = as_json("report", STOCK)

    assert report["spurious"] == {"L1": 0, "L2": 1, "L3": None}
    assert stock["spurious"] == {"L1": None, "L2": None, "L3": None}
    assert ("C4", "C1") == (report["level"], stock["level"])


def test_latencies_are_differences_of_the_probes_tscs(imported):
    report = as_json("report", imported("pv_fifo_blog"), "--port", "d0:33")
    hz = report["tsc_hz"]
    by_stage = {(e["channel"], e["stage"]): e for e in report["latencies"]}
    called, recorded, upcall, handler = 282131794901, 282131954995, 282132692789, 282132835851
    stages = {
        "send→pending": (called, recorded),
        "pending→upcall": (recorded, upcall),
        "upcall→handler": (upcall, handler),
        "send→handler": (called, handler),
    }

    for stage, (start, end) in stages.items():
        found = by_stage["d1:8→d0:33", stage]
        assert round((end - start) * 1e9 / hz) == found["max_ns"]
        assert end == found["max_at_tsc"]
        assert found["uncertainty_ns"] == 0


def test_across_two_clocks_a_latency_is_an_interval(imported):
    report = as_json("report", imported("pvh_blog"), "--port", "d0:33", "--port", "d1:7")
    by_stage = {(e["channel"], e["stage"]): e["uncertainty_ns"] for e in report["latencies"]}
    half_width_ns = round((140929111066 - 140928944930) / 2 * 1e9 / report["tsc_hz"])

    assert by_stage["d0:33→d1:7", "send→handler"] == half_width_ns
    assert by_stage["d0:33→d1:7", "upcall→handler"] == 0
    assert by_stage["bind→d0:33", "bind→run"] == 0


def test_a_selection_of_times_and_domains(imported):
    trace = imported("pv_fifo_blog")
    late = as_json("report", trace, "--from", "282000000000", "--dom", "1")

    assert {1} == {run["dom"] for run in late["runs"]}
    assert min(run["tsc"] for run in late["runs"]) >= 282000000000


def test_a_divergence_is_shown_and_ends_with_1(imported):
    found = run("replay", imported("pv_fifo_blog"), "--xen", "qemu")

    assert found.exit_code == 1
    assert "expected d0:33 not pending" in found.output


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("replay", "nowhere.bin"), 66, "nowhere.bin"),
        (("report", SOURCES / "pv_fifo_blog" / "before.lsevtchn.txt"), 65, "byte 0: expected"),
        (("report", STOCK, "--port", "d0"), 2, "d0"),
        (("replay", STOCK, "--xen", "5"), 2, "HEAD"),
        (("report", STOCK, "--format", "xml"), 2, "json"),
        (("report", STOCK, "--table", "chanels"), 2, "the nearest is channels"),
    ],
)
def test_errors_say_what_is_wrong_and_end_with_their_code(arguments, code, says):
    found = run(*arguments)

    assert code == found.exit_code
    assert says in found.output
    assert "Traceback" not in found.output


def test_every_table_of_the_text_is_in_the_json(imported):
    trace = imported("pv_fifo_evpp5")
    report = as_json("report", trace)
    with Trace(trace) as opened:
        titles = {table.name: table.title for table in report_of(opened).tables}
    text = run("report", trace).output

    assert titles.keys() <= report.keys()
    assert {"channels", "latencies", "ports", "held", "rates", "placement"} <= {
        name for name, title in titles.items() if f"\n{title}:\n" in text
    }


@pytest.mark.parametrize("form", ["text", "markdown", "json", "csv"])
def test_a_table_asked_for_by_name_comes_alone_and_whole(form, imported):
    arguments = ("report", imported("pv_fifo_evpp5"), "--table", "runs", "--format", form)
    output = run(*arguments).output

    assert 1757 <= output.count("VIRQ") + output.count("IPI") + output.count("SEND")
    assert "d0:33→" not in output


def test_channels_can_be_summed_up_by_device(imported):
    rows = as_json("report", imported("pv_fifo_blog"), "--group-by", "device")["channels"]
    found = {row["device"]: row for row in rows}

    assert (1, 2, 1) == tuple(
        found["d0 alice_dev"][name] for name in ("sends", "runs", "unprovoked")
    )


def test_around_a_record_only_what_happened_there_is_reported(imported):
    seq = next(r for r in as_json("report", imported("pv_fifo_blog"))["runs"] if r["port"] == 33)
    found = as_json("report", imported("pv_fifo_blog"), "--around", f"{seq['seq']}:20")

    assert seq["seq"] in {row["seq"] for row in found["runs"]}
    assert all(abs(row["seq"] - seq["seq"]) <= 20 for row in found["runs"] + found["sends"])
