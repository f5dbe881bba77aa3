"""What the exerciser says it did, held against the calls in a trace."""

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from evtrace.api import Trace
from evtrace.xen.abi import EvtchnOp

OPS = {
    "allocate": EvtchnOp.ALLOC_UNBOUND,
    "bind": EvtchnOp.BIND_INTERDOMAIN,
    "send": EvtchnOp.SEND,
    "close": EvtchnOp.CLOSE,
}
"""The steps that are one EVTCHNOP each."""


class Step(NamedTuple):
    """One line of the exerciser: a step, its port (0: none) and result, the TSC around it."""

    name: str
    port: int
    result: int
    before: int
    after: int


class Call(NamedTuple):
    """One recorded call: from the earliest it may have started to the latest it may have ended."""

    start: int
    end: int
    op: int
    port: int | None
    rc: int | None


def read_steps(path: Path) -> list[Step]:
    """Read what the exerciser wrote."""
    lines = (line.split() for line in path.read_text().splitlines())
    return [Step(name, *map(int, numbers)) for name, *numbers in lines]


def calls_of(trace: Trace, dom: int) -> list[Call]:
    """Give the calls of a domain with their results, the earliest first."""
    rows = trace.timeline().filter(pl.col("dom") == dom)
    enters = rows.filter(pl.col("kind") == "call_enter")
    exits = rows.filter(pl.col("kind") == "call_exit")
    given = pl.col("op").is_in([EvtchnOp.SEND, EvtchnOp.CLOSE])
    calls = enters.join(exits, on="call_id", suffix="_exit").select(
        "tsc_lo",
        "tsc_hi_exit",
        "op",
        pl.when(given).then("a0").otherwise("a0_exit"),
        "rc_exit",
    )
    return sorted(map(Call._make, calls.collect().rows()))


def unseen(steps: Sequence[Step], calls: Sequence[Call], offset: tuple[int, int]) -> list[Step]:
    """Give the steps to which no call with that operation, port and result was recorded in time.

    `offset` turns the exerciser's TSC into the host's: the least and the most to be added.
    """
    starts = [call.start for call in calls]
    missing = []
    for step in steps:
        if step.name not in OPS:
            continue
        low, high = step.before + offset[0], step.after + offset[1]
        first = bisect_left(starts, low - (offset[1] - offset[0]))
        last = bisect_left(starts, high)
        if not any(_same(step, call) and call.end <= high for call in calls[first:last]):
            missing.append(step)
    return missing


def _same(step: Step, call: Call) -> bool:
    if (OPS[step.name], step.result) != (call.op, call.rc):
        return False
    return step.port == call.port or not step.port
