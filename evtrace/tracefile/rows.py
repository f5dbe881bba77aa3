"""From records to the timeline: the records that matter, decoded, each with its vCPU.

A stock record names no vCPU; it belongs to the one that runs on its pCPU, which the scheduler's
records tell. Family records name their vCPU themselves.
"""

from collections.abc import Iterator

import polars as pl

from evtrace.timeline import Kind, Runstate, schema
from evtrace.tracefile.family import FACTS_STREAM, FAMILY_EVENT, FAMILY_MASK
from evtrace.tracefile.reader import TraceReader

LOST_RECORDS = 0x1F001
RUNSTATE_CHANGE = 0x21001
RUNSTATE_MASK = 0xFFFFF00F
CONTINUE_RUNNING = 0x21002
WAKE = 0x28004
BLOCK = 0x28006
PV_HYPERCALLS = (0x20100D, 0x20200E)
"""TRC_PV_HYPERCALL_V2 and, of each entry of a multicall, _SUBCALL: op in bits 0-19 of word 0."""
PV_HYPERCALL_V1 = 0x201001
PV_HYPERCALL_V1_64 = 0x201101
VMMCALL = 0x82012
VM_EXITS = (0x81002, 0x81102, 0x81003, 0x81103)
VM_ENTRIES = (0x81001, 0x81401)
INJ_VIRQ = 0x82004
IRQ_HANDLED = 0x802008

VCPU_OF_ANOTHER = (Kind.RUNSTATE, Kind.WAKE, Kind.BLOCK)
"""Kinds whose record names a vCPU, whoever runs on the pCPU."""

IDLE_DOMAIN = 0x7FFF


def timeline(reader: TraceReader) -> Iterator[pl.DataFrame]:
    """Yield the timeline in batches with `evtrace.timeline.schema()`'s columns."""
    running: dict[int, int | None] = {}  # pCPU -> packed vCPU
    for batch in reader.batches():
        yield _rows(_with_running(batch, running))


def _with_running(batch: pl.DataFrame, running: dict[int, int | None]) -> pl.DataFrame:
    """Add `running`: the packed vCPU that runs on the record's pCPU, null if not known.

    A change to *running* holds from its own record on; one away from it up to and with its record.
    """
    event, word = pl.col("event"), pl.col("w0").cast(pl.Int64)
    is_change = event & RUNSTATE_MASK == RUNSTATE_CHANGE
    new = event // 16 % 16
    starts = (is_change & (new == Runstate.RUNNING)) | (event == CONTINUE_RUNNING)
    nobody = -1
    batch = batch.with_columns(
        mark=pl.when(starts & (pl.col("pcpu") < FACTS_STREAM))
        .then(word)
        .when(event == LOST_RECORDS)
        .then(nobody),
    )
    before = pl.DataFrame(
        {"pcpu": list(running), "carried": list(running.values())},
        {"pcpu": pl.Int32, "carried": pl.Int64},
    )
    batch = batch.join(before, on="pcpu", how="left", maintain_order="left").with_columns(
        running=pl.col("mark").forward_fill().over("pcpu").fill_null(pl.col("carried")),
    )
    for pcpu, last in batch.group_by("pcpu").agg(pl.col("running").last()).iter_rows():
        running[pcpu] = last
    return batch.with_columns(running=pl.col("running").replace(nobody, None))


def _rows(batch: pl.DataFrame) -> pl.DataFrame:
    kind = _kind()
    rows = batch.with_columns(kind=kind).filter(pl.col("kind").is_not_null())
    family = pl.col("kind") >= Kind.CALL_ENTER
    named = family | pl.col("kind").is_in([int(k) for k in VCPU_OF_ANOTHER])
    who = pl.when(named).then(_named_vcpu()).otherwise(pl.col("running"))
    rows = rows.with_columns(who=who)
    rows = rows.with_columns(_fields())
    return rows.select(
        "seq",
        "tsc_lo",
        "tsc_hi",
        "clock",
        pcpu=pl.when(pl.col("pcpu") < FACTS_STREAM).then(pl.col("pcpu")),
        dom=pl.col("who") // 0x10000,
        vcpu=pl.col("who") % 0x10000,
        kind="kind",
        op="op",
        call_id="call_id",
        port="port",
        irq="irq",
        rc="rc",
        **{f"a{place}": pl.col(f"a{place}") for place in range(6)},
        file_offset="file_offset",
    ).cast(dict(schema()))


def _kind() -> pl.Expr:
    event = pl.col("event")
    stock = pl.col("pcpu") < FACTS_STREAM
    known = [int(kind) for kind in Kind if kind >= Kind.CALL_ENTER]
    family = (event & FAMILY_MASK == FAMILY_EVENT) & (event & 0xFF).is_in(known)
    hypercalls = [*PV_HYPERCALLS, PV_HYPERCALL_V1, PV_HYPERCALL_V1_64, VMMCALL]
    return (
        pl.when(family & pl.col("w0").is_not_null())
        .then(event & 0xFF)
        .when(stock & event.is_in(hypercalls) & pl.col("w0").is_not_null())
        .then(int(Kind.HYPERCALL))
        .when(stock & (event & RUNSTATE_MASK == RUNSTATE_CHANGE) & pl.col("w0").is_not_null())
        .then(int(Kind.RUNSTATE))
        .when(stock & (event == WAKE) & pl.col("w1").is_not_null())
        .then(int(Kind.WAKE))
        .when(stock & (event == BLOCK) & pl.col("w1").is_not_null())
        .then(int(Kind.BLOCK))
        .when(stock & event.is_in(VM_EXITS))
        .then(int(Kind.VMEXIT))
        .when(stock & event.is_in(VM_ENTRIES))
        .then(int(Kind.VMENTRY))
        .when(stock & (event == INJ_VIRQ))
        .then(int(Kind.INJECT))
        .when(stock & (event == IRQ_HANDLED))
        .then(int(Kind.IRQ_HANDLED))
        .when(stock & (event == LOST_RECORDS))
        .then(int(Kind.LOST))
    )


def _named_vcpu() -> pl.Expr:
    """Give the packed vCPU that a record names: in one word, or a wake or block in two."""
    two_words = pl.col("kind").is_in([int(Kind.WAKE), int(Kind.BLOCK)])
    first = pl.col("w0").cast(pl.Int64)
    return pl.when(two_words).then(first * 0x10000 + pl.col("w1")).otherwise(first)


_CALLS = [int(Kind.CALL_ENTER), int(Kind.CALL_EXIT)]
_WITH_IRQ = [
    int(kind)
    for kind in (Kind.HANDLER_ENTER, Kind.HANDLER_EXIT, Kind.IRQ_BOUND, Kind.IRQ_UNBOUND)
]
_WITH_PORT = [
    int(kind)
    for kind in (Kind.MASK, Kind.UNMASK, Kind.CLEAR, Kind.SET, Kind.CONSUME, Kind.EOI, Kind.CHANNEL)
]


def _fields() -> list[pl.Expr]:
    """Give the columns that depend on the kind; a0.. are the words that have no column."""
    kind, w0 = pl.col("kind"), pl.col("w0")
    is_call = kind.is_in(_CALLS)
    with_irq = kind.is_in(_WITH_IRQ)
    with_port = kind.is_in(_WITH_PORT)
    op = (
        pl.when(is_call)
        .then(pl.col("w1") % 0x100)
        .when(kind == Kind.RUNSTATE)
        .then(pl.col("event") // 16 % 256)
        .when(kind == Kind.HYPERCALL)
        .then(_hypercall_number())
    )
    port = pl.when(with_irq).then(pl.col("w2")).when(with_port).then(pl.col("w1"))
    irq = pl.when(with_irq).then(pl.col("w1")).when(kind == Kind.IRQ_HANDLED).then(w0)
    signed = pl.col("w2").reinterpret(signed=True)
    return [
        op.alias("op"),
        pl.when(is_call).then(pl.col("w1") // 0x100).alias("call_id"),
        port.alias("port"),
        irq.cast(pl.Int64).alias("irq"),
        pl.when(kind == Kind.CALL_EXIT).then(signed).alias("rc"),
        *(_argument(place).alias(f"a{place}") for place in range(6)),
    ]


def _hypercall_number() -> pl.Expr:
    event = pl.col("event")
    return (
        pl.when(event.is_in(PV_HYPERCALLS))
        .then(pl.col("w0") % 0x100000)
        .when(event == PV_HYPERCALL_V1)
        .then(pl.col("w1"))
        .when(event == PV_HYPERCALL_V1_64)
        .then(pl.col("w2"))
        .otherwise(pl.col("w0"))
    )


def _argument(place: int) -> pl.Expr:
    """Give word a<place>: how many words come before it depends on the kind."""
    kind = pl.col("kind")
    whole = [int(k) for k in (Kind.FACT, Kind.COVERAGE, Kind.TEXT, Kind.DOMAIN_CREATED)]
    after_vcpu = [*whole, int(Kind.VIRQ_RAISED), int(Kind.PIRQ_RAISED)]
    after_one = [int(Kind.CALL_ENTER), *_WITH_PORT]
    after_two = [int(Kind.CALL_EXIT), *_WITH_IRQ]
    return (
        pl.when(kind.is_in(after_vcpu))
        .then(_word(place + 1))
        .when(kind.is_in(after_one))
        .then(_word(place + 2))
        .when(kind.is_in(after_two))
        .then(_word(place + 3))
        .when(kind.is_in([int(Kind.IRQ_HANDLED)]))
        .then(_word(place + 1))
        .when(kind.is_in([int(Kind.INJECT), int(Kind.LOST), int(Kind.HYPERCALL), int(Kind.VMEXIT)]))
        .then(_word(place))
    )


def _word(place: int) -> pl.Expr:
    return pl.col(f"w{place}") if place < 7 else pl.lit(None, pl.UInt32)


