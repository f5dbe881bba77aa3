"""Coverage: what was captured, for whom, when, and the level that follows."""

import pytest

from evtrace.timeline import Kind, RecordClass
from evtrace.tracefile.family import ALL_VCPUS, FACTS_STREAM, FactKey
from evtrace.tracefile.records import encode, encode_coverage, encode_fact, encode_family
from tests.tinytrace import (
    BLOCKED,
    RUNNABLE,
    RUNNING,
    VMENTRY,
    hypercall,
    lost,
    opened,
    runstate,
    tiny_trace,
    window,
)

CALL, UPCALL, HANDLER = RecordClass.CALL, RecordClass.UPCALL, RecordClass.HANDLER
C4 = CALL | UPCALL | HANDLER
C5 = C4 | RecordClass.MEMORY | RecordClass.QUEUE | RecordClass.RAISE


@pytest.fixture
def coverage_of(tmp_path):
    def read(*facts, stock=()):
        stock = stock or (encode(0x22209, [], 5),)
        data = tiny_trace(window(FACTS_STREAM, *facts) if facts else b"", window(0, *stock))
        with opened(tmp_path / "tiny.bin", data) as reader:
            return reader.coverage

    return read


def covers(classes, lo=0, hi=1000, dom=1, vcpu=ALL_VCPUS):
    return encode_coverage(dom, vcpu, classes, lo, hi, tsc=0)


def test_what_is_covered_all_the_way_is_covered(coverage_of):
    coverage = coverage_of(covers(C4))
    assert coverage.missing(1, C4, 0, 1000) is None
    assert coverage.covered(1, CALL | HANDLER, 10, 20)


@pytest.mark.parametrize(
    ("dom", "classes", "lo", "hi", "reason"),
    [
        (2, CALL, 0, 10, "calls of d2 were not captured"),
        (1, RecordClass.EOI, 0, 10, "the driver's verdicts of d1 were not captured"),
        (1, CALL, 990, 1001, "calls of d1 were not captured at 1001"),
        (1, HANDLER, -5, 10, "handler runs of d1 were not captured at -5"),
        (1, CALL | RecordClass.EOI, 0, 10, "the driver's verdicts of d1 were not captured"),
    ],
)
def test_what_is_missing_is_said(coverage_of, dom, classes, lo, hi, reason):
    coverage = coverage_of(covers(C4))
    assert coverage.missing(dom, classes, lo, hi) == reason
    assert not coverage.covered(dom, classes, lo, hi)


def test_intervals_join_where_they_touch_and_leave_a_hole_where_they_do_not(coverage_of):
    coverage = coverage_of(covers(CALL, 0, 10), covers(CALL, 11, 20), covers(CALL, 30, 40))
    assert coverage.missing(1, CALL, 5, 20) is None
    assert coverage.missing(1, CALL, 5, 35) == "calls of d1 were not captured at 21"


def test_a_domain_is_covered_where_each_of_its_vcpus_is(coverage_of):
    coverage = coverage_of(covers(CALL, 0, 100, vcpu=0), covers(CALL, 50, 100, vcpu=1))
    assert coverage.missing(1, CALL, 60, 70) is None
    assert coverage.missing(1, CALL, 10, 70) == "calls of d1 were not captured at 10"


def test_stock_records_prove_their_classes_for_all_domains_in_their_time(coverage_of):
    stock = (
        hypercall(32, 10),
        runstate(0, 0, RUNNING, BLOCKED, 20),
        encode(VMENTRY, [], 30),
        encode(0x802008, [1, 0, 0], 40),
    )
    coverage = coverage_of(stock=stock)
    every = RecordClass.HYPERCALL | RecordClass.SCHED | RecordClass.HVM | RecordClass.IRQ
    assert coverage.classes() == every
    assert coverage.missing(9, every, 10, 40) is None
    assert coverage.missing(9, RecordClass.SCHED, 10, 41) is not None
    assert coverage_of(stock=stock[:1]).classes() == RecordClass.HYPERCALL


def test_a_gap_takes_away_what_stock_records_prove(coverage_of):
    coverage = coverage_of(stock=(hypercall(1, 10), lost(7, 0, 0, 20, 30), hypercall(1, 40)))
    assert coverage.missing(0, RecordClass.HYPERCALL, 10, 19) is None
    assert coverage.missing(0, RecordClass.HYPERCALL, 31, 40) is None
    reason = coverage.missing(0, RecordClass.HYPERCALL, 15, 25)
    assert reason == "7 records of pcpu 0 were lost"


def call(*words):
    return encode_family(Kind.CALL_ENTER, 1, 0, words, 5)


@pytest.mark.parametrize(
    ("classes", "stock", "level"),
    [
        (None, (encode(0x22209, [], 5),), "C0"),
        (None, (hypercall(32, 5),), "C1"),
        (None, (runstate(0, 0, RUNNABLE, RUNNING, 5),), "C1"),
        (UPCALL, (encode(0x22209, [], 5),), "C1"),
        (CALL, (call(4),), "C2"),
        (CALL, (call(4, 33),), "C3"),
        (CALL, (call(7), call(4, 33)), "C3"),
        (CALL, (), "C3"),
        (CALL | UPCALL, (), "C3"),
        (C4, (), "C4"),
        (C4 | RecordClass.MEMORY, (), "C4"),
        (C5, (), "C5"),
        (C5 & ~RecordClass.QUEUE, (), "C4"),
    ],
)
def test_the_level_follows_from_the_classes(coverage_of, classes, stock, level):
    facts = () if classes is None else (covers(classes),)
    assert coverage_of(*facts, stock=stock).level(1) == level


def test_a_2_level_domain_needs_no_queue_for_c5(coverage_of):
    classes = C5 & ~RecordClass.QUEUE
    assert coverage_of(covers(classes), encode_fact(FactKey.FORM, 1, 0, tsc=0)).level(1) == "C5"
    assert coverage_of(covers(classes), encode_fact(FactKey.FORM, 1, 1, tsc=0)).level(1) == "C4"


def test_the_overall_level_is_the_lowest_of_the_domains_asked_about(coverage_of):
    coverage = coverage_of(covers(C5, dom=0), covers(CALL, dom=1), stock=(hypercall(32, 5),))
    assert coverage.overall_level() == "C3"
    assert coverage.overall_level({0}) == "C5"
    assert coverage.overall_level({0, 1}) == "C3"
    assert coverage.overall_level({2}) == "C1"


def test_a_stock_trace_is_c1(coverage_of):
    assert coverage_of(stock=(hypercall(32, 5),)).overall_level() == "C1"


def test_the_intervals_as_a_table(coverage_of):
    frame = coverage_of(covers(CALL, vcpu=2), stock=(hypercall(32, 5), hypercall(32, 7))).frame()
    assert frame.columns == ["dom", "vcpu", "classes", "tsc_lo", "tsc_hi"]
    assert frame.rows() == [(1, 2, int(CALL), 0, 1000), (None, None, 1, 5, 7)]


def test_a_class_is_told_of_some_domain_or_of_one(coverage_of):
    coverage = coverage_of(covers(UPCALL | HANDLER, dom=1), covers(HANDLER, dom=2))

    assert coverage.tells(UPCALL | HANDLER)
    assert coverage.tells(UPCALL | HANDLER, {1, 2})
    assert not coverage.tells(UPCALL | HANDLER, {2})
    assert coverage.tells(HANDLER, {2})
    assert not coverage.tells(RecordClass.EOI)
