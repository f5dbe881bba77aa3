"""`evtrace cut`: a slice of a trace to share, which is itself a trace."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evtrace.commands.options import (
    Around,
    Doms,
    From,
    Kinds,
    Ports,
    To,
    TracePath,
    XenProfile,
    warn_of_damage,
)
from evtrace.commands.progress import open_trace
from evtrace.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from evtrace.api import Trace
    from evtrace.replay.belief import Belief
    from evtrace.tracefile.cutting import Slice
    from evtrace.tracefile.selection import Selection


def cut(
    trace: TracePath,
    output: Annotated[Path, typer.Option("-o", "--output", help="The trace to write.")],
    tsc_from: From = None,
    tsc_to: To = None,
    around: Around = None,
    doms: Doms = None,
    ports: Ports = None,
    kinds: Kinds = None,
    xen: XenProfile = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output.")] = False,
) -> None:
    """Write a slice of a trace as a trace: it replays, and its runs have the same causes or none.

    --from, --to and --around say from where to where; a few records more are kept where a call
    would be parted. --dom, --port and --kind leave out other records that a replay can do without.
    """
    from evtrace.tracefile.cutting import write_slice  # noqa: PLC0415
    from evtrace.tracefile.selection import make_selection  # noqa: PLC0415

    narrowing = (doms, ports, kinds, tsc_from, tsc_to, around)
    if all(option is None for option in narrowing):
        message = "say what to keep: --from, --to, --around, --dom, --port or --kind"
        raise UsageError(message)
    with open_trace(trace, "replaying") as opened:
        wanted = make_selection(opened.reader, *narrowing)
        piece = make_slice(opened, wanted, xen)
        done = write_slice(opened.reader, output, piece, force=force)
        warn_of_damage(trace, opened.reader.damage)
    print(f"{output}: {done.records:,} records, TSC {done.start} to {done.end}")  # noqa: T201


def make_slice(opened: "Trace", wanted: "Selection", xen: str | None) -> "Slice":
    """Find where the slice begins and ends, and how the channels stand when it begins."""
    from evtrace.replay.follow import Follow  # noqa: PLC0415
    from evtrace.timeline import Row  # noqa: PLC0415
    from evtrace.tracefile.boundary import Watch, Wholes, whole_rows  # noqa: PLC0415
    from evtrace.tracefile.cutting import Slice  # noqa: PLC0415

    first, last = _range(opened, wanted)
    rows = (
        row
        for batch in opened.batches()
        for row in map(Row._make, batch.filter(whole_rows()).iter_rows())
    )
    first, last = Wholes(rows, first, last).widened()
    follow = Follow(opened.belief(xen), opened.coverage)
    watch = Watch(opened.rows())
    follow.follow(watch.until(first))
    known = [dom for dom in sorted(follow.belief.machine.domains) if _is_known(follow.belief, dom)]
    belief = follow.belief
    return Slice(
        first,
        last,
        _kept(wanted),
        watch.settle(),
        {dom: int(belief.machine.domains[dom].fifo is not None) for dom in known},
        lambda tsc: _snapshot(belief, known, tsc),
    )


def _range(opened: "Trace", wanted: "Selection") -> tuple[int, int]:
    """Give the `seq` of the first and the last record in the wanted time."""
    from dataclasses import replace  # noqa: PLC0415

    import polars as pl  # noqa: PLC0415

    from evtrace.tracefile.family import FACTS_STREAM  # noqa: PLC0415

    none = frozenset[int]()
    in_time = replace(wanted, doms=none, ports=frozenset(), kinds=frozenset()).expr()
    found: list[int] = []
    for batch in opened.reader.batches():
        part = batch.filter(in_time & (pl.col("pcpu") != FACTS_STREAM))["seq"]
        if len(part):
            found = [found[0] if found else int(part[0]), int(part[-1])]
    if not found:
        message = f"{opened.reader.path}: no record lies in that part of the trace"
        raise UsageError(message)
    return found[0], found[1]


def _kept(wanted: "Selection") -> "pl.Expr":
    """Select the records that stay: the wanted ones, and all that a replay needs."""
    from dataclasses import replace  # noqa: PLC0415

    import polars as pl  # noqa: PLC0415

    from evtrace.replay.follow import FOLLOWED_KINDS  # noqa: PLC0415
    from evtrace.tracefile.cutting import tells_who_runs  # noqa: PLC0415

    if not (wanted.doms or wanted.ports or wanted.kinds):
        return pl.lit(value=True)
    needed = pl.col("kind").is_in(FOLLOWED_KINDS) | tells_who_runs()
    chosen = replace(wanted, tsc_from=None, tsc_to=None, seqs=None).expr()
    return needed.fill_null(value=False) | chosen.fill_null(value=False)


def _is_known(belief: "Belief", dom: int) -> bool:
    """Tell whether all ports of a domain are known, and what each is bound to."""
    ports = belief.machine.domains[dom].ports
    return belief.knows(dom) and not any(belief.is_assumed((dom, port.number)) for port in ports)


def _snapshot(belief: "Belief", doms: list[int], tsc: int) -> Iterator[bytes]:
    from evtrace.tracefile.channels import encode_channels  # noqa: PLC0415
    from evtrace.tracefile.family import FactKey, SnapshotSource  # noqa: PLC0415
    from evtrace.tracefile.records import encode_fact  # noqa: PLC0415

    for dom in doms:
        yield encode_fact(FactKey.SNAPSHOT, dom, 0, SnapshotSource.REPLAY, tsc=tsc)
        yield from encode_channels(belief.machine.domains[dom], tsc, belief.host_irqs)
