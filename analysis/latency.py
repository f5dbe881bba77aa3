"""Latencies per stage: from the send to the driver's end, from the tables of runs and sends."""

from collections.abc import Mapping
from enum import StrEnum, unique

import polars as pl

from evtrace.timeline import HOST_CLOCK
from evtrace.verdicts import ContributionKind

STAGES = (
    "bind→run",
    "send→pending",
    "pending→upcall",
    "send→upcall",
    "upcall→handler",
    "send→handler",
    "handler→EOI",
    "EOI→unmask",
    "handler→unmask",
)
"""From the call to Xen's record of it, after which the bit is pending; to the upcall that the
target's vCPU takes; to the handler's entry; to the driver's EOI; to the port's unmasking.
send→upcall is given where no record tells when the bit was set, handler→unmask where no EOI was
seen; send→handler is the whole way."""

SENT = (ContributionKind.SEND.value, ContributionKind.IPI.value)
"""Kinds of contributions that a hypercall of some vCPU made."""

_DIMENSIONS = ("dom", "port", "vcpu", "device", "from_dom", "from_port", "from_vcpu", "kind")


LATENCY_TABLE = pl.Schema(
    {
        "seq": pl.UInt64,
        "channel": pl.String,
        "stage": pl.String,
        "tsc": pl.Int64,
        "cycles": pl.Int64,
        "uncertainty_cycles": pl.Int64,
        "latency_ns": pl.Int64,
        "uncertainty_ns": pl.Int64,
    },
)
"""One row a measured stage: `seq` is the run's, `tsc` the stage's end."""


@unique
class GroupBy(StrEnum):
    """What the measured stages are summed up by."""

    CHANNEL = "channel"
    PORT = "port"
    DOM = "dom"
    VCPU = "vcpu"
    DEVICE = "device"


def latency_table(stages: pl.DataFrame, tsc_hz: int | None) -> pl.DataFrame:
    """Give `stage_times` by `LATENCY_TABLE`, in order of time."""
    return (
        stages.with_columns(
            group(GroupBy.CHANNEL).alias("channel"),
            nanoseconds("cycles", tsc_hz),
            nanoseconds("uncertainty", tsc_hz),
        )
        .rename({"cycles_ns": "latency_ns", "uncertainty": "uncertainty_cycles"})
        .sort("tsc", "seq", maintain_order=True)
        .select(LATENCY_TABLE.names())
    )


def with_devices(runs: pl.DataFrame, irq_names: Mapping[tuple[int, int], str]) -> pl.DataFrame:
    """Put beside each run its `device`: the name of its irq, by (domain, irq)."""
    rows = [(dom, irq, name) for (dom, irq), name in irq_names.items()]
    schema = {"dom": pl.UInt16, "irq": pl.Int32, "device": pl.String}
    devices = pl.DataFrame(rows, schema, orient="row")
    return runs.join(devices, on=["dom", "irq"], how="left", maintain_order="left")


def latencies(
    stages: pl.DataFrame,
    tsc_hz: int | None,
    group_by: GroupBy = GroupBy.CHANNEL,
) -> pl.DataFrame:
    """Summarise `stage_times`: how long each stage took, a row for each group and stage.

    Columns: the group (`channel`: `d1:8→d0:33`), `stage`, `count`, `mean_ns`, `p50_ns`, `p99_ns`,
    `p999_ns`, `max_ns`, `max_at_tsc`, `uncertainty_ns`: a latency across two clocks is the middle
    of an interval, and lies that much to either side of it. Nanoseconds are null where the TSC's
    frequency is not known.
    """
    return (
        stages.with_columns(group(group_by))
        .group_by("group", "stage")
        .agg(count=pl.len(), **quantiles())
        .sort("group", pl.col("stage").cast(pl.Enum(STAGES)))
        .select(pl.col("group").alias(group_by.value), "stage", "count", *in_ns(tsc_hz))
    )


def quantiles() -> dict[str, pl.Expr]:
    """Give the aggregations of `cycles`: mean, quantiles, maximum and where it was."""
    cycles = pl.col("cycles")
    return {
        "mean": cycles.mean(),
        "p50": cycles.quantile(0.5, "nearest"),
        "p99": cycles.quantile(0.99, "nearest"),
        "p999": cycles.quantile(0.999, "nearest"),
        "max": cycles.max(),
        "max_at_tsc": pl.col("tsc").get(cycles.arg_max()),
        "uncertainty": pl.col("uncertainty").max(),
    }


def in_ns(tsc_hz: int | None) -> list[pl.Expr]:
    """Give the columns of `quantiles` with cycles turned into nanoseconds."""
    return [
        pl.col("max_at_tsc") if name == "max_at_tsc" else nanoseconds(name, tsc_hz)
        for name in quantiles()
    ]


def nanoseconds(column: str, tsc_hz: int | None) -> pl.Expr:
    """Give a column of cycles as `{column}_ns`; null where the TSC's frequency is not known."""
    value = pl.lit(None) if tsc_hz is None else (pl.col(column) * 1_000_000_000 / tsc_hz).round()
    return value.cast(pl.Int64).alias(f"{column}_ns")


def group(by: GroupBy) -> pl.Expr:
    """Give the name of a row's `group`, from the dimensions of `stage_times`."""
    port, dom = _name("d{}:{}", "dom", "port"), _name("d{}", "dom")
    from_vcpu = _name("d{}v{}", "from_dom", "from_vcpu")
    match by:
        case GroupBy.CHANNEL:
            is_ipi = pl.col("kind") == ContributionKind.IPI.value
            from_port = _name("d{}:{}", "from_dom", "from_port")
            text = _way(pl.when(is_ipi).then(from_vcpu).otherwise(from_port), port)
        case GroupBy.PORT:
            text = port
        case GroupBy.DOM:
            text = _way(_name("d{}", "from_dom"), dom)
        case GroupBy.VCPU:
            text = _way(from_vcpu, _name("d{}v{}", "dom", "vcpu"))
        case GroupBy.DEVICE:
            text = pl.format("{} {}", dom, pl.col("device").fill_null("?"))
    return text.alias("group")


def _name(template: str, *columns: str) -> pl.Expr:
    return pl.format(template, *(pl.col(name).cast(pl.String).fill_null("?") for name in columns))


def _way(start: pl.Expr, end: pl.Expr) -> pl.Expr:
    """Name a way; one that no send began by what did, e.g. `bind→d0:33`."""
    other = pl.col("kind").str.to_lowercase()
    sent = pl.col("kind").is_in(SENT)
    return pl.format("{}→{}", pl.when(sent).then(start).otherwise(other), end)


def stage_times(
    runs: pl.DataFrame,
    sends: pl.DataFrame,
    clock_widths: Mapping[int, int],
) -> pl.DataFrame:
    """Give one row a measured stage: `seq` of the run, dimensions, `stage`, `cycles`, `tsc`.

    `runs` are those of `with_devices`. Dimensions: `dom`, `port`, `vcpu`, `device` of the run,
    `from_dom`, `from_port`, `from_vcpu` and `kind` of what provoked it. `tsc` is the end of the
    stage, `uncertainty` how far its cycles may be off to either side. `clock_widths` holds, for
    each domain with a clock of its own, how wide the interval is in which its offset lies.

    A run is measured from the oldest event that it answers. An upcall that began before the event
    was set gives no stage that ends there: the event met a vCPU that was scanning already.
    """
    rows = _explained(runs, sends, clock_widths)
    sent = pl.col("kind").is_in(SENT)
    recorded = pl.col("entered") < pl.col("pending")
    reached = pl.col("upcall_tsc") + pl.col("received_width") >= pl.col("pending")
    eoi, unmasked = pl.col("eoi_tsc").is_not_null(), pl.col("unmask_tsc").is_not_null()
    bound = pl.col("kind") == ContributionKind.BIND.value
    wanted = [
        _Stage("bind→run", "entered", "tsc", bound),
        _Stage("send→pending", "entered", "pending", sent & recorded),
        _Stage("pending→upcall", "pending", "upcall_tsc", sent & recorded & reached),
        _Stage("send→upcall", "pending", "upcall_tsc", sent & ~recorded & reached),
        _Stage("upcall→handler", "upcall_tsc", "tsc", sent & pl.col("upcall_tsc").is_not_null()),
        _Stage("send→handler", "entered", "tsc", sent),
        _Stage("handler→EOI", "tsc", "eoi_tsc", eoi),
        _Stage("EOI→unmask", "eoi_tsc", "unmask_tsc", eoi & unmasked),
        _Stage("handler→unmask", "tsc", "unmask_tsc", ~eoi & unmasked),
    ]
    return pl.concat([stage.measure(rows) for stage in wanted])


def _explained(
    runs: pl.DataFrame, sends: pl.DataFrame, clock_widths: Mapping[int, int]
) -> pl.DataFrame:
    """Put beside each run what provoked it first, and how wide the two clocks are."""
    first = pl.col("contributors").list.first().struct
    entries = sends.select(first_seq="seq", entered="entered_tsc")
    return (
        runs.with_columns(
            kind=pl.coalesce(first.field("kind"), "cause"),
            pending=first.field("tsc"),
            first_seq=first.field("seq"),
            from_dom=first.field("dom"),
            from_port=first.field("port"),
            from_vcpu=first.field("vcpu"),
        )
        .join(entries, on="first_seq", how="left", maintain_order="left")
        .with_columns(entered=pl.coalesce("entered", "pending"))
        .with_columns(_clocks(clock_widths))
    )


def _clocks(widths: Mapping[int, int]) -> list[pl.Expr]:
    """Give for each time the domain by whose clock it is, and how wide that clock's offset is.

    The sender's clock tells when it called, the host's when Xen recorded the call, the receiver's
    everything after it.
    """
    sender, receiver = pl.col("from_dom").cast(pl.Int32), pl.col("dom").cast(pl.Int32)
    recorded = pl.col("entered") < pl.col("pending")
    clocks = {
        "entered": sender,
        "pending": pl.when(recorded).then(pl.lit(HOST_CLOCK, pl.Int32)).otherwise(sender),
        "received": receiver,
    }
    wide = [clock.alias(f"{name}_clock") for name, clock in clocks.items()]
    return wide + [
        clock.replace_strict(dict(widths), default=0, return_dtype=pl.Int64).alias(f"{name}_width")
        if widths
        else pl.lit(0, pl.Int64).alias(f"{name}_width")
        for name, clock in clocks.items()
    ]


class _Stage:
    """One stage: its two times, and which runs have it."""

    def __init__(self, name: str, start: str, end: str, has: pl.Expr) -> None:
        self._name, self._start, self._end, self._has = name, start, end, has

    def measure(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Give the stage's rows: with both clocks' lower bounds, the middle is in between."""
        start, end = (
            time if time in {"entered", "pending"} else "received"
            for time in (self._start, self._end)
        )
        same = pl.col(f"{start}_clock") == pl.col(f"{end}_clock")
        early = pl.when(same).then(0).otherwise(f"{start}_width")
        late = pl.when(same).then(0).otherwise(f"{end}_width")
        return rows.filter(self._has).select(
            "seq",
            *_DIMENSIONS,
            stage=pl.lit(self._name),
            cycles=pl.col(self._end) - pl.col(self._start) + (late - early) // 2,
            uncertainty=(late + early + 1) // 2,
            tsc=pl.col(self._end),
        )
