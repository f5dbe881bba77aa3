"""Ports joined from a snapshot: which could have carried a notification that woke somebody."""

from collections import defaultdict
from collections.abc import Iterable

import polars as pl

from evtrace.analysis.stock.steps import EVENT_CHANNEL_OPS
from evtrace.analysis.stock.wakes import Pair
from evtrace.replay.snapshots import SeenChannel, SeenDomain, SnapshotCollector
from evtrace.timeline import Kind, Row, schema
from evtrace.xen.abi import PortState


class Ports:
    """The channels that the snapshots of a trace show, of whatever time."""

    def __init__(self) -> None:
        """Start with no snapshot."""
        self._collector = SnapshotCollector()
        self._domains: dict[int, dict[int, SeenChannel]] = defaultdict(dict)

    def take(self, batch: pl.DataFrame) -> None:
        """Take what a batch holds of snapshots."""
        kinds = [int(Kind.CHANNEL), int(Kind.FACT)]
        rows = batch.filter(pl.col("kind").is_in(kinds))
        if rows.is_empty():
            return
        for row in map(Row._make, rows.select(schema().names()).iter_rows()):
            self._collector.take(row)
        for domains in self._collector.finished():
            for seen in domains:
                self._add(seen)

    def _add(self, seen: SeenDomain) -> None:
        self._domains[seen.dom] |= {channel.port: channel for channel in seen.channels}

    def of(self, pair: Pair) -> str | None:
        """Name the one port that fits a pair, or how many do; None where no snapshot could tell."""
        other_means = pair.by is not None and pair.by not in EVENT_CHANNEL_OPS
        if other_means or pair.suspect is not None:
            return None
        dom, vcpu = divmod(pair.target, 1 << 16)
        sender = None if pair.waker is None else pair.waker >> 16
        theirs = [] if sender is None else list(self._domains.get(sender, {}).values())
        if dom in self._domains:
            own = [c for c in self._domains[dom].values() if c.vcpu == vcpu]
            found = [*_fitting(pair, dom, own)]
        elif theirs:  # they do not tell which vCPU receives
            led = [c for c in theirs if c.state is PortState.INTERDOMAIN and c.peer == dom]
            found = [f"d{sender}:{c.port}→d{dom}:{c.peer_port}" for c in led]
        else:
            return None
        offered = [c for c in theirs if c.state is PortState.UNBOUND and c.peer == dom]
        found += [f"d{sender}:{c.port}→d{dom} once bound" for c in offered]
        return found[0] if len(found) == 1 else f"{len(found)} ports" if found else "none"


def _fitting(pair: Pair, dom: int, own: list[SeenChannel]) -> Iterable[str]:
    """Give the ports of the target's vCPU that such a waker can set."""
    sender = None if pair.waker is None else pair.waker >> 16
    for channel in own:
        here = f"d{dom}:{channel.port}"
        match channel.state:
            case PortState.INTERDOMAIN if channel.peer == sender:
                yield f"d{sender}:{channel.peer_port}→{here}"
            case PortState.UNBOUND if channel.peer == sender:
                yield f"d{sender}→{here} once bound"
            case PortState.IPI if sender == dom:
                yield here
            case PortState.PIRQ if pair.irq is not None and channel.peer_port == pair.irq:
                yield here
            case PortState.VIRQ if pair.by is None and pair.irq is None:
                yield here
