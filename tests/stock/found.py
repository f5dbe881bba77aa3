"""What the machine finds in a capture, one by one instead of summed up."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from evtrace.analysis.stock.chains import Chain, Round, Wait
from evtrace.analysis.stock.gaps import Gaps
from evtrace.analysis.stock.machine import Findings, Machine
from evtrace.analysis.stock.steps import Steps
from evtrace.tracefile.reader import open_trace
from evtrace.tracefile.rows import annotated

BATCH = 1 << 17


@dataclass
class Found:
    """All chains, waits and round trips; the machine after the last step."""

    machine: Machine
    chains: list[Chain] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)


def find(path: Path, batch: int = BATCH) -> Found:
    """Walk the trace at `path`, `batch` records at a time."""
    with open_trace(path) as reader:
        gaps = Gaps(reader.survey.lost, reader.survey.last_tscs)
        frames = pl.concat(annotated(reader)).iter_slices(batch)
        return walk(frames, gaps)


def walk(frames: Iterable[pl.DataFrame], gaps: Gaps) -> Found:
    """Walk frames of annotated records."""
    chains = list[Chain]()
    waits = list[Wait]()
    rounds = list[Round]()
    machine = Machine(gaps, Findings(chains.append, waits.append, rounds.append))
    steps = Steps()
    for frame in frames:
        machine.take(steps.of(frame))
    machine.finish()
    return Found(machine, chains, waits, rounds)


def vcpu(dom: int, number: int) -> int:
    """Pack a vCPU."""
    return dom << 16 | number
