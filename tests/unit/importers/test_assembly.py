"""Assembly: what an imported trace states of itself, read back from the file."""

import pytest

from evtrace.errors import UsageError
from evtrace.timeline import Kind, RecordClass
from evtrace.tracefile.facts import Coverage, Stream
from evtrace.tracefile.family import FIRST_GUEST_STREAM, GuestType, HzSource, Timing
from evtrace.tracefile.reader import open_trace
from evtrace.tracer.importers.assembly import Sources, assemble
from evtrace.tracer.importers.ftrace import parse_ftrace
from evtrace.tracer.importers.guest import read_guest
from evtrace.tracer.importers.snapshots import Snapshot, parse_debug_keys, parse_lsevtchn
from tests.tinytrace import RUNNABLE, RUNNING, hypercall, rows, runstate, tiny_trace, window

DUMP = """\
(XEN) Event channel information for domain 1:
(XEN)        1 [1/0/  22  ]: s=3 n=1 x=0 d=0 p=28
(XEN)        2 [0/1/  -   ]: s=5 n=0 x=0 v=0
(XEN) dom1(hvm): mode=2,ofs=0xc2dd1f16c,khz=2300000,inc=1
""".splitlines()


def text(*events, cpu=0):
    return [f"  bash-7 [{cpu:03}] d.h1. {tsc}: {event}\n" for tsc, event in events]


def guest(lines):
    return read_guest(parse_ftrace("t", lines), {})


RUN = (
    (100, "xen_evtchn_do_upcall <-xen_pv_evtchn_do_upcall"),
    (110, "handle_irq_for_port: (f) port=7"),
    (120, "evtchn_fifo_clear_pending <-handle_edge_irq"),
    (130, "irq_handler_entry: irq=30 name=my device"),
    (140, "irq_handler_exit: irq=30 ret=handled"),
)


@pytest.fixture
def assembled(tmp_path):
    def make(sources):
        output = tmp_path / "trace.bin"
        assemble(sources, output, force=True)
        return open_trace(output)

    return make


def test_facts_of_the_trace_and_of_its_domains(assembled):
    sources = Sources(
        guests={0: guest([*text(*RUN), "rubbish\n", *text((150, "x: a=1"))])},
        snapshots={"before": parse_debug_keys(DUMP)},
        names=["debug-keys e.txt@before", "ftrace 0=a name that is longer than one record.txt"],
        timing=Timing.EMULATED_CPU,
        xen_version=(4, 17),
    )

    facts = assembled(sources).facts

    assert (2_300_000_000, HzSource.SNAPSHOT) == (facts.tsc_hz, facts.tsc_hz_source)
    assert ((4, 17), Timing.EMULATED_CPU) == (facts.xen_version, facts.timing)
    assert sources.names == facts.sources
    assert {0: 1, 1: 2} == facts.vcpus
    assert {0: 1, 1: 1} == facts.forms
    assert {0: GuestType.PV, 1: GuestType.HVM} == facts.guest_types
    assert {(0, 30): "my device"} == facts.irq_names
    assert {0: (1, 7)} == facts.unparsed
    assert ["line 6: rubbish"] == facts.unparsed_lines
    assert {FIRST_GUEST_STREAM: Stream(0, None)} == facts.streams


def test_a_text_covers_its_whole_time(assembled):
    classes = RecordClass.UPCALL | RecordClass.HANDLER | RecordClass.MEMORY

    facts = assembled(Sources(guests={3: guest(text(*RUN, (900, "x: a=1")))})).facts

    assert [Coverage(3, None, classes, 100, 900)] == facts.coverage


def test_a_ring_that_was_overwritten_begins_later_on_each_cpu(assembled):
    lines = [
        "# entries-in-buffer/entries-written: 5/9   #P:2\n",
        *text(*RUN),
        *text((300, "x: a=1"), cpu=1),
        *text((400, "x: a=1")),
    ]

    spans = assembled(Sources(guests={0: guest(lines)})).facts.coverage

    assert [(0, 100, 400), (1, 300, 400)] == [(c.vcpu, c.tsc_lo, c.tsc_hi) for c in spans]


def test_lost_events_are_a_gap_of_their_cpu(assembled):
    lines = [
        *text(*RUN),
        *text((200, "x: a=1"), cpu=1),
        "CPU:0 [LOST 4 EVENTS]\n",
        *text((300, "x: a=1"), cpu=1),
        *text((400, "x: a=1"), (500, "x: a=1")),
    ]

    spans = assembled(Sources(guests={0: guest(lines)})).facts.coverage

    found = [(c.vcpu, c.tsc_lo, c.tsc_hi) for c in spans]
    assert [(0, 100, 140), (0, 400, 500), (1, 100, 500)] == found


def test_snapshots_stand_before_after_and_in_between(assembled, tmp_path):
    snapshots: dict[str | int, Snapshot] = {
        "after": parse_lsevtchn(["# lsevtchn 1", "   9: VCPU 0: IPI"]),
        120: parse_lsevtchn(["# lsevtchn 1", "   5: VCPU 0: IPI"]),
        "before": parse_debug_keys(DUMP),
    }
    reader = assembled(Sources(guests={0: guest(text(*RUN))}, snapshots=snapshots))

    table = rows(tmp_path / "copy.bin", reader.bytes_between(0, reader.size_bytes))
    seen = table.filter(kind=int(Kind.CHANNEL)).select("tsc_lo", "port").rows()

    assert [(99, 1), (99, 2), (120, 5), (141, 9)] == seen
    kinds = table["kind"].to_list()
    assert kinds.index(Kind.CHANNEL) < kinds.index(Kind.UPCALL_ENTER)
    assert kinds[-1] == Kind.CHANNEL


def test_events_go_where_their_vcpu_ran_or_into_a_stream_of_their_own(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(
        tiny_trace(
            window(
                3,
                hypercall(1, 90),
                runstate(32767, 3, RUNNING, RUNNABLE, 95),
                runstate(0, 0, RUNNABLE, RUNNING, 95),
                hypercall(1, 125),
                runstate(0, 0, RUNNING, RUNNABLE, 170),
                runstate(32767, 3, RUNNABLE, RUNNING, 170),
            ),
        ),
    )
    late = ((210, "xen_evtchn_do_upcall <-xen_pv"), (220, "handle_irq_for_port: (f) port=7"))
    sources = Sources(xentrace=path, guests={0: guest(text(*RUN, *late))})

    outcome = assemble(sources, tmp_path / "t.bin", force=False)

    with open_trace(tmp_path / "t.bin") as reader:
        table = rows(tmp_path / "copy.bin", reader.bytes_between(0, reader.size_bytes))
    family = table.filter(table["kind"].is_between(Kind.UPCALL_ENTER, Kind.CLEAR))
    assert [(100, 3), (120, 3), (130, 3), (140, 3), (210, None)] == family.select(
        "tsc_lo", "pcpu"
    ).rows()
    assert {0: 1} == outcome.unplaced


def test_a_trace_of_evtrace_is_not_imported_again(assembled, tmp_path):
    reader = assembled(Sources(guests={0: guest(text(*RUN))}))

    with pytest.raises(UsageError, match="is a trace of evtrace already"):
        assemble(Sources(xentrace=reader.path), tmp_path / "again.bin", force=False)


def test_an_unclosed_call_is_an_entry_and_an_unopened_one_a_return(assembled, tmp_path):
    lines = text(
        (100, "a_post: (f) cmd=6 rc=-22 w0=0x10000 w1=0x9"),
        (110, "b_pre: (f) cmd=4 w0=0x5"),
        (120, "c_pre: (f) cmd=11 w0=0x1234 w1=0x1 w2=0x40"),
        (130, "c_post: (f) cmd=11 rc=0 w0=0x1234 w1=0x1 w2=0x40"),
    )
    reader = assembled(Sources(guests={0: guest(lines)}))

    table = rows(tmp_path / "copy.bin", reader.bytes_between(0, reader.size_bytes))
    calls = table.filter(table["kind"].is_in([Kind.CALL_ENTER, Kind.CALL_EXIT]))

    assert [
        (Kind.CALL_EXIT, 6, 1, -22, 9, None),
        (Kind.CALL_ENTER, 4, 2, None, 5, None),
        (Kind.CALL_ENTER, 11, 3, None, 0x1234, 0x1),
        (Kind.CALL_EXIT, 11, 3, 0, None, None),
    ] == calls.select("kind", "op", "call_id", "rc", "a0", "a1").rows()
