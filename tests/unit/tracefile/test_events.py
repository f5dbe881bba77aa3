"""Names and fields of records, and the layouts behind them."""

import pytest

from evtrace.timeline import Kind
from evtrace.tracefile.events import FAMILY, describe, event_name
from evtrace.tracefile.family import KIND_WORDS, MAX_WORDS, FactKey, TextPurpose, family_event
from evtrace.tracefile.layouts import RECORD
from evtrace.tracefile.lines import described
from evtrace.tracefile.records import encode, encode_family, encode_text
from evtrace.tracefile.rows import annotated
from evtrace.tracefile.stock import STOCK
from tests.tinytrace import opened, window


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (0x20100D, "PV_HYPERCALL_V2"),
        (0x20200E, "PV_HYPERCALL_SUBCALL"),
        (0x21211, "RUNSTATE_CHANGE blocked->runnable"),
        (0x28004, "SCHED_WAKE"),
        (0x2220C, "CSCHED2_UPDATE_RUNQ_LOAD"),
        (0x22001, "CSCHED_SCHED_TASKLET"),
        (0x22801, "RTDS_TICKLE"),
        (0x22A06, "SNULL_TASKLET"),
        (0x41001, "DOM0_DOM_ADD"),
        (0x81502, "HVM_NESTED_VMEXIT64"),
        (0x802008, "HW_IRQ_HANDLED"),
        (0x0800FE10, "EVTRACE_CALL_ENTER"),
        (0x0800FE77, "EVTRACE_UNKNOWN_KIND_0x77"),
        (0x2FABC, "SCHED_UNKNOWN_0x0002fabc"),
        (0x123, "NO_CLASS_UNKNOWN_0x00000123"),
    ],
)
def test_every_event_has_a_name(event, name):
    assert event_name(event) == name


@pytest.mark.parametrize(
    ("event", "words", "text"),
    [
        (0x20100D, [0x20], "op=event_channel_op"),
        (0x20100D, [1 << 20 | 29, 3], "op=sched_op cmd=3"),
        (0x20100D, [5 << 20 | 24, 8, 1], "op=vcpu_op cmd=8 vcpuid=1"),
        (0x20200E, [2 << 20 | 35, 0xDEAD, 0xBEEF], "op=sysctl a0=0xbeef0000dead"),
        (0x20100D, [999], "op=999"),
        (0x20100D, [1 << 20 | 29], "op=sched_op"),
        (0x20100D, [], ""),
        (0x82012, [32], "op=event_channel_op"),
        (0x201101, [0x1000, 0xFFFF, 32], "rip=0xffff00001000 eax=32"),
        (0x21211, [1 << 16 | 2], "vcpu=2 dom=1"),
        (0x28004, [1, 2], "dom=1 vcpu=2"),
        (0x28004, [1], "dom=1"),
        (0x28004, [1, 2, 3], "dom=1 vcpu=2 w2=0x3"),
        (0x2800E, [0, 1, 1005], "dom=0 unit=1 ran_ns=1005"),
        (0x22203, [0x10000, 5, -1 & 0xFFFFFFFF, 7], "unit=0 dom=1 credit=5 budget=-1 delta=7"),
        (0x1F001, [9, 1 << 16, 5, 1], "count=9 did=0 vid=1 first_tsc=4294967301"),
        (0x81102, [0x81, 0x10, 0xF], "reason=0x81 rip=0xf00000010"),
        (0x123, [7], "w0=0x7"),
        (0x0800FE10, [0x10002, 4 | 7 << 8, 33], "vcpu=2 dom=1 op=send call=7 port=33"),
        (0x0800FE11, [0x10002, 4, -22 & 0xFFFFFFFF], "vcpu=2 dom=1 op=send call=0 rc=-22"),
        (0x0800FE11, [2, 6, 0, 9], "vcpu=2 dom=0 op=alloc_unbound call=0 rc=0 port=9"),
        (0x0800FE10, [2, 99, 5], "vcpu=2 dom=0 op_call=99 arg0=5"),
        (
            0x0800FE31,
            [2, FactKey.TSC_HZ, 5, 1, 2, 0],
            "vcpu=2 dom=0 key=tsc_hz value=4294967301 value2=2",
        ),
        (0x0800FE32, [2, 16, 1, 0, 2, 0], "vcpu=2 dom=0 classes=0x10 from=1 to=2"),
    ],
)
def test_words_are_described(event, words, text):
    assert describe(event, words) == text


def test_xenalyze_s_mistake_with_bound_vectors_is_not_ours():
    words = [0x51 << 16 | 40, 0xF, 0, 0, 0, 0, 0]
    assert describe(0x802006, words).startswith("irq=40 vector=0x51 mask0=0xf mask1=0x0")


def test_the_hypercalls_that_xenalyze_has_no_name_for():
    assert [describe(0x20100D, [op]) for op in (38, 39, 40, 41)] == [
        "op=tmem_op",
        "op=argo_op",
        "op=xenpmu_op",
        "op=dm_op",
    ]


def test_a_text_is_readable():
    text = encode_text(TextPurpose.SOURCE, "a 'b'", dom=1, tsc=1)
    words = RECORD.parse(text).words
    assert describe(family_event(Kind.TEXT), words).endswith(
        "purpose=3 fragment=0 length=5 text=\"a 'b'\""
    )


# --- layouts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [*STOCK.values(), *FAMILY.values()], ids=lambda made: made.name)
def test_a_payload_is_whole_words_that_fit_a_record(layout):
    size = layout.payload.sizeof()
    assert size % 4 == 0
    assert size <= 4 * MAX_WORDS
    assert size == sum(field.size for field in layout.fields)


@pytest.mark.parametrize("layout", STOCK.values(), ids=lambda made: made.name)
def test_what_construct_builds_is_described_field_by_field(layout):
    values = {field.name: 3 + number for number, field in enumerate(layout.fields)}
    payload = layout.payload.build(values)
    assert {f.name: f.value(payload) for f in layout.fields} == values
    assert dict(layout.payload.parse(payload)) | {"_io": None} == values | {"_io": None}


def test_the_family_s_layouts_have_the_words_of_their_kinds():
    assert set(FAMILY) == {family_event(kind) for kind in KIND_WORDS}
    for kind, words in KIND_WORDS.items():
        assert FAMILY[family_event(kind)].payload.sizeof() == 4 * (1 + len(words))


def test_construct_reads_what_the_encoder_writes():
    parsed = RECORD.parse(encode(0x2220C, [1, 2], 1 << 40))
    assert (parsed.header.event, parsed.tsc, list(parsed.words)) == (0x2220C, 1 << 40, [1, 2])
    bare = RECORD.parse(encode(0x82012, [32]))
    assert (bare.header.cycles, bare.header.n_extra, bare.tsc) == (False, 1, None)


@pytest.mark.parametrize("kind", KIND_WORDS)
def test_no_record_holds_more_than_seven_words(kind):
    words = list(range(len(KIND_WORDS[kind])))
    assert RECORD.parse(encode_family(kind, 1, 2, words, 5)).header.n_extra == 1 + len(words)
    with pytest.raises(ValueError, match="8 words"):
        encode_family(kind, 1, 2, list(range(7)), 5)


def test_a_batch_is_described_as_its_records_are(tmp_path):
    records = [
        encode(event, [7 * k + 3 for k in range(n)], 10 + n)
        for event in [*STOCK, *FAMILY, 0x123, 0x2FABC]
        for n in (0, 1, len(STOCK[event].fields) if event in STOCK else 2, 7)
        if n <= MAX_WORDS and event != 0x1F003
    ]
    with opened(tmp_path / "tiny.bin", window(0, *records)) as reader:
        shown = [
            row for batch in annotated(reader) for row in described(batch).iter_rows(named=True)
        ]
    assert len(shown) == len(records)
    for row in shown:
        words = [row[f"w{k}"] for k in range(row["n_words"])]
        assert row["name"] == event_name(row["event"])
        assert row["text"] == describe(row["event"], words)
