"""Outliers: where the time of the longest ways went."""

import re
from itertools import pairwise
from pathlib import Path
from typing import cast

import polars as pl
import pytest

from evtrace.analysis.latency import stage_times
from evtrace.analysis.outliers.explained import explain_outliers, outlier_lines
from evtrace.api import Trace
from evtrace.errors import UsageError
from evtrace.timeline import Kind, schema
from evtrace.tracefile.coverage import CoverageMap
from evtrace.tracefile.facts import Facts
from evtrace.tracefile.selection import parse_duration
from tests.timeline_builder import Captured, Script, connected

HZ = 1_000_000_000
BLOCKED_TO_RUNNABLE, RUNNABLE_TO_RUNNING, RUNNING_TO_RUNNABLE = 0x21, 0x10, 0x01
RUNNING_TO_BLOCKED = 0x02


def explain(script: Script, over_ns=0, limit=20, hz=HZ, captured=None):
    """Explain the outliers of a script, whose rows are in order; a cycle is a nanosecond."""
    results = script.replay()
    runs = results.runs_frame().with_columns(device=pl.lit(None, pl.String))
    frame = pl.DataFrame(script.rows, schema(), orient="row")
    return explain_outliers(
        lambda: [frame],
        stage_times(runs, results.sends_frame(), {}),
        results,
        Facts(tsc_hz=hz),
        cast("CoverageMap", captured or Captured()),
        over_ns,
        limit,
    )


def chain(outliers, number=1):
    """Give what an outlier waited for, and how long."""
    rows = outliers.chains.frame.filter(pl.col("outlier") == number)
    return list(rows.select("took_ns", "what").iter_rows())


def sched(script, tsc, change, dom=0, vcpu=0, pcpu=0):
    row = script.add(tsc, Kind.RUNSTATE, dom, vcpu, op=change)
    script.rows[-1] = row._replace(pcpu=pcpu)


def waiting(*, stale=False):
    """d0v0 is woken by a send, waits behind d3v0 and then for another handler."""
    script = connected()
    sched(script, 500, RUNNABLE_TO_RUNNING, dom=3, pcpu=2)
    if stale:
        script.add(600, Kind.HANDLER_ENTER, port=9, irq=109)
        sched(script, 900, RUNNING_TO_BLOCKED)
    script.send(1_000, 1_050, 1, dom=1)
    sched(script, 1_200, BLOCKED_TO_RUNNABLE)
    sched(script, 5_000, RUNNING_TO_RUNNABLE, dom=3, pcpu=2)
    sched(script, 5_000, RUNNABLE_TO_RUNNING, pcpu=2)
    script.add(5_300, Kind.UPCALL_ENTER)
    script.add(5_400, Kind.HANDLER_ENTER, port=7, irq=107)
    script.add(5_900, Kind.HANDLER_EXIT, port=7, irq=107)
    script.add(5_950, Kind.CLEAR, port=1)
    script.add(6_000, Kind.HANDLER_ENTER, port=1, irq=101)
    return script


def test_the_way_is_divided_by_what_the_event_waited_for():
    expected = [
        (200, "d0v0 blocked, not woken yet"),
        (3_800, "in the run queue of p2 behind d3v0"),
        (300, "d0v0 runs, its upcall has not begun"),
        (100, "in the upcall, on the way to the handler"),
        (500, "handler of d0:7 runs first"),
        (100, "in the upcall, on the way to the handler"),
    ]
    assert expected == chain(explain(waiting()))


def test_the_table_says_where_most_of_it_went():
    [row] = explain(waiting()).table.frame.to_dicts()

    assert ("d1:1→d0:1", "send→handler", 5_000) == (row["channel"], row["stage"], row["took_ns"])
    assert "in the run queue of p2 behind d3v0" == row["mostly"]
    assert 0.76 == row["share"]
    assert 6_000 == row["at_tsc"]


def test_several_who_ran_instead_are_named_with_their_shares():
    script = waiting()
    place = next(at for at, row in enumerate(script.rows) if row.tsc_lo == 5_000)
    sched(script, 4_000, RUNNING_TO_RUNNABLE, dom=3, pcpu=2)
    sched(script, 4_000, RUNNABLE_TO_RUNNING, dom=4, pcpu=2)
    script.rows[place:place] = [script.rows.pop(-2), script.rows.pop(-1)]

    assert (3_800, "in the run queue of p2 behind d3v0 (74%); d4v0 1.00us") in chain(
        explain(script)
    )


def test_a_run_queue_nobody_was_ahead_in_is_called_idle():
    script = waiting()
    script.rows = [row for row in script.rows if row.dom != 3]
    assert (3_800, "in the run queue of p2, which was idle") in chain(explain(script))


def test_a_handler_whose_exit_was_lost_ends_where_its_vcpu_blocks():
    script = waiting(stale=True)
    place = next(at for at, row in enumerate(script.rows) if row.tsc_lo == 900)

    assert not any("d0:9" in what for _, what in chain(explain(script)))
    del script.rows[place]  # without it, the handler goes on
    assert any("d0:9" in what for _, what in chain(explain(script)))


def test_without_scheduler_records_the_rest_is_not_seen():
    script = waiting()
    script.rows = [row for row in script.rows if row.kind != Kind.RUNSTATE]
    assert (4_300, "not seen: scheduler records missing") == chain(explain(script))[0]


def test_a_vcpu_whose_records_have_it_blocked_when_its_handler_runs_is_not_seen():
    script = waiting()
    script.rows = [row for row in script.rows if row.tsc_lo != 5_000]
    assert (200, "d0v0 blocked, not woken yet") == chain(explain(script))[0]
    assert (4_100, "not seen: scheduler records missing") == chain(explain(script))[1]


def test_only_what_took_longer_counts_and_only_the_worst_are_explained():
    script = connected()
    for at in (1_000, 2_000, 3_000):
        script.send(at, at + 10, 1, dom=1)
        script.run(at + at // 10, 1)

    assert 3 == explain(script, over_ns=101).found
    assert 2 == explain(script, over_ns=102).found
    assert [302] == explain(script, limit=1).table.frame["took_ns"].to_list()
    assert "3 took longer than 0ns to a handler; the worst 1:" in next(
        iter(outlier_lines(explain(script, limit=1)))
    )
    assert ["Outliers: no event took longer than 1.00s to a handler."] == list(
        outlier_lines(explain(script, over_ns=HZ))
    )


def test_a_masked_port_waits_for_its_unmasking():
    script = connected()
    script.add(100, Kind.MASK, port=1)
    script.send(1_000, 1_010, 1, dom=1)
    unmask = script.add(3_000, Kind.UNMASK, port=1, vcpu=1)
    script.run(3_100, 1)

    assert (2_000, f"masked until d0v1 unmasks it (#{unmask.seq})") == chain(explain(script))[0]


def test_without_a_frequency_there_is_an_error():
    with pytest.raises(UsageError, match="TSC frequency"):
        explain(waiting(), hz=None)


def explained(path, over_ns=0, limit=500):
    with Trace(path) as trace:
        results = trace.replay()
        runs = results.runs_frame().with_columns(device=pl.lit(None, pl.String))
        widths = {dom: hi - lo for dom, (lo, hi) in trace.facts.clock_offsets.items()}
        stages = stage_times(runs, results.sends_frame(), widths)
        rest = (stages, results, trace.facts, trace.coverage, over_ns, limit)
        timeline = pl.concat(list(trace.batches()))
        return explain_outliers(trace.batches, *rest), timeline


def assert_parts_make_the_whole(outliers):
    assert outliers.table.frame.height > 0
    for row in outliers.table.frame.iter_rows(named=True):
        parts = outliers.chains.frame.filter(pl.col("outlier") == row["outlier"])
        assert abs(parts["took_ns"].sum() - row["took_ns"]) <= parts.height
        assert parts["share"].sum() == pytest.approx(1)
        steps = list(parts.select("from_tsc", "to_tsc").iter_rows())
        assert all(before[1] == after[0] for before, after in pairwise(steps))
        assert row["at_tsc"] == steps[-1][1]


@pytest.mark.parametrize("name", ["pv_fifo_blog", "pvh_blog", "dom0_self20", "pv_fifo_evpp5"])
def test_the_parts_of_a_real_way_make_the_whole(name, imported):
    outliers, _ = explained(imported(name), over_ns=1_000_000)
    assert_parts_make_the_whole(outliers)
    assert max(map(len, outlier_lines(outliers))) <= 80
    assert not outliers.chains.frame["what"].is_null().any()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Record two domains on shared pCPUs, where some wake-ups wait long."""
    from typer.testing import CliRunner  # noqa: PLC0415

    from evtrace.cli import app  # noqa: PLC0415

    def make(*arguments):
        path = tmp_path_factory.mktemp("shared") / "trace.bin"
        result = CliRunner().invoke(app, ["record", "-o", str(path), *arguments])
        assert result.exit_code == 0, result.output
        return path

    return make


def test_a_wait_for_a_pcpu_is_that_of_the_schedulers_records(shared):
    path = shared("--scenario", "pingpong", "--timing", "shared", "-T", "2")
    outliers, timeline = explained(path, over_ns=200_000)
    changes = timeline.filter(pl.col("kind") == Kind.RUNSTATE)
    waits = outliers.chains.frame.filter(pl.col("what").str.starts_with("in the run queue"))
    assert_parts_make_the_whole(outliers)
    assert outliers.table.frame.height == waits.height > 5
    for row in waits.iter_rows(named=True):
        ends = changes.filter(pl.col("tsc_lo").is_in([row["from_tsc"], row["to_tsc"]]))
        assert {BLOCKED_TO_RUNNABLE, RUNNABLE_TO_RUNNING} <= set(ends["op"])
    assert (outliers.table.frame["share"] > 0.9).all()


def test_the_page_shows_what_is_printed(shared):
    page = (Path(__file__).parents[3] / "docs" / "latency.md").read_text()
    example = re.search(r"<!-- example -->\n```\n(.*?)```", page, re.DOTALL)
    outliers, _ = explained(shared("--scenario", "storm"), over_ns=20_000_000)
    assert example
    assert example[1] == "".join(f"{line}\n" for line in outlier_lines(outliers))


def test_late_eoi_is_what_a_storm_waits_for(shared):
    outliers, _ = explained(shared("--scenario", "storm"), over_ns=1_000_000)
    assert_parts_make_the_whole(outliers)

    assert outliers.table.frame["mostly"].str.contains("masked after the EOI of .* no work").all()


@pytest.mark.parametrize("scenario", ["blkfront", "ipi", "migrate", "port-reuse"])
def test_in_every_scenario_the_parts_make_the_whole(scenario, shared):
    outliers, _ = explained(shared("--scenario", scenario, "--pcpus", "2", "-T", "1"), limit=60)
    assert_parts_make_the_whole(outliers)


@pytest.mark.parametrize(
    ("text", "ns"),
    [("1ms", 10**6), ("500us", 500_000), ("2s", 2 * 10**9), ("10000ns", 10_000), ("1.5µs", 1_500)],
)
def test_a_duration_has_a_unit(text, ns):
    assert ns == parse_duration("--over", text)


@pytest.mark.parametrize("text", ["1", "ms", "-1ms", "1 minute", ""])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(UsageError, match="a time and its unit"):
        parse_duration("--over", text)
