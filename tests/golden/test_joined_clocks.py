"""Across two clocks: a domain's TSC is shifted, and what was true before lies in each interval."""

import re
from pathlib import Path

import polars as pl
import pytest
import zstandard

from evtrace.api import Trace
from evtrace.commands.import_ import import_
from tests.conftest import SOURCES

SHIFT = 2_000_000_123
STAMP = re.compile(r"^(.{20,45}?\s)(\d{9,15})(?=: )", re.MULTILINE)


def shifted(source: Path, target: Path) -> str:
    """Set the clock of an ftrace text back."""
    with zstandard.open(source, "rt", encoding="utf-8") as stream:
        text, count = STAMP.subn(lambda m: f"{m[1]}{int(m[2]) - SHIFT}", stream.read())
    assert count > 100
    target.write_text(text)
    return str(target)


@pytest.fixture(scope="module", params=["pv_fifo_evpp5", "pv_fifo_blog", "pv_2l_evpp5"])
def two_clocks(request, imported, tmp_path_factory):
    """Give a capture, and the same as if its domU had a clock of its own."""
    source, folder = SOURCES / request.param, tmp_path_factory.mktemp("clocks")
    import_(
        output=folder / "shifted.bin",
        xentrace=source / "xentrace.bin.zst",
        ftrace=[
            f"0={source / 'dom0.ftrace.txt.zst'}",
            f"1={shifted(source / 'dom1.ftrace.txt.zst', folder / 'dom1.txt')}",
        ],
        debug_keys=[str(source / "before.debugkeys.txt")],
        lsevtchn=[str(source / "before.lsevtchn.txt")],
    )
    with Trace(imported(request.param)) as true, Trace(folder / "shifted.bin") as joined:
        yield true, joined


def test_the_shift_lies_in_the_interval_found(two_clocks):
    lo, hi = two_clocks[1].facts.clock_offsets[1]

    assert lo <= SHIFT <= hi


def test_every_latency_lies_in_its_interval(two_clocks):
    """A run is known by its place among the runs of its port, for `seq` differs."""
    true, joined = (
        trace.latencies()
        .join(
            trace.runs().select(
                "seq", "dom", "port", number=pl.int_range(pl.len()).over("dom", "port")
            ),
            on="seq",
        )
        .select("channel", "stage", "dom", "port", "number", "latency_ns", "uncertainty_ns")
        .collect()
        for trace in two_clocks
    )
    pairs = true.join(joined, on=["channel", "stage", "dom", "port", "number"], suffix="_joined")
    off = (pl.col("latency_ns") - pl.col("latency_ns_joined")).abs()
    across = pairs.filter(pl.col("uncertainty_ns_joined") > 0)

    assert pairs.height > 100
    assert {"send→handler", "pending→upcall"} <= set(across["stage"])
    assert pairs.filter(off > pl.col("uncertainty_ns_joined") + 1).rows() == []
