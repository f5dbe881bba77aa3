"""Coverage: which classes of records were captured, for whom and when.

A verdict names the classes that it needed. Where one of them has a gap, the verdict is withheld and
the gap is its reason.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evtrace.timeline import RecordClass

if TYPE_CHECKING:
    import polars as pl

STOCK_CLASSES = RecordClass.HYPERCALL | RecordClass.SCHED | RecordClass.HVM | RecordClass.IRQ
"""Classes that stock xentrace can hold; they cover every domain at once."""

_LEVELS = (
    ("C5", RecordClass.CALL | RecordClass.UPCALL | RecordClass.HANDLER | RecordClass.MEMORY
     | RecordClass.QUEUE | RecordClass.RAISE),
    ("C4", RecordClass.CALL | RecordClass.UPCALL | RecordClass.HANDLER),
    ("C3", RecordClass.CALL),
)  # fmt: skip

_NAMES = {
    RecordClass.CALL: "calls",
    RecordClass.UPCALL: "upcalls",
    RecordClass.HANDLER: "handler runs",
    RecordClass.MEMORY: "shared-memory accesses",
    RecordClass.QUEUE: "queue accesses",
    RecordClass.EOI: "driver verdicts",
    RecordClass.RAISE: "VIRQ raises",
    RecordClass.IRQ: "interrupts",
    RecordClass.SCHED: "scheduling",
    RecordClass.HVM: "VM exits",
    RecordClass.HYPERCALL: "hypercalls",
}


@dataclass(frozen=True, slots=True)
class Coverage:
    """`classes` were captured for a domain (None: all) and vCPU (None: all) from lo to hi."""

    dom: int | None
    vcpu: int | None
    classes: RecordClass
    tsc_lo: int
    tsc_hi: int
    """Host TSC cycles."""


class CoverageMap:
    """The coverage of a whole trace."""

    def __init__(self, entries: Iterable[Coverage]) -> None:
        """Hold `entries`."""
        self.entries = list(entries)

    def missing(self, dom: int, classes: RecordClass, lo: int, hi: int) -> str | None:
        """Say in words which of `classes` was not captured of `dom` in all of [lo, hi].

        None if everything was. Intervals of one class that touch each other count as one.
        """
        for wanted in classes:
            spans = sorted(
                (entry.tsc_lo, entry.tsc_hi)
                for entry in self.entries
                if wanted in entry.classes and entry.dom in {None, dom}
            )
            if not spans:
                return f"{_NAMES[wanted]} of d{dom} were not captured"
            gap = _first_gap(spans, lo, hi)
            if gap is not None:
                return f"{_NAMES[wanted]} of d{dom} were not captured at {gap}"
        return None

    def domains(self) -> list[int]:
        """Name the domains that something other than stock records covers."""
        return sorted(
            {
                entry.dom
                for entry in self.entries
                if entry.dom is not None and entry.classes & ~STOCK_CLASSES
            },
        )

    def classes(self, dom: int | None = None) -> RecordClass:
        """Give the classes captured of `dom` at any time; of any domain if None."""
        found = RecordClass(0)
        for entry in self.entries:
            if dom is None or entry.dom in {None, dom}:
                found |= entry.classes
        return found

    def level(self, dom: int | None = None) -> str:
        """Give the level C0..C5 of what was captured of `dom` (of any domain if None)."""
        classes = self.classes(dom)
        for name, needed in _LEVELS:
            if needed in classes:
                return name
        return "C1" if classes & STOCK_CLASSES else "C0"

    def overall_level(self, doms: Iterable[int] = ()) -> str:
        """Give the lowest level of the domains asked about; of those covered if none is named."""
        return min((self.level(dom) for dom in doms or self.domains()), default=self.level())

    def frame(self) -> "pl.DataFrame":
        """Give a row an entry: `dom`, `vcpu`, `classes`, `tsc_lo`, `tsc_hi`."""
        import polars as pl  # noqa: PLC0415  a replay without tables needs none

        columns = {
            "dom": pl.UInt16,
            "vcpu": pl.UInt16,
            "classes": pl.UInt32,
            "tsc_lo": pl.Int64,
            "tsc_hi": pl.Int64,
        }
        rows = [(e.dom, e.vcpu, int(e.classes), e.tsc_lo, e.tsc_hi) for e in self.entries]
        return pl.DataFrame(rows, columns, orient="row")


def _first_gap(spans: list[tuple[int, int]], lo: int, hi: int) -> int | None:
    """Give the first time in [lo, hi] that no span holds."""
    reached = lo
    for first, last in spans:
        if first > reached:
            return reached
        if last >= hi:
            return None
        reached = max(reached, last)
    return reached
