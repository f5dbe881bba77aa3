"""The stored captures of a real Xen, against what was counted of them by other means."""

import json
from pathlib import Path

import polars as pl
import pytest

from evtrace.timeline import Kind
from evtrace.tracefile.reader import open_trace
from evtrace.tracefile.rows import timeline

SOURCES = Path(__file__).parents[3] / "traces" / "sources"
COUNTED = json.loads((Path(__file__).parent / "captures.json").read_text())
OTHERS = Path(__file__).parents[4] / "shared" / "traces"
WINDOW_HEADER = "0001f003"


@pytest.fixture(params=sorted(COUNTED))
def capture(request):
    with open_trace(SOURCES / request.param / "xentrace.bin.zst") as reader:
        yield reader, COUNTED[request.param]


def agrees(reader, counted):
    survey = reader.survey
    found = {f"{event:08x}": count for event, count in survey.records_by_event.items()}
    headers = {WINDOW_HEADER: len(reader.windows)}
    assert found | headers == counted["events"]
    assert {str(pcpu): survey.records_by_stream[pcpu] for pcpu in survey.pcpus} == counted["cpus"]
    assert survey.extent == (counted["tsc_first"], counted["tsc_last"])
    assert reader.damage == []


def test_counts_agree_event_by_event(capture):
    reader, counted = capture
    agrees(reader, counted)


def test_batches_hold_every_record_in_order(capture):
    reader, _ = capture
    frame = pl.concat(reader.batches(10_000))
    assert frame.height == reader.survey.records > 10_000
    assert frame["file_offset"].n_unique() == frame.height
    assert frame.filter("has_tsc")["tsc_hi"].is_sorted()
    assert frame["seq"].to_list() == list(range(frame.height))
    assert reader.damage == []


def test_gaps_are_those_of_the_capture(capture):
    reader, counted = capture
    gaps = [
        {"offset": g.offset, "pcpu": g.pcpu, "tsc": g.tsc, "count": g.count} for g in reader.lost
    ]
    assert gaps == counted["lost"]


def test_event_channel_calls_are_those_of_their_vcpus(capture):
    reader, counted = capture
    calls = pl.concat(timeline(reader)).filter(kind=Kind.HYPERCALL, op=32)
    found = {
        "unknown" if dom is None else f"d{dom}v{vcpu}": count
        for dom, vcpu, count in calls.group_by("dom", "vcpu").len().iter_rows()
    }
    assert found == {who.split()[0]: n for who, n in counted["event_channel_ops"].items()}


def test_the_frequency_is_found_within_a_tenth_of_a_per_mille(capture):
    reader, counted = capture
    if "0002800e" in counted["events"]:
        assert reader.facts.tsc_hz == pytest.approx(counted["cpu_khz"] * 1000, rel=1e-4)
    else:
        assert reader.facts.tsc_hz is None


@pytest.mark.skipif(not OTHERS.is_dir(), reason="the other captures are not beside the checkout")
@pytest.mark.parametrize("folder", ["dom0", "pv_fifo", "pvh"])
def test_the_captures_that_are_not_stored_agree_too(folder):
    for name, counted in json.loads((OTHERS / folder / "facts.json").read_text()).items():
        with open_trace(OTHERS / folder / f"{name}.bin") as reader:
            agrees(reader, counted)
