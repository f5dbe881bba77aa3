"""`evtrace convert` for Perfetto: read back with the perfetto package's own messages."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace as PerfettoTrace
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TrackEvent
from typer.testing import CliRunner

from evtrace.api import Trace
from evtrace.cli import app
from evtrace.errors import ExitCode
from evtrace.printable import printable
from evtrace.timeline import Kind
from evtrace.tracefile.family import FACTS_STREAM, TextPurpose
from evtrace.tracefile.records import encode_family, encode_text
from evtrace.verdicts import Fate
from tests.conftest import FTRACE_CAPTURES
from tests.tinytrace import window

BEGIN, END, INSTANT = (
    TrackEvent.TYPE_SLICE_BEGIN,
    TrackEvent.TYPE_SLICE_END,
    TrackEvent.TYPE_INSTANT,
)


@dataclass
class Drawn:
    """A file as Perfetto's messages tell it."""

    names: dict[int, str] = field(default_factory=dict)
    events: dict[int, list[tuple[int, TrackEvent]]] = field(default_factory=dict)

    def slices(self, category):
        """Give the beginnings of a category, each as its name and its arguments."""
        return [
            (event.name, arguments(event))
            for track in self.events.values()
            for _, event in track
            if event.type == BEGIN and category in event.categories
        ]


def arguments(event):
    return {note.name: getattr(note, note.WhichOneof("value")) for note in event.debug_annotations}


def convert(trace, output, *options):
    return CliRunner().invoke(app, ["convert", str(trace), "-o", str(output), *options])


def drawn(trace, tmp_path, *options):
    done = convert(trace, tmp_path / "t.pftrace", *options)
    assert done.exit_code == 0, done.stderr
    read = PerfettoTrace()
    read.ParseFromString((tmp_path / "t.pftrace").read_bytes())
    found = Drawn()
    for packet in read.packet:
        if packet.HasField("track_descriptor"):
            track = packet.track_descriptor
            name = track.process.process_name or track.thread.thread_name or track.name
            assert track.uuid not in found.names
            found.names[track.uuid] = name
        else:
            event = packet.track_event
            found.events.setdefault(event.track_uuid, []).append((packet.timestamp, event))
    return found


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Give what the emulator records of a scenario."""
    folder = tmp_path_factory.mktemp("recorded")

    def make(scenario):
        path = folder / f"{scenario}.bin"
        if not path.exists():
            options = ["--scenario", scenario, "-o", str(path)]
            assert CliRunner().invoke(app, ["record", *options]).exit_code == 0
        return path

    return make


@pytest.fixture(params=["demo", "netfront", "poll", *FTRACE_CAPTURES])
def trace(request, recorded, imported):
    """Give the demonstration, a trace with coalesced sends, and the real captures."""
    return (imported if request.param in FTRACE_CAPTURES else recorded)(request.param)


def delivered(trace):
    with Trace(trace) as opened:
        results = opened.replay()
    sends = [send for send in results.sends if send.fate is Fate.DELIVERED]
    return results, sends


def test_it_holds_one_flow_per_delivered_send(trace, tmp_path):
    results, sends = delivered(trace)
    starts, ends = Counter[int](), Counter[int]()
    found = drawn(trace, tmp_path)
    pairs = defaultdict[int, list[int]](list)
    for track in found.events.values():
        for _, event in track:
            starts.update(event.flow_ids)
            ends.update(event.terminating_flow_ids)
            for flow in (*event.flow_ids, *event.terminating_flow_ids):
                pairs[flow].append(arguments(event)["seq"])

    assert len(sends) >= 2
    assert {tuple(sorted(pair)) for pair in pairs.values()} == {
        tuple(sorted((send.seq, send.run_seq or send.polled_seq))) for send in sends
    }
    assert starts == ends
    assert set(starts.values()) == {1}
    assert len(results.runs) == len(found.slices("handler"))


def test_a_poller_takes_an_event_where_it_clears_the_bit(recorded, tmp_path):
    found = drawn(recorded("poll"), tmp_path)
    with Trace(recorded("poll")) as trace:
        clears = {row.seq: row for row in trace.rows() if row.kind == Kind.CLEAR}

    taken = [
        (found.names[track], at, arguments(event))
        for track, events in found.events.items()
        for at, event in events
        if event.name == "polled"
    ]
    assert len(taken) > 50
    for vcpu, _, notes in taken:
        row = clears[notes["seq"]]
        assert (vcpu, notes["port"]) == (f"d{row.dom}v{row.vcpu}", row.port)


def test_coalesced_sends_have_a_fate_and_no_flow(recorded, tmp_path):
    found = drawn(recorded("netfront"), tmp_path)

    fates = Counter(notes["fate"] for _, notes in found.slices("call") if "fate" in notes)
    flows = sum(len(event.flow_ids) for track in found.events.values() for _, event in track)
    assert fates["COALESCED"] > 50
    assert fates["DELIVERED"] == flows


def test_slices_are_balanced_and_times_rise_on_every_track(trace, tmp_path):
    found = drawn(trace, tmp_path)

    for track, events in found.events.items():
        depth, last = 0, 0
        for at, event in events:
            assert at >= last
            last, depth = at, depth + {BEGIN: 1, END: -1, INSTANT: 0}[event.type]
            assert depth >= 0
        assert depth == 0
        assert track in found.names


def test_tracks_are_domains_vcpus_and_pcpus(recorded, tmp_path):
    found = drawn(recorded("demo"), tmp_path)

    assert {"dom0 (d0)", "domU (d6)", "d0v0", "d6v0", "pCPUs", "p0"} <= set(found.names.values())


def test_handlers_say_why_they_ran(recorded, tmp_path):
    results, _ = delivered(recorded("demo"))
    found = drawn(recorded("demo"), tmp_path)

    handlers = {notes["seq"]: notes for _, notes in found.slices("handler")}
    for run in results.runs:
        notes = handlers[run.seq]
        assert (notes["cause"], notes["evidence"], notes["port"]) == (
            run.cause.value,
            run.evidence,
            run.port,
        )
    assert "BIND_CONSERVATIVE" in {notes["cause"] for notes in handlers.values()}


def test_calls_have_their_arguments_and_answers(recorded, tmp_path):
    found = drawn(recorded("demo"), tmp_path)

    name, notes = next(call for call in found.slices("call") if call[0] == "bind_interdomain")
    assert name == "bind_interdomain"
    assert (notes["remote_dom"], notes["rc"]) == (6, 0)
    assert notes["local_port"] > 0


def test_times_are_nanoseconds_of_the_tsc(recorded, tmp_path):
    found = drawn(recorded("demo"), tmp_path)

    with Trace(recorded("demo")) as trace:
        rows = {row.seq: row for row in trace.rows()}
        hz = trace.facts.tsc_hz or 0
    for track in found.events.values():
        for at, event in track:
            if event.type == BEGIN and "handler" in event.categories:
                assert rows[arguments(event)["seq"]].tsc_lo * 1_000_000_000 // hz == at


def test_a_selection_narrows_tracks_and_flows(recorded, tmp_path):
    found = drawn(recorded("netfront"), tmp_path, "--dom", "0")

    assert "d0v0" in found.names.values()
    assert not [name for name in found.names.values() if name.startswith("d1")]
    assert found.slices("handler")
    assert not any(event.flow_ids for track in found.events.values() for _, event in track)
    assert not any(
        event.terminating_flow_ids for track in found.events.values() for _, event in track
    )


# --- single rows ---------------------------------------------------------------------------------


SEND = 4


def enter(tsc, vcpu=0, call=0):
    return encode_family(Kind.CALL_ENTER, 1, vcpu, [SEND | call << 8, 7], tsc)


def leave(tsc, vcpu=0, call=0):
    return encode_family(Kind.CALL_EXIT, 1, vcpu, [SEND | call << 8, 0], tsc)


def upcall(tsc, kind=Kind.UPCALL_ENTER):
    return encode_family(kind, 1, 0, [], tsc)


def handler(kind, tsc, port=3):
    return encode_family(kind, 1, 0, [16, port], tsc)


def spans(tmp_path, *records):
    """Give (track, name, begin, end, arguments) of what some records of d1 become at 1 GHz."""
    path = tmp_path / "tiny.bin"
    path.write_bytes(window(0, *records))
    found, done = drawn(path, tmp_path, "--hz", "1000000000", "--force"), []
    for track, events in found.events.items():
        held = []
        for at, event in events:
            if event.type == BEGIN:
                held.append((found.names[track], event.name, at, arguments(event)))
            elif event.type == END:
                where, name, began, notes = held.pop()
                done.append((where, name, began, at, "unfinished" in notes))
    return sorted(done)


def test_what_never_returned_ends_with_the_trace_and_says_so(tmp_path):
    assert spans(tmp_path, enter(5), upcall(9), upcall(12, Kind.UPCALL_EXIT)) == [
        ("d1v0", "send", 5, 12, True),
        ("d1v0", "upcall", 9, 12, False),
    ]


def test_an_upcall_whose_end_left_no_record_lasts_as_long_as_its_handlers(tmp_path):
    enters, exits = Kind.HANDLER_ENTER, Kind.HANDLER_EXIT
    records = (upcall(5), handler(enters, 6), handler(exits, 8), enter(20), leave(30), upcall(40))

    assert spans(tmp_path, *records) == [
        ("d1v0", "port 3", 6, 8, False),
        ("d1v0", "send", 20, 30, False),
        ("d1v0", "upcall", 5, 8, True),
        ("d1v0", "upcall", 40, 40, True),
    ]


def test_what_overlaps_without_nesting_has_a_lane_of_its_own(tmp_path):
    records = (enter(5, call=1), enter(6, call=2), leave(8, call=1), leave(9, call=2))

    assert spans(tmp_path, *records) == [
        ("d1v0", "send", 5, 8, False),
        ("d1v0, overlapping", "send", 6, 9, False),
    ]


def test_a_call_that_returns_on_another_vcpu_stays_where_it_began(tmp_path):
    assert spans(tmp_path, enter(5, call=1), leave(9, vcpu=1, call=1)) == [
        ("d1v0", "send", 5, 9, False)
    ]


def test_an_end_without_a_beginning_draws_nothing(tmp_path):
    assert spans(tmp_path, leave(5), handler(Kind.HANDLER_EXIT, 6), enter(7), leave(8)) == [
        ("d1v0", "send", 7, 8, False)
    ]


def test_a_send_that_no_run_answered_is_a_point_named_by_its_fate(tmp_path):
    (tmp_path / "tiny.bin").write_bytes(window(0, enter(5), leave(8)))
    found = drawn(tmp_path / "tiny.bin", tmp_path, "--hz", "1000000000")

    (events,) = found.events.values()
    points = [(at, event.name) for at, event in events if event.type == INSTANT]
    assert points == [(5, "UNKNOWN")]


@pytest.mark.parametrize(
    "name", ["\x1b[31mred\nd0v0", "nul\0", "\u202egnirts", "\ufffd", "x" * 5_000, "</script>", ""]
)
def test_names_that_a_hostile_guest_chose_are_inert_text(tmp_path, name):
    texts = encode_text(TextPurpose.DOMAIN_NAME, name, dom=1, tsc=1)
    texts += encode_text(TextPurpose.IRQ_NAME, f"16 {name}", dom=1, tsc=1)
    run = (handler(Kind.HANDLER_ENTER, 6), handler(Kind.HANDLER_EXIT, 8))
    (tmp_path / "tiny.bin").write_bytes(window(FACTS_STREAM, texts) + window(0, *run))

    found = drawn(tmp_path / "tiny.bin", tmp_path, "--hz", "1000000000")

    shown = printable(name)
    assert {f"{shown} (d1)" if name else "d1", "d1v0"} == set(found.names.values())
    assert [shown or "port 3"] == [called for called, _ in found.slices("handler")]


# --- refusals ------------------------------------------------------------------------------------


def test_a_trace_without_a_frequency_needs_one(tmp_path):
    (tmp_path / "tiny.bin").write_bytes(window(0, enter(5)))

    done = convert(tmp_path / "tiny.bin", tmp_path / "t.pftrace")

    assert done.exit_code == ExitCode.USAGE
    assert "give --hz" in done.stderr
    assert not (tmp_path / "t.pftrace.partial").exists()


def test_a_missing_package_is_told_with_what_to_install(tmp_path, monkeypatch, recorded):
    monkeypatch.setattr("evtrace.analysis.perfetto.file.find_spec", lambda _: None)

    done = convert(recorded("demo"), tmp_path / "t.pftrace")

    assert done.exit_code == ExitCode.USAGE
    assert "pip install 'evtrace[perfetto]'" in done.stderr
    assert not list(tmp_path.iterdir())
