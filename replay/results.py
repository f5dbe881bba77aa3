"""What a replay found: counts, runs, sends, divergences."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from evtrace.verdicts import (
    Cause,
    Divergence,
    EmptyUpcall,
    Fate,
    Finding,
    Move,
    Run,
    Send,
    UpcallVerdict,
    WorkCause,
    moves_schema,
    runs_schema,
    sends_schema,
    upcalls_schema,
)

if TYPE_CHECKING:
    import polars as pl


MAX_EMPTY_UPCALLS = 100_000
"""Empty upcalls that are kept one by one; all are counted."""


@dataclass(frozen=True, slots=True)
class SnapshotCheck:
    """A later snapshot held against the model's port table of that moment."""

    dom: int
    tsc: int
    channels: int
    differences: list[str]


@dataclass(slots=True)
class Results:
    """Everything one replay found.

    `compared + adopted + unknown + uncovered == hypercalls`: answers that were predicted and
    compared, that could not be predicted, calls without a result or arguments, and hypercall
    records without a captured call.
    """

    hypercalls: int = 0
    compared: int = 0
    adopted: int = 0
    unknown: int = 0
    uncovered: int = 0
    with_record: int = 0
    """Calls that a hypercall record of xentrace narrows."""
    adoptions: dict[str, int] = field(default_factory=dict)
    """Reason -> number of adopted answers."""
    uncovered_by_vcpu: Counter[tuple[int | None, int | None]] = field(default_factory=Counter)
    """(domain, vCPU), None where no scheduler record tells -> hypercall records without a call."""
    upcalls: Counter[int] = field(default_factory=Counter)
    """Domain -> upcalls seen."""
    empty_upcalls: Counter[int] = field(default_factory=Counter)
    """Domain -> upcalls in which no handler ran (L1)."""
    upcall_verdicts: Counter[tuple[int, UpcallVerdict]] = field(default_factory=Counter)
    """(domain, why) -> empty upcalls."""
    empty: list[EmptyUpcall] = field(default_factory=list)
    """The first `MAX_EMPTY_UPCALLS` of them."""
    runs: list[Run] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    divergences: list[Divergence] = field(default_factory=list)
    snapshot_checks: list[SnapshotCheck] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    """What is wrong and whose doing it is, the first place first."""

    @property
    def has_fault(self) -> bool:
        """Whether the hypervisor or a guest did what they must not."""
        return any(found.severity.is_trouble for found in self.findings)

    def withhold(self, reason: str) -> None:
        """Take back every verdict that rests on the order of records of different pCPUs."""
        for run in self.runs:
            run.cause, run.reason, run.evidence = Cause.UNKNOWN, reason, "observed"
            run.routes, run.contributors = (), []
            if run.work_cause is not None:
                run.work_cause, run.work_evidence = WorkCause.UNKNOWN, reason
        for send in self.sends:
            if send.fate is not Fate.SEND_INVALID or not (send.rc or 0) < 0:
                send.fate, send.reason = Fate.UNKNOWN, reason
                send.run_seq = send.polled_seq = None
                send.routes = ()
        unknown = UpcallVerdict.UNKNOWN
        self.empty = [replace(up, verdict=unknown, reason=reason) for up in self.empty]
        counts = self.empty_upcalls.items()
        self.upcall_verdicts = Counter({(dom, unknown): count for dom, count in counts})
        self.divergences.clear()

    def runs_frame(self) -> "pl.DataFrame":
        """Give the table of runs (`verdicts.runs_schema`)."""
        return _frame(self.runs, runs_schema())

    def sends_frame(self) -> "pl.DataFrame":
        """Give the table of sends (`verdicts.sends_schema`)."""
        return _frame(self.sends, sends_schema())

    def upcalls_frame(self) -> "pl.DataFrame":
        """Give the table of empty upcalls (`verdicts.upcalls_schema`)."""
        return _frame(self.empty, upcalls_schema())

    def moves_frame(self) -> "pl.DataFrame":
        """Give the table of granted EVTCHNOP_bind_vcpu (`verdicts.moves_schema`)."""
        return _frame(self.moves, moves_schema())


def _frame(rows: Sequence[object], schema: "pl.Schema") -> "pl.DataFrame":
    """Make a table of dataclass objects, a column a field; fields that hold objects are structs."""
    import polars as pl  # noqa: PLC0415  a replay without tables needs none

    columns = {
        name: _structs([getattr(row, name) for row in rows], kind.inner)
        if isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct)
        else [getattr(row, name) for row in rows]
        for name, kind in schema.items()
    }
    return pl.DataFrame(columns, schema)


def _structs(lists: Sequence[Sequence[object]], kind: "pl.Struct") -> "pl.Series":
    """Make a column of lists of objects, a struct each.

    All objects go into one table that is then parted: polars takes a table of its own for each
    list of dicts that it is given, ten times as slow.
    """
    import polars as pl  # noqa: PLC0415

    parts = [part for parts in lists for part in parts]
    fields_ = {f.name: [getattr(part, f.name) for part in parts] for f in kind.fields}
    lengths = pl.Series("length", [len(parts) for parts in lists], pl.UInt32)
    owner = pl.int_range(lengths.len(), dtype=pl.UInt32, eager=True).alias("owner")
    owned = pl.select(owner=owner.repeat_by(lengths).explode(empty_as_null=False))
    flat = pl.DataFrame(fields_, dict(kind.to_schema())).to_struct("part")
    filled = owned.with_columns(flat).group_by("owner", maintain_order=True).agg("part")
    joined = owner.to_frame().join(filled, on="owner", how="left", maintain_order="left")
    return joined["part"].fill_null(pl.Series([[]], dtype=pl.List(kind)))
