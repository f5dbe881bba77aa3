"""Version 1 of the trace file is frozen: a stored file with every record is written and read alike.

`traces/format/version-1.bin` was written when the version was frozen, and stays. Whoever has to
change it changes what files mean that exist already: that takes a new version (ADR 5).
"""

from pathlib import Path

import pytest

from evtrace.api import Trace
from evtrace.timeline import Kind, RecordClass
from evtrace.tracefile.facts import Coverage, Stream
from evtrace.tracefile.family import (
    ALL_DOMAINS,
    ALL_VCPUS,
    FACTS_STREAM,
    FAMILY_VERSION,
    FIRST_GUEST_STREAM,
    KIND_WORDS,
    LINUX_HABITS,
    ChannelBits,
    FactKey,
    GuestType,
    HzSource,
    SnapshotSource,
    TextPurpose,
    Timing,
)
from evtrace.tracefile.reader import open_trace
from evtrace.tracefile.records import encode_coverage, encode_fact, encode_family, encode_text
from tests.tinytrace import RUNNABLE, RUNNING, runstate, tiny_trace, window

FOLDER = Path(__file__).parents[2] / "traces/format"
STORED = FOLDER / "version-1.bin"
LISTED = FOLDER / "version-1.csv"
COLUMNS: tuple[str, ...] = (
    "tsc_lo",
    "tsc_hi",
    "clock",
    "pcpu",
    "dom",
    "vcpu",
    "kind",
    "op",
    "call_id",
    "port",
)
COLUMNS += ("irq", "rc", *(f"a{place}" for place in range(6)))

FACTS = {
    FactKey.FORMAT_VERSION: (ALL_DOMAINS, 1, 0),
    FactKey.TSC_HZ: (ALL_DOMAINS, 2_300_000_000, HzSource.CALIBRATED),
    FactKey.XEN_VERSION: (ALL_DOMAINS, 4 << 16 | 17, 0),
    FactKey.TIMING: (ALL_DOMAINS, Timing.HARDWARE, 0),
    FactKey.CLOCK_OFFSET: (3, -5_000_000_000, 5_000_000_001),
    FactKey.FORM: (3, 1, 0),
    FactKey.GUEST_TYPE: (3, GuestType.HVM, 0),
    FactKey.STREAM: (3, FIRST_GUEST_STREAM, 4),
    FactKey.VCPUS: (3, 2, 0),
    FactKey.UNPARSED: (3, 1, 70),
    FactKey.SNAPSHOT: (3, 1, SnapshotSource.DEBUG_KEYS),
    FactKey.GUEST_HABITS: (3, LINUX_HABITS, 0),
}
TEXTS = {
    TextPurpose.LOG: "a line of a kernel's log that takes two records",
    TextPurpose.DOMAIN_NAME: "größer",
    TextPurpose.IRQ_NAME: "57 vif3.0-q0",
    TextPurpose.SOURCE: "ftrace 3=domU.txt",
    TextPurpose.UNPARSED: "line 9: rubbish",
}
CHANNEL_STATES = (3 | 0xFF00, 5 | 0x2000, 0x0)
SIGNED = {Kind.CALL_EXIT: [4, -22]}


def every_record() -> bytes:
    """Give a trace that holds every kind, fact, purpose and bit of version 1."""
    stated = [encode_fact(key, *values, tsc=10) for key, values in FACTS.items()]
    stated += [
        encode_family(Kind.CHANNEL, 3, 1, [port, state, 7, 8, 9, 1], 10)
        for port, state in enumerate(CHANNEL_STATES)
    ]
    stated += [encode_text(purpose, text, dom=3, vcpu=1, tsc=11) for purpose, text in TEXTS.items()]
    stated.append(encode_coverage(3, ALL_VCPUS, RecordClass(0x7FF), 100, 1 << 40, tsc=12))
    happened = [
        encode_family(kind, 3, 1, SIGNED.get(kind, [*range(1, 1 + len(words))]), 100 + kind)
        for kind, words in KIND_WORDS.items()
        if kind not in {Kind.FACT, Kind.TEXT, Kind.COVERAGE, Kind.CHANNEL}
    ]
    without_end = encode_family(Kind.HANDLER_ENTER, 3, 1, [57], 400)
    return tiny_trace(
        window(FACTS_STREAM, *stated),
        window(0, runstate(3, 1, RUNNABLE, RUNNING, tsc=99), *happened[:9]),
        window(FIRST_GUEST_STREAM, *happened[9:], without_end),
    )


def test_the_stored_file_holds_all_that_version_1_has():
    assert {*FactKey} == FACTS.keys()
    assert {*TextPurpose} == TEXTS.keys()
    assert sum(ChannelBits) == CHANNEL_STATES[0] & ~0xFF
    assert sum(RecordClass) == 0x7FF


@pytest.mark.skipif(FAMILY_VERSION != 1, reason="files of a later version are written now")
def test_the_same_bytes_are_written():
    assert STORED.read_bytes() == every_record()


def listed() -> str:
    """Give what a reader of today makes of the stored file."""
    return Trace(STORED).timeline().select(*COLUMNS).collect().write_csv()


def test_the_same_records_are_read():
    assert LISTED.read_text() == listed()


def test_the_same_facts_are_read():
    with open_trace(STORED) as reader:
        facts = reader.facts
        damage = list(reader.damage)
    assert ([], 0, 1) == (damage, facts.unknown_records, facts.format_version)
    assert (2_300_000_000, HzSource.CALIBRATED) == (facts.tsc_hz, facts.tsc_hz_source)
    assert ((4, 17), Timing.HARDWARE) == (facts.xen_version, facts.timing)
    assert {3: (-5_000_000_000, 5_000_000_001)} == facts.clock_offsets
    assert ({3: 1}, {3: GuestType.HVM}, {3: 2}) == (facts.forms, facts.guest_types, facts.vcpus)
    assert {FIRST_GUEST_STREAM: Stream(3, 3)} == facts.streams
    assert ({3: (1, 70)}, {3: LINUX_HABITS}) == (facts.unparsed, facts.habits)
    assert ({3: "größer"}, {(3, 57): "vif3.0-q0"}) == (facts.domain_names, facts.irq_names)
    assert (["ftrace 3=domU.txt"], ["line 9: rubbish"]) == (facts.sources, facts.unparsed_lines)
    lo, hi = 100 - 5_000_000_000, (1 << 40) + 5_000_000_001
    assert [Coverage(3, None, RecordClass(0x7FF), lo, hi)] == facts.coverage
