"""Recordings of the emulator, stock records alone: held against what is true of them."""

import json

import polars as pl
import pytest
from typer.testing import CliRunner

from evtrace.analysis.stock.analyse import analyse_stock
from evtrace.cli import app
from evtrace.tracefile.reader import open_trace
from evtrace.tracefile.rows import annotated
from tests.stock.found import find, vcpu

D0V0, D1V0 = vcpu(0, 0), vcpu(1, 0)
SEND = 32


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Record a scenario as xentrace would; give the trace and what is true of it."""
    folder = tmp_path_factory.mktemp("stock")

    def run(*options):
        path, truth = folder / "trace.bin", folder / "truth.jsonl"
        command = ["record", "-o", str(path), "--force", "--capture", "stock"]
        done = CliRunner().invoke(app, [*command, "--truth", str(truth), *map(str, options)])
        assert 0 == done.exit_code, done.output
        return path, [json.loads(line) for line in truth.read_text().splitlines()]

    return run


def measured(found):
    """Give the chains that are measured, without what a record in a gap would add."""
    return {
        (c.tsc, c.target, c.running_tsc) for c in found.chains if c.running_tsc and not c.excluded
    }


def tables(path, batch=1 << 17):
    with open_trace(path) as reader:
        frames = pl.concat(annotated(reader)).iter_slices(batch)
        made = analyse_stock(frames, reader.survey, reader.facts.tsc_hz)
    return made.verdict, {found.name: found.frame.to_dicts() for found in made.tables}


@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_every_round_of_a_ping_pong_is_seen(record, kind):
    path, truth = record("--scenario", "pingpong", "--set", "rounds=40", "--kind", kind)
    sends = [line for line in truth if line.get("send") == "d0:8" and line["fate"] == "DELIVERED"]
    rounds = [r for r in find(path).rounds if (r.caller, r.answerer) == (D0V0, D1V0)]

    assert 39 == len(rounds)
    assert not any(found.inferred for found in rounds)
    for found in rounds:
        assert any(0 <= found.start - send["tsc"] < 2_000 for send in sends)


@pytest.mark.parametrize("scenario", ["pingpong", "netfront", "ipi", "migrate"])
@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_who_is_said_to_have_woken_somebody_did_send(record, scenario, kind):
    path, truth = record("--scenario", scenario, "--kind", kind)
    sends = [
        (line["tsc"], int(line["send"][1 : line["send"].index(":")]), line["vcpu"])
        for line in truth
        if "send" in line
    ]
    said = [chain for chain in find(path).chains if chain.by == SEND]

    assert said
    for chain in said:
        assert chain.runner is not None
        assert chain.led_tsc is not None
        dom, number = chain.runner >> 16, chain.runner & 0xFFFF
        assert any(
            (dom, number) == (of, by) and tsc <= chain.led_tsc < tsc + 20_000
            for tsc, of, by in sends
        ), chain


@pytest.mark.parametrize("fault", ["lost-records", "ring-overflow"])
def test_lost_records_take_chains_away_and_make_none_up(record, fault):
    options = ("--scenario", "pingpong", "--set", "rounds=300")
    whole = find(record(*options)[0])
    path, _ = record(*options, "--fault", fault)
    with open_trace(path) as reader:
        assert reader.survey.lost
    cut = find(path)

    assert 10 < len(measured(cut)) < len(measured(whole))
    assert measured(cut) <= measured(whole)
    assert {wait.start for wait in cut.waits} <= {wait.start for wait in whole.waits}
    assert 0 == cut.machine.order.odd


def test_a_tsc_that_is_ahead_is_reported(record):
    verdict, made = tables(
        record("--scenario", "pingpong", "--set", "rounds=300", "--fault", "tsc-skew")[0]
    )
    (pair,) = [row for row in made["tsc_skew"] if row["other"] is not None]

    assert "TSCs disagree" in verdict
    assert pair["other_ahead"] is None or pair["pcpu_ahead"] > 10 * pair["other_ahead"]
    assert 0 < pair["at_least_ns"] <= 5_000


def test_tscs_that_agree_are_not_mentioned(record):
    verdict, made = tables(record("--scenario", "many", "--set", "channels=4")[0])

    assert "disagree" not in verdict
    assert "tsc_skew" not in made
    assert "gaps" not in made


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_the_tables_do_not_depend_on_the_size_of_batches(record, batch):
    path, _ = record("--scenario", "netfront", "--kind", "pvh", "--set", "packets=4")

    assert tables(path) == tables(path, batch)
