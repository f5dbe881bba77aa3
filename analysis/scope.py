"""Which part of a trace a report is about."""

from dataclasses import dataclass
from typing import Self

import polars as pl

from evtrace.tracefile.selection import Selection


@dataclass(frozen=True, slots=True)
class Scope:
    """A part of a trace; empty means all."""

    doms: frozenset[int] = frozenset()
    ports: frozenset[tuple[int, int]] = frozenset()
    tsc_from: int | None = None
    tsc_to: int | None = None
    seqs: tuple[int, int] | None = None

    @classmethod
    def of(cls, selection: Selection) -> Self:
        """Take what a selection of records says, but for their kinds."""
        times = selection.tsc_from, selection.tsc_to, selection.seqs
        return cls(selection.doms, selection.ports, *times)

    @property
    def is_whole(self) -> bool:
        """Whether upcalls, which belong to a vCPU and not to a port, can be counted in it."""
        limits = self.tsc_from, self.tsc_to, self.seqs
        return not self.ports and all(limit is None for limit in limits)

    @property
    def asked_doms(self) -> frozenset[int]:
        """Domains that are asked about, directly or by a port; empty: all."""
        return self.doms or frozenset(dom for dom, _ in self.ports)

    def of_runs(self) -> pl.Expr:
        """Give the filter for tables of local ports: runs, moves."""
        return self._filter([("dom", "port")])

    def of_sends(self) -> pl.Expr:
        """Give the filter for the table of sends: either end counts."""
        return self._filter([("dom", "port"), ("to_dom", "to_port")])

    def _filter(self, ends: list[tuple[str, str]]) -> pl.Expr:
        wanted = pl.lit(value=True)
        if self.doms:
            wanted &= pl.any_horizontal(pl.col(dom).is_in(sorted(self.doms)) for dom, _ in ends)
        if self.ports:
            wanted &= pl.any_horizontal(
                (pl.col(dom) == d) & (pl.col(port) == p)
                for dom, port in ends
                for d, p in sorted(self.ports)
            )
        if self.tsc_from is not None:
            wanted &= pl.col("tsc") >= self.tsc_from
        if self.tsc_to is not None:
            wanted &= pl.col("tsc") <= self.tsc_to
        if self.seqs is not None:
            wanted &= pl.col("seq").is_between(*self.seqs)
        return wanted
