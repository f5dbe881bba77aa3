"""What a trace says of itself, and what it says that we do not know."""

import pytest

from evtrace.timeline import Kind, RecordClass
from evtrace.tracefile.facts import Coverage, Stream
from evtrace.tracefile.family import (
    ALL_DOMAINS,
    ALL_VCPUS,
    FACTS_STREAM,
    FAMILY_VERSION,
    FactKey,
    GuestType,
    HzSource,
    TextPurpose,
    Timing,
)
from evtrace.tracefile.records import (
    encode,
    encode_coverage,
    encode_fact,
    encode_family,
    encode_text,
)
from tests.tinytrace import INFPREV, hypercall, opened, tiny_trace, window


@pytest.fixture
def facts_of(tmp_path):
    def read(*records):
        data = tiny_trace(window(FACTS_STREAM, *records), window(0, hypercall(1, 5)))
        with opened(tmp_path / "tiny.bin", data) as reader:
            return reader.facts

    return read


def test_a_stock_file_states_nothing(tmp_path):
    with opened(tmp_path / "tiny.bin", window(0, hypercall(1, 5))) as reader:
        facts = reader.facts
    assert (facts.format_version, facts.tsc_hz, facts.tsc_hz_source) == (None, None, 0)
    assert (facts.xen_version, facts.timing, facts.coverage) == (None, Timing.UNKNOWN, [])


@pytest.mark.parametrize(
    ("key", "values", "attribute", "expected"),
    [
        (FactKey.FORMAT_VERSION, (0,), "format_version", 0),
        (FactKey.TSC_HZ, (2_299_999_000, 2), "tsc_hz", 2_299_999_000),
        (FactKey.TSC_HZ, (5_000_000_000, 2), "tsc_hz_source", HzSource.SNAPSHOT),
        (FactKey.XEN_VERSION, (4 << 16 | 17,), "xen_version", (4, 17)),
        (FactKey.TIMING, (3,), "timing", Timing.EMULATED_CPU),
        (FactKey.CLOCK_OFFSET, (-7, 1 << 40), "clock_offsets", {1: (-7, 1 << 40)}),
        (FactKey.FORM, (1,), "forms", {1: 1}),
        (FactKey.GUEST_TYPE, (2,), "guest_types", {1: GuestType.HVM}),
        (FactKey.STREAM, (65538, 2), "streams", {65538: Stream(1, 1)}),
        (FactKey.STREAM, (65538, 0), "streams", {65538: Stream(1, None)}),
        (FactKey.VCPUS, (4,), "vcpus", {1: 4}),
        (FactKey.UNPARSED, (2, 900), "unparsed", {1: (2, 900)}),
    ],
)
def test_each_fact_is_read(facts_of, key, values, attribute, expected):
    facts = facts_of(encode_fact(key, 1, *values, tsc=1))
    assert getattr(facts, attribute) == expected
    assert facts.unknown_records == 0


@pytest.mark.parametrize("text", ["", "vif1.0-q0-rx", "exactly twenty bytes", "ä" * 40, "x" * 400])
def test_strings_of_any_length_are_put_together(facts_of, text):
    facts = facts_of(encode_text(TextPurpose.DOMAIN_NAME, text, dom=1, tsc=1))
    assert facts.domain_names == {1: text}


def test_strings_of_several_purposes_and_domains_are_kept_apart(facts_of):
    facts = facts_of(
        encode_text(TextPurpose.SOURCE, "xentrace a.bin", dom=ALL_DOMAINS, tsc=1),
        encode_text(TextPurpose.SOURCE, "ftrace 0=a.txt", dom=ALL_DOMAINS, tsc=1),
        encode_text(TextPurpose.IRQ_NAME, "52 vif 1", dom=0, tsc=1),
        encode_text(TextPurpose.IRQ_NAME, "52 eth0", dom=1, tsc=1),
        encode_text(TextPurpose.UNPARSED, "?!", dom=1, tsc=1),
        encode_text(TextPurpose.LOG, "a log line", dom=1, tsc=1),
    )
    assert facts.sources == ["xentrace a.bin", "ftrace 0=a.txt"]
    assert facts.irq_names == {(0, 52): "vif 1", (1, 52): "eth0"}
    assert facts.unparsed_lines == ["?!"]


def test_a_string_without_its_start_is_passed_over(facts_of):
    whole = encode_text(TextPurpose.DOMAIN_NAME, "x" * 30, dom=1, tsc=1)
    assert facts_of(whole[len(whole) // 2 :]).domain_names == {}


def test_coverage_is_read_and_moved_into_host_time(facts_of):
    classes = RecordClass.CALL | RecordClass.UPCALL
    facts = facts_of(
        encode_coverage(1, ALL_VCPUS, classes, 100, 200, tsc=1),
        encode_coverage(ALL_DOMAINS, 3, RecordClass.EOI, 1, 2, tsc=1),
        encode_fact(FactKey.CLOCK_OFFSET, 1, 1000, 1010, tsc=1),
    )
    assert facts.coverage == [
        Coverage(1, None, classes, 1100, 1210),
        Coverage(None, 3, RecordClass.EOI, 1, 2),
    ]


@pytest.mark.parametrize(
    "record",
    [
        encode_family(Kind.FACT, 1, 0, [99, 0, 0, 0, 0], 1),
        encode_family(Kind.FACT, 1, 0, [], 1),
        encode_fact(FactKey.TIMING, 1, 77, tsc=1),
        encode_fact(FactKey.TSC_HZ, 1, 5, 77, tsc=1),
        encode_fact(FactKey.FORMAT_VERSION, 1, FAMILY_VERSION + 1, tsc=1),
        encode_fact(FactKey.CLOCK_OFFSET, 1, 1 << 62, 1 << 62, tsc=1),
        encode_family(Kind.COVERAGE, 1, 0, [], 1),
        encode_family(Kind.TEXT, 1, 0, [99 | 1 << 16, 0], 1),
        encode_text(TextPurpose.IRQ_NAME, "eth0", dom=1, tsc=1),
    ],
)
def test_what_is_not_understood_is_counted(facts_of, record):
    assert facts_of(record).unknown_records == 1


def test_unknown_kinds_are_counted_by_the_survey(tmp_path):
    data = window(0, encode(0x0800FE77, [0], 1), encode(0x0800FE10, [0], 2))
    with opened(tmp_path / "tiny.bin", data) as reader:
        assert reader.survey.unknown_kinds == 1


def test_without_a_fact_the_frequency_is_calibrated(tmp_path):
    switches = [
        encode(INFPREV, [0, 0, 1_000_000], tsc)
        for tsc in range(10**9, 10**9 + 25 * 10**6, 2_500_000)
    ]
    with opened(tmp_path / "tiny.bin", window(0, *switches)) as reader:
        assert (reader.facts.tsc_hz, reader.facts.tsc_hz_source) == (
            2_500_000_000,
            HzSource.CALIBRATED,
        )
