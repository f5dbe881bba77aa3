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

    def __bool__(self) -> bool:
        """Tell whether there is any snapshot."""
        return bool(self._domains)

    def of(self, pair: Pair) -> str | None:
        """Name the one port that fits a pair, or how many do; None where no snapshot could tell."""
        if pair.waker is not None and pair.by not in EVENT_CHANNEL_OPS:
            return None
        dom, vcpu = divmod(pair.target, 1 << 16)
        if dom not in self._domains:
            return self._from_sender(pair, dom) if pair.waker is not None else None
        own = [c for c in self._domains[dom].values() if c.vcpu == vcpu]
        return _only(list(_fitting(pair, dom, own)))

    def _from_sender(self, pair: Pair, dom: int) -> str | None:
        """Fall back on the sender's snapshot, which does not tell the receiving vCPU."""
        sender = (pair.waker or 0) >> 16
        if sender not in self._domains:
            return None
        return _only(
            [
                f"d{sender}:{channel.port}→d{dom}:{channel.peer_port}"
                for channel in self._domains[sender].values()
                if channel.state is PortState.INTERDOMAIN and channel.peer == dom
            ]
        )


def _fitting(pair: Pair, dom: int, own: list[SeenChannel]) -> Iterable[str]:
    """Give the ports of the target's vCPU that such a waker can set."""
    sender = None if pair.waker is None else pair.waker >> 16
    for channel in own:
        here = f"d{dom}:{channel.port}"
        match channel.state:
            case PortState.INTERDOMAIN if channel.peer == sender:
                yield f"d{sender}:{channel.peer_port}→{here}"
            case PortState.IPI if sender == dom:
                yield here
            case PortState.PIRQ if pair.irq is not None and channel.peer_port == pair.irq:
                yield here
            case PortState.VIRQ if sender is None and pair.irq is None:
                yield here


def _only(ports: list[str]) -> str:
    if not ports:
        return "none"
    return ports[0] if len(ports) == 1 else f"{len(ports)} ports"
