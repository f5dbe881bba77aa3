"""The tables of a stock capture, and the sentence above them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import polars as pl

from evtrace.analysis.sentence import count_of
from evtrace.analysis.stock.fold import StockFold
from evtrace.analysis.stock.gaps import Gaps
from evtrace.analysis.stock.names import hypercall_name, vcpu_name
from evtrace.analysis.stock.sketch import Sketch
from evtrace.analysis.stock.steps import EVENT_CHANNEL_OPS
from evtrace.analysis.stock.wakes import Pair, WakeStep, Woken
from evtrace.analysis.tables import Table, duration
from evtrace.timeline import Runstate

_RARE = 1000
"""Of fewer durations than these, p99.9 is the longest and is left out."""

_SKETCH = ("p50_cycles", "p99_cycles", "p999_cycles", "max_cycles", "max_at_tsc")


def stock_tables(
    fold: StockFold, gaps: Gaps, extent: tuple[int, int] | None, tsc_hz: int | None
) -> list[Table]:
    """Give the tables that have rows; times in ns where `tsc_hz` is known, else in cycles."""
    made = [
        _round_trips(fold),
        _wakes(fold),
        _wake_steps(fold),
        _hypercalls(fold),
        _run_queue(fold),
        _vcpus(fold),
        _gaps(gaps, extent),
        _tsc_skew(fold),
    ]
    return [_in_time(table, tsc_hz) for table in made if table.frame.height]


def _in_time(table: Table, tsc_hz: int | None) -> Table:
    """Turn cycles into nanoseconds."""
    if tsc_hz is None:
        return table
    cycles = [name for name in table.frame.columns if name.endswith("_cycles")]
    ns = [
        (pl.col(name) * (1e9 / tsc_hz))
        .round()
        .cast(pl.Int64, strict=False)
        .alias(f"{name[:-7]}_ns")
        for name in cycles
    ]
    columns = [name.replace("_cycles", "_ns") for name in table.frame.columns]
    frame = table.frame.with_columns(ns).select(columns)
    return replace(table, frame=frame, labels={"p999_ns": "p99.9"})


def _frame(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> pl.DataFrame:
    """Make a frame; texts are named below, all else are numbers."""
    types = dict.fromkeys(_TEXTS, pl.String()) | dict.fromkeys(_FLOATS, pl.Float64())
    schema = {name: types.get(name, pl.Int64()) for name in columns}
    return pl.DataFrame(list(rows), schema, orient="row")


_FLOATS = ("share",)
_TEXTS = (
    "vector",
    "trip",
    "wake",
    "by",
    "ports",
    "step",
    "vcpu",
    "hypercall",
    "time_is",
    "held_by",
)


def _sketched(sketch: Sketch | None) -> tuple[int | None, ...]:
    if sketch is None or not sketch.count:
        return (None,) * len(_SKETCH)
    rare = sketch.quantile(0.999) if sketch.count >= _RARE else None
    return sketch.quantile(0.5), sketch.quantile(0.99), rare, sketch.max, sketch.max_at


def _round_trips(fold: StockFold) -> Table:
    rows = [
        (
            _trip(caller, answerer),
            trips.seen,
            trips.inferred,
            trips.reply.quantile(0.5),
            *_sketched(trips.whole),
        )
        for (caller, answerer), trips in sorted(
            fold.trips.pairs.items(), key=lambda item: (-item[1].seen, item[0])
        )
    ]
    columns = ("trip", "seen", "inferred", "reply_p50_cycles", *_SKETCH)
    note = (
        "A vCPU notified another, which notified it in turn before it slept again. Seen: both "
        "woke somebody. Inferred: one of the two made a hypercall that woke nobody, as the other "
        "side was awake; it may have been for something else. Times are of those seen: from the "
        "first hypercall to the second (reply), and until the vCPU that it woke ran."
    )
    return Table("round_trips", "Round trips", _frame(columns, rows), note)


def _wakes(fold: StockFold) -> Table:
    rows = [
        (
            pair.text,
            pair.means,
            fold.ports.of(pair),
            woken.count,
            woken.without_effect,
            woken.excluded or None,
            *_vectors(woken),
        )
        for pair, woken in _ordered(fold)
    ]
    columns = ("wake", "by", "ports", "count", "without_effect", "excluded", "injected", "vector")
    note = (
        "By program order on the pCPU: the last record that could have led to the wake-up. "
        "Xen: no record shows why (timers). Not known: the domain that ran has no hypercall in "
        "the capture. Without effect: the target did not sleep. Ports: "
        "those of the snapshots that connect the two."
    )
    return Table("wakes", "Wake-ups", _frame(columns, rows), note)


def _vectors(woken: Woken) -> tuple[int | None, str | None]:
    """Give how many entries had a vector injected, and the most frequent one."""
    if not woken.vectors:
        return None, None
    return woken.vectors.total(), f"{woken.vectors.most_common(1)[0][0]:#x}"


def _ordered(fold: StockFold) -> list[tuple[Pair, Woken]]:
    """Give the pairs, notifications first, then interrupts, other means, Xen; the most first."""

    def place(item: tuple[Pair, Woken]) -> tuple[int, int, str]:
        pair, woken = item
        ranks = (pair.by in EVENT_CHANNEL_OPS, pair.irq is not None, pair.by is not None, True)
        return ranks.index(True), -woken.count, pair.text

    calling = {key.vcpu >> 16 for key in fold.hypercalls.counts if key.vcpu is not None}
    return sorted(fold.wakes.pairs(calling).items(), key=place)


def _wake_steps(fold: StockFold) -> Table:
    rows = [
        (pair.text, pair.means, step.value, woken.steps[step].count, *_sketched(woken.steps[step]))
        for pair, woken in _ordered(fold)
        for step in WakeStep
        if step in woken.steps
    ]
    columns = ("wake", "by", "step", "count", *_SKETCH)
    note = (
        "The trigger is the record of the hypercall, the VM exit, or the start of the interrupt. "
        "A PV guest's upcall leaves no record: it began before the guest's next one."
    )
    return Table("wake_steps", "Steps of wake-ups", _frame(columns, rows), note)


def _hypercalls(fold: StockFold) -> Table:
    calls = fold.hypercalls
    keys = sorted(
        calls.counts,
        key=lambda key: (
            key.op not in EVENT_CHANNEL_OPS,
            vcpu_name(key.vcpu),
            -calls.counts[key],
            key.op,
        ),
    )
    rows = [
        (
            vcpu_name(key.vcpu),
            key.op,
            hypercall_name(key.op),
            calls.counts[key],
            calls.descheduled[key] or None,
            key.timing.value,
            *_sketched(calls.sketches.get(key)),
        )
        for key in keys
    ]
    columns = ("vcpu", "number", "hypercall", "count", "descheduled", "time_is", *_SKETCH)
    note = (
        "Entries: a preempted hypercall is recorded again. Exact times are from VM exit to VM "
        "entry. A PV hypercall has no record at its end: it took at most until the vCPU's next "
        "record as a guest, its own execution included. Calls in which the vCPU lost its pCPU "
        "(descheduled) or records were lost are not measured."
    )
    return Table("hypercalls", "Hypercalls", _frame(columns, rows), note)


def _run_queue(fold: StockFold) -> Table:
    rows = []
    for vcpu, queued in sorted(fold.waits.vcpus.items()):
        for holder, held in sorted(queued.by_holder.items(), key=lambda item: -item[1].cycles):
            share = held.cycles / queued.cycles
            rows.append(
                (vcpu_name(vcpu), holder, held.waits, held.cycles, share, held.max, held.max_at)
            )
    columns = ("vcpu", "held_by", "waits", "total_cycles", "share", "max_cycles", "max_at_tsc")
    note = (
        "Time from runnable to running, by who had the pCPU on which the vCPU then ran. Idle: the "
        "pCPU had yet to be told or to wake up. Xen: between two vCPUs."
    )
    return Table("run_queue", "Time in the run queue", _frame(columns, rows), note)


def _vcpus(fold: StockFold) -> Table:
    rows = [
        (
            vcpu_name(number),
            vcpu.stints,
            *vcpu.cycles,
            vcpu.excluded or None,
            *_waited(fold, number),
        )
        for number, vcpu in sorted(fold.machine.vcpus.items())
    ]
    states = tuple(f"{state.name.lower()}_cycles" for state in Runstate)
    waits = ("wait_p50_cycles", "wait_p99_cycles", "wait_max_cycles", "max_at_tsc")
    columns = ("vcpu", "runs", *states, "excluded_cycles", *waits)
    note = (
        "From the first change of runstate to the last. Excluded: while records were lost. "
        "Waits are from runnable to running."
    )
    return Table("vcpus", "vCPUs", _frame(columns, rows), note)


def _waited(fold: StockFold, vcpu: int) -> tuple[int | None, ...]:
    if vcpu not in fold.waits.vcpus:
        return (None,) * 4
    waits = fold.waits.vcpus[vcpu].whole
    return waits.quantile(0.5), waits.quantile(0.99), waits.max, waits.max_at


def _gaps(gaps: Gaps, extent: tuple[int, int] | None) -> Table:
    note = (
        "Xen dropped records for want of buffer. Wake-ups, waits and round trips that reach into "
        "such a time on any pCPU are excluded; so are calls of that pCPU."
    )
    return Table("gaps", "Lost windows", gaps.frame(extent), note)


def _tsc_skew(fold: StockFold) -> Table:
    note = (
        "Changes of runstate of a vCPU that do not start where the one before ended. Two that "
        "make sense the other way round tell whose TSC is ahead, and by at least how much. If "
        "both seem to be, the skew varies or is longer than what lies between two changes. "
        "Nothing was repaired: times across the two pCPUs err by it."
    )
    return Table("tsc_skew", "TSCs that disagree", fold.machine.order.frame(), note)


def verdict_sentence(fold: StockFold, tsc_hz: int | None) -> str:
    """Say in a sentence or two what a stock capture shows of event channels."""
    counts = fold.hypercalls.counts
    calls = {key: count for key, count in counts.items() if key.op in EVENT_CHANNEL_OPS}
    callers = {key.vcpu for key in calls if key.vcpu is not None}
    parts = [_calls(sum(calls.values()), len(callers), counts.total())]
    parts += _most_woken(fold)
    parts += _most_trips(fold)
    if runs := fold.wakes.all.steps.get(WakeStep.TO_RUN):
        times = (f"{name} {_time(value, tsc_hz)}" for name, value in _p50_p99_max(runs))
        parts.append(f"wake→running {', '.join(times)}")
    if odd := fold.machine.order.odd:
        parts.append(
            f"the pCPUs' TSCs disagree: {count_of(odd, 'change')} of runstate out of order"
        )
    return "; ".join(parts) + "."


def _calls(calls: int, callers: int, of: int) -> str:
    if not of:
        return "No hypercall was captured"
    if not calls:
        return f"No event-channel hypercall among {count_of(of, 'hypercall')}"
    by = f" by {count_of(callers, 'vCPU')}" if callers else ""
    return count_of(calls, "event-channel hypercall") + by


def _most_woken(fold: StockFold) -> list[str]:
    notified = [item for item in _ordered(fold) if item[0].by in EVENT_CHANNEL_OPS]
    across = [item for item in notified if item[0].is_across_domains]
    for pair, woken in (across or notified)[:1]:
        source, _, target = pair.text.partition("→")
        return [f"{source} woke {target} {count_of(woken.count, 'time')}"]
    return []


def _most_trips(fold: StockFold) -> list[str]:
    pairs = fold.trips.pairs
    if not pairs:
        return []
    pair = max(pairs, key=lambda pair: pairs[pair].seen)
    trips = pairs[pair]
    inferred = f" and {trips.inferred:,} inferred" if trips.inferred else ""
    return [f"{count_of(trips.seen, 'round trip')} {_trip(*pair)} seen{inferred}"]


def _trip(caller: int, answerer: int) -> str:
    return f"{vcpu_name(caller)}→{vcpu_name(answerer)}→{vcpu_name(caller)}"


def _p50_p99_max(sketch: Sketch) -> list[tuple[str, int]]:
    values = (("p50", sketch.quantile(0.5)), ("p99", sketch.quantile(0.99)), ("max", sketch.max))
    return [(name, value) for name, value in values if value is not None]


def _time(cycles: int, tsc_hz: int | None) -> str:
    return f"{cycles:,} cycles" if tsc_hz is None else duration(round(cycles * 1e9 / tsc_hz))
