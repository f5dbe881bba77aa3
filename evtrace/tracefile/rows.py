"""From raw records to the timeline: the records that matter, each with the vCPU it is about.

A stock record names no vCPU; it is that of the vCPU which runs on the pCPU, known from the
scheduler's records. A record of evtrace's family names its own.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import polars as pl

from evtrace.timeline import Kind, schema
from evtrace.tracefile.clocks import LOST_RECORDS, RUNSTATE, RUNSTATE_MASK
from evtrace.tracefile.family import (
    ALL_DOMAINS,
    ALL_VCPUS,
    FACTS_STREAM,
    FAMILY_EVENT,
    FAMILY_MASK,
    KIND_WORDS,
)
from evtrace.tracefile.load import WORDS

if TYPE_CHECKING:
    from evtrace.tracefile.reader import TraceReader

CONTINUE_RUNNING: Final = 0x00021002
_NESTED: Final = 0x400
_STOCK_KINDS: Final = {
    LOST_RECORDS: Kind.LOST,
    0x0020100D: Kind.HYPERCALL,
    0x0020200E: Kind.HYPERCALL,
    0x00201001: Kind.HYPERCALL,
    0x00201101: Kind.HYPERCALL,
    0x00082012: Kind.HYPERCALL,
    0x00028004: Kind.WAKE,
    0x00028006: Kind.BLOCK,
    **dict.fromkeys((0x00081001, 0x00081001 | _NESTED), Kind.VMENTRY),
    **{
        exit_ | nested: Kind.VMEXIT
        for exit_ in (0x00081002, 0x00081003, 0x00081102, 0x00081103)
        for nested in (0, _NESTED)
    },
    0x00082004: Kind.INJECT,
    0x00802008: Kind.IRQ_HANDLED,
}
_OLD_HYPERCALLS: Final = {0x00201001: "w1", 0x00201101: "w2"}
"""TRC_PV_HYPERCALL of Xen before 4.3: {eip, eax} and {u64 rip, eax}; eax is the operation."""

NOBODY: Final = 0xFFFFFFFF
"""In place of a vCPU word: nobody is known to run."""

_HYPERCALL_MASK: Final = 0xFFFFF
_KIND: Final = pl.col("kind")


def timeline(reader: "TraceReader") -> Iterator[pl.DataFrame]:
    """Yield the timeline of a trace in time-ordered batches (`evtrace.timeline.schema`)."""
    for batch in annotated(reader):
        yield batch.filter(_KIND.is_not_null()).select(schema().names()).cast(schema())


def annotated(reader: "TraceReader") -> Iterator[pl.DataFrame]:
    """Yield all raw records in time order with the timeline's columns beside their own.

    Where `kind` is null, the record is no row of the timeline; `dom` and `vcpu` then name the
    vCPU that ran.
    """
    occupants = Occupants(first_occupants(reader))
    for batch in reader.batches():
        yield decode(occupants.attribute(batch))


def first_occupants(reader: "TraceReader") -> dict[int, int]:
    """Give for each pCPU the vCPU that ran when its records begin, as its first switch tells."""
    found: dict[int, int] = {}
    for window in reader.windows:
        if window.stream in found or window.stream >= FACTS_STREAM:
            continue
        for records in reader.records([window]):
            changes = records.select(change=_occupant_before()).drop_nulls()
            if changes.height:
                found[window.stream] = int(changes["change"][0])
    return found


class Occupants:
    """Which vCPU runs on each pCPU, carried from batch to batch."""

    def __init__(self, running: dict[int, int]) -> None:
        """Start with who is `running` on each pCPU (packed, or `NOBODY`)."""
        self._running = dict(running)

    def attribute(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Add `running`: the running vCPU as runstate records pack it, null where unknown.

        A vCPU runs from the record that says so up to the one that says it stopped; both are its
        own. LOST_RECORDS names the vCPU that runs when it is written.
        """
        carried = pl.col("pcpu").replace_strict(
            self._running, default=NOBODY, return_dtype=pl.UInt32
        )
        running = _occupant_after().forward_fill().over("pcpu").fill_null(carried)
        attributed = batch.with_columns(running=running)
        ends = attributed.group_by("pcpu").agg(pl.col("running").last())
        self._running.update(ends.iter_rows())
        return attributed.with_columns(
            running=pl.when(pl.col("running") != NOBODY).then("running"),
        )


def _starts() -> pl.Expr:
    event = pl.col("event")
    return ((event & RUNSTATE_MASK) == RUNSTATE) & ((event & 0xF0) == 0)


def _stops() -> pl.Expr:
    event = pl.col("event")
    return ((event & RUNSTATE_MASK) == RUNSTATE) & ((event & 0xF00) == 0)


def _occupant_after() -> pl.Expr:
    """Give who runs after a record; null where the record does not tell."""
    event = pl.col("event")
    lost = pl.when(pl.col("n_words") >= 2).then(_swapped("w1")).otherwise(NOBODY)
    return (
        pl.when(event == LOST_RECORDS)
        .then(lost)
        .when(_starts() | (event == CONTINUE_RUNNING))
        .then("w0")
        .when(_stops())
        .then(pl.lit(NOBODY, pl.UInt32))
    )


def _occupant_before() -> pl.Expr:
    """Give who ran before a record; null where the record does not tell."""
    event = pl.col("event")
    return (
        pl.when(_stops() | (event == CONTINUE_RUNNING))
        .then("w0")
        .when(_starts() | (event == LOST_RECORDS))
        .then(pl.lit(NOBODY, pl.UInt32))
    )


def decode(batch: pl.DataFrame) -> pl.DataFrame:
    """Add the timeline's columns to raw records that `Occupants` has attributed."""
    return (
        batch.with_columns(kind=_kind())
        .with_columns(first=_first_argument())
        .with_columns(
            vcpu_word=_vcpu_word(),
            op=_op(),
            call_id=_word("op_call") // 256,
            port=_word("port"),
            irq=pl.when(_KIND == Kind.IRQ_HANDLED).then("w0").otherwise(_word("irq")),
            rc=_word("rc").reinterpret(signed=True),
            stream="pcpu",
            pcpu=pl.when(pl.col("pcpu") < FACTS_STREAM).then("pcpu"),
            **{f"a{k}": _argument(k) for k in range(len(WORDS) - 1)},
        )
        .with_columns(
            irq=pl.col("irq").reinterpret(signed=True),
            dom=_half(pl.col("vcpu_word") // (1 << 16), ALL_DOMAINS),
            vcpu=_half(pl.col("vcpu_word") % (1 << 16), ALL_VCPUS),
        )
    )


def _kind() -> pl.Expr:
    """Give the kind of a record by its event; null for those that are no rows."""
    event = pl.col("event")
    low = event & 0xFF
    family = ((event & FAMILY_MASK) == FAMILY_EVENT) & low.is_in([int(kind) for kind in KIND_WORDS])
    stock = {number: int(kind) for number, kind in _STOCK_KINDS.items()}
    return (
        pl.when(family & (pl.col("n_words") > 0))
        .then(low)
        .when((event & RUNSTATE_MASK) == RUNSTATE)
        .then(pl.lit(int(Kind.RUNSTATE), pl.UInt32))
        .otherwise(event.replace_strict(stock, default=None, return_dtype=pl.UInt32))
    )


def _op() -> pl.Expr:
    event = pl.col("event")
    old = pl.coalesce(
        pl.when(event == number).then(pl.col(word)) for number, word in _OLD_HYPERCALLS.items()
    )
    called = pl.coalesce(old, pl.col("w0") & _HYPERCALL_MASK)
    return (
        pl.when(_KIND == Kind.HYPERCALL)
        .then(called)
        .when(_KIND == Kind.RUNSTATE)
        .then((event // 16) & 0xFF)
        .otherwise(_word("op_call") % 256)
    )


def _vcpu_word() -> pl.Expr:
    """Give the vCPU a row is about, packed: its own word, its two words, or who runs."""
    two_words = pl.col("w0") * (1 << 16) + pl.col("w1")
    return (
        pl.when((_KIND >= Kind.CALL_ENTER) | (_KIND == Kind.RUNSTATE))
        .then("w0")
        .when(_KIND.is_in([int(Kind.WAKE), int(Kind.BLOCK)]))
        .then(two_words)
        .otherwise("running")
    )


def _word(name: str) -> pl.Expr:
    """Give the word that the family calls `name` in the kinds that have one."""
    by_place: dict[int, list[int]] = {}
    for kind, words in KIND_WORDS.items():
        if name in words:
            by_place.setdefault(words.index(name) + 1, []).append(int(kind))
    return pl.coalesce(
        pl.when(_KIND.is_in(kinds)).then(pl.col(f"w{place}")) for place, kinds in by_place.items()
    )


_NAMED: Final = ("op_call", "rc", "irq", "port")
_WHOLE: Final = (Kind.CHANNEL, Kind.FACT, Kind.COVERAGE, Kind.TEXT)
"""Kinds whose a0.. are all words after the vCPU word, named ones included."""


def _first_argument() -> pl.Expr:
    """Give the number of the word that becomes a0: the one after those with columns."""
    first = {
        kind: 1 + (0 if kind in _WHOLE else sum(word in _NAMED for word in words))
        for kind, words in KIND_WORDS.items()
    }
    first |= {Kind.HYPERCALL: 1, Kind.IRQ_HANDLED: 1, Kind.WAKE: 2, Kind.BLOCK: 2}
    first |= {Kind.RUNSTATE: 1, Kind.VMEXIT: 0, Kind.VMENTRY: 0, Kind.INJECT: 0, Kind.LOST: 0}
    places = {int(kind): place for kind, place in first.items()}
    return _KIND.replace_strict(places, default=None, return_dtype=pl.UInt8)


def _argument(k: int) -> pl.Expr:
    """Give a`k`: the word `k` places after the first argument; null where there is none."""
    return pl.coalesce(
        pl.when(pl.col("first") == first).then(pl.col(WORDS[first + k]))
        for first in range(4)
        if first + k < len(WORDS)
    )


def _swapped(name: str) -> pl.Expr:
    """Give a word with its halves exchanged: LOST_RECORDS has the domain in the low half."""
    return pl.col(name) // (1 << 16) + (pl.col(name) % (1 << 16)) * (1 << 16)


def _half(value: pl.Expr, everyone: int) -> pl.Expr:
    return pl.when(value != everyone).then(value)
