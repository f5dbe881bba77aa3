"""xentrace alone on a real Xen: what the exerciser did is in its records, as far as they go."""

from pathlib import Path

import polars as pl
import pytest

from evtrace.api import Trace
from evtrace.commands.import_ import import_
from evtrace.xen.abi import HYPERVISOR_event_channel_op
from tests.lab.told import OPS, Step, read_steps

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def stock(ran, tmp_path_factory) -> tuple[Path, Trace]:
    """The results' folder, the trace made of them."""
    folder = ran("stock").folder
    output = tmp_path_factory.mktemp("stock") / "stock.bin"
    import_(
        output=output,
        xentrace=folder / "xentrace.bin",
        lsevtchn=[str(folder / "before.lsevtchn.txt")],
        debug_keys=[str(folder / "before.debugkeys.txt")],
        xen_version="4.17",
        timing="emulated-cpu",
    )
    return folder, Trace(output)


@pytest.mark.parametrize(
    ("dom", "name", "sends"), [(0, "dom0.self", 40), (0, "u1.call", 10), (1, "u1.serve", 10)]
)
def test_each_step_made_a_hypercall(stock, dom: int, name: str, sends: int):
    folder, trace = stock
    steps = [step for step in read_steps(folder / f"{name}.txt") if step.name in OPS]
    calls = trace.timeline().filter(
        pl.col("kind") == "hypercall",
        pl.col("op") == HYPERVISOR_event_channel_op,
        pl.col("dom") == dom,
    )
    times = calls.collect()["tsc_lo"].to_list()
    assert sends == sum(step.name == "send" for step in steps)
    assert [] == [step for step in steps if not _holds(step, times)]


def _holds(step: Step, times: list[int]) -> bool:
    return any(step.before <= time <= step.after for time in times)


def test_xentrace_alone_is_level_c1_with_nothing_damaged(stock, log):
    _, trace = stock
    survey = trace.reader.survey
    hypercalls = trace.replay().uncovered
    log(
        f"stock: level {trace.level}, {survey.records} records, {hypercalls} hypercalls on channels"
    )
    assert ("C1", [], []) == (trace.level, list(trace.reader.damage), survey.lost)
