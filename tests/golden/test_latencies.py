"""Latencies of the captures of a real Xen: differences of the TSCs that the probes wrote."""

import polars as pl
import pytest

from evtrace.api import Trace
from tests.conftest import FTRACE_CAPTURES

WHOLE = {"pv_fifo_blog": 175, "pv_fifo_evpp5": 184, "pvh_blog": 196, "dom0_self20": 147}
"""Handler runs that answer a send or an IPI, each with its way from the call to the handler."""


@pytest.mark.parametrize("name", FTRACE_CAPTURES)
def test_a_way_is_as_long_as_the_probes_say(name, imported):
    with Trace(imported(name)) as trace:
        stages = trace.latencies().filter(pl.col("stage") == "send→handler").collect()
        first = pl.col("contributors").list.first().struct.field("seq")
        runs = trace.runs().select("seq", called_seq=first)
        times = trace.timeline().select("seq", "tsc_lo", "kind", "clock").collect()

    called = times.filter(pl.col("kind") == "call_enter").select(
        called_seq="seq", called="tsc_lo", caller="clock"
    )
    handled = times.filter(pl.col("kind") == "handler_enter").select(
        "seq", handled="tsc_lo", handler="clock"
    )
    ways = stages.join(runs.collect(), on="seq").join(called, on="called_seq")
    one_clock = ways.join(handled, on="seq").filter(pl.col("caller") == pl.col("handler"))

    assert WHOLE[name] == stages.height
    assert one_clock.height > 100
    assert (one_clock["cycles"] == one_clock["handled"] - one_clock["called"]).all()
    assert one_clock["uncertainty_cycles"].sum() == 0
