"""The timeline: which record becomes which row, and whose it is."""

import pytest

from evtrace.timeline import Kind, Row, schema
from evtrace.tracefile.family import (
    ALL_DOMAINS,
    ALL_VCPUS,
    FACTS_STREAM,
    KIND_WORDS,
    TextPurpose,
    family_event,
)
from evtrace.tracefile.records import encode, encode_family, encode_text
from tests.tinytrace import (
    BLOCK,
    BLOCKED,
    CONTINUE,
    INJ_VIRQ,
    RUNNABLE,
    RUNNING,
    SUBCALL,
    VMENTRY,
    VMEXIT,
    VMMCALL,
    hypercall,
    lost,
    rows,
    runstate,
    tiny_trace,
    wake,
    window,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tiny.bin"


def listed(path, *records, stream=0):
    return [Row(*row) for row in rows(path, window(stream, *records)).iter_rows()]


def owners(path, *records):
    frame = rows(path, window(0, *records))
    return frame.filter(kind=Kind.HYPERCALL).select("dom", "vcpu").rows()


def test_rows_have_the_timeline_s_schema(path):
    assert rows(path, window(0, hypercall(32, 1))).schema == schema()
    assert rows(path, window(0, encode(0x22209, [], 1))).schema == schema()


def test_records_that_do_not_matter_are_no_rows_but_are_counted_in_seq(path):
    found = listed(path, encode(0x22209, [], 1), hypercall(32, 2), encode(0x22215, [0, 0], 3))
    assert [(row.seq, row.kind, row.op) for row in found] == [(1, Kind.HYPERCALL, 32)]


@pytest.mark.parametrize(
    ("record", "kind", "op", "words"),
    [
        (encode(0x20100D, [0x20], 1), Kind.HYPERCALL, 32, ()),
        (encode(0x20100D, [0x50001D, 3, 4], 1), Kind.HYPERCALL, 29, (3, 4)),
        (encode(SUBCALL, [0x100001, 9], 1), Kind.HYPERCALL, 1, (9,)),
        (encode(0x201001, [0xC0DE, 32], 1), Kind.HYPERCALL, 32, (32,)),
        (encode(0x201101, [0xC0DE, 0, 32], 1), Kind.HYPERCALL, 32, (0, 32)),
        (encode(VMMCALL, [32]), Kind.HYPERCALL, 32, ()),
        (encode(VMEXIT, [0x81, 5, 6], 1), Kind.VMEXIT, None, (0x81, 5, 6)),
        (encode(VMEXIT | 0x400, [0x81, 5, 6], 1), Kind.VMEXIT, None, (0x81, 5, 6)),
        (encode(0x81003, [0x81, 5], 1), Kind.VMEXIT, None, (0x81, 5)),
        (encode(VMENTRY, [], 1), Kind.VMENTRY, None, ()),
        (encode(VMENTRY | 0x400, [], 1), Kind.VMENTRY, None, ()),
        (encode(INJ_VIRQ, [0xF3, 0]), Kind.INJECT, None, (0xF3, 0)),
    ],
)
def test_stock_records_become_rows(path, record, kind, op, words):
    (row,) = listed(path, record)
    assert (row.kind, row.op, row.words) == (kind, op, words)


def test_an_interrupt_names_its_irq(path):
    (row,) = listed(path, encode(0x802008, [25, 100, 120], 1))
    assert (row.kind, row.irq, row.words) == (Kind.IRQ_HANDLED, 25, (100, 120))


def test_runstates_wakes_and_blocks_name_their_vcpu(path):
    found = listed(
        path,
        runstate(7, 3, RUNNING, BLOCKED, 1),
        wake(5, 2, 2),
        encode(BLOCK, [5, 2], 3),
    )
    assert [(row.kind, row.op, row.dom, row.vcpu) for row in found] == [
        (Kind.RUNSTATE, RUNNING << 4 | BLOCKED, 7, 3),
        (Kind.WAKE, None, 5, 2),
        (Kind.BLOCK, None, 5, 2),
    ]


# --- who runs ------------------------------------------------------------------------------------


def test_a_record_is_of_the_vcpu_that_runs_on_its_pcpu(path):
    assert owners(
        path,
        runstate(1, 0, RUNNABLE, RUNNING, 10),
        hypercall(32, 11),
        runstate(1, 0, RUNNING, BLOCKED, 12),
        runstate(2, 3, RUNNABLE, RUNNING, 13),
        runstate(1, 0, BLOCKED, RUNNABLE, 14),
        hypercall(32, 15),
    ) == [(1, 0), (2, 3)]


def test_between_two_vcpus_nobody_is_known_to_run(path):
    assert owners(
        path,
        runstate(1, 0, RUNNABLE, RUNNING, 10),
        runstate(1, 0, RUNNING, RUNNABLE, 12),
        hypercall(32, 13),
    ) == [(None, None)]


def test_before_the_first_switch_runs_who_is_switched_away(path):
    assert owners(path, hypercall(32, 1), runstate(1, 0, RUNNING, BLOCKED, 2)) == [(1, 0)]
    assert owners(path, hypercall(32, 1), encode(CONTINUE, [1 << 16], 2)) == [(1, 0)]


def test_before_the_first_switch_nobody_is_known_if_it_does_not_tell(path):
    assert owners(path, hypercall(32, 1), runstate(1, 0, RUNNABLE, RUNNING, 2)) == [(None, None)]
    assert owners(path, hypercall(32, 1)) == [(None, None)]


def test_after_a_gap_runs_who_the_gap_s_record_names(path):
    running = runstate(1, 0, RUNNABLE, RUNNING, 1)
    assert owners(path, running, lost(9, 2, 3, 2, 5), hypercall(32, 6)) == [(2, 3)]
    bare = encode(0x1F001, [9], 5)
    assert owners(path, running, bare, hypercall(32, 6)) == [(None, None)]


def test_pcpus_do_not_mix_and_windows_do_not_part(path):
    data = tiny_trace(
        window(0, runstate(1, 0, RUNNABLE, RUNNING, 1)),
        window(1, runstate(2, 0, RUNNABLE, RUNNING, 2)),
        window(0, hypercall(32, 3)),
        window(1, hypercall(32, 4)),
    )
    assert rows(path, data).filter(kind=Kind.HYPERCALL)["dom"].to_list() == [1, 2]


# --- evtrace's family ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "words", "expected"),
    [
        (Kind.CALL_ENTER, [4 | 77 << 8, 33], {"op": 4, "call_id": 77, "words": (33,)}),
        (Kind.CALL_EXIT, [6 | 77 << 8, 0, 9], {"op": 6, "call_id": 77, "rc": 0, "words": (9,)}),
        (Kind.CALL_EXIT, [4, -22], {"op": 4, "call_id": 0, "rc": -22, "words": ()}),
        (Kind.DOMAIN_CREATED, [2, 1], {"words": (2, 1)}),
        (Kind.DOMAIN_DESTROYED, [], {"words": ()}),
        (Kind.VIRQ_RAISED, [5], {"words": (5,), "irq": None}),
        (Kind.PIRQ_RAISED, [17], {"words": (17,)}),
        (Kind.UPCALL_ENTER, [], {"words": ()}),
        (Kind.UPCALL_EXIT, [], {"words": ()}),
        (Kind.HANDLER_ENTER, [52, 33], {"irq": 52, "port": 33, "words": ()}),
        (Kind.HANDLER_ENTER, [52], {"irq": 52, "port": None, "words": ()}),
        (Kind.HANDLER_EXIT, [52, 33, 1], {"irq": 52, "port": 33, "words": (1,)}),
        (Kind.IRQ_BOUND, [52, 33], {"irq": 52, "port": 33}),
        (Kind.IRQ_UNBOUND, [-1, 33], {"irq": -1, "port": 33}),
        (Kind.MASK, [33], {"port": 33, "words": ()}),
        (Kind.UNMASK, [33], {"port": 33, "words": ()}),
        (Kind.CLEAR, [33], {"port": 33, "words": ()}),
        (Kind.CLEAR, [], {"port": None, "words": ()}),
        (Kind.SET, [33], {"port": 33, "words": ()}),
        (Kind.CONSUME, [33], {"port": 33, "words": ()}),
        (Kind.EOI, [33, 1], {"port": 33, "words": (1,)}),
        (Kind.CHANNEL, [33, 3, 1, 8, 7, 0], {"port": 33, "words": (33, 3, 1, 8, 7, 0)}),
        (Kind.FACT, [2, 9, 0, 1, 0], {"words": (2, 9, 0, 1, 0)}),
        (Kind.COVERAGE, [16, 1, 0, 2, 0], {"words": (16, 1, 0, 2, 0)}),
        (Kind.TEXT, [3, 1, 2, 3, 4, 5], {"words": (3, 1, 2, 3, 4, 5)}),
    ],
)
def test_records_of_the_family_become_rows(path, kind, words, expected):
    (row,) = listed(path, encode_family(kind, 1, 2, words, 10))
    assert (row.kind, row.dom, row.vcpu) == (kind, 1, 2)
    assert {name: getattr(row, name) for name in expected} == expected


def test_every_kind_of_the_family_is_tested_above():
    marks = test_records_of_the_family_become_rows.pytestmark
    tested = {case[0] for mark in marks for case in mark.args[1]}
    assert tested == set(KIND_WORDS)


def test_all_domains_and_all_vcpus_are_null(path):
    text = encode_text(TextPurpose.SOURCE, "x", dom=ALL_DOMAINS, tsc=1)
    (row,) = listed(path, text, stream=FACTS_STREAM)
    assert (row.dom, row.vcpu, row.pcpu) == (None, None, None)
    (row,) = listed(path, encode_family(Kind.FACT, 3, ALL_VCPUS, [9, 1, 0, 0, 0], 1))
    assert (row.dom, row.vcpu, row.pcpu) == (3, None, 0)


def test_unknown_kinds_are_no_rows(path):
    odd = encode(family_event(Kind.TEXT) + 1, [0], 1)
    bare = encode(family_event(Kind.UPCALL_ENTER), [], 2)
    assert [row.kind for row in listed(path, odd, bare, hypercall(1, 3))] == [Kind.HYPERCALL]
