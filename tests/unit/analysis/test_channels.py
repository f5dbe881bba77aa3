"""Channels: each run and send counts to the channel whose it is."""

import pytest

from evtrace.analysis.channels import attributed, channels
from evtrace.analysis.latency import GroupBy, stage_times
from evtrace.timeline import RecordClass
from evtrace.verdicts import Cause, WorkVerdict
from tests.verdict_builder import covering, frames, part, run, send

GHZ = 1_000_000_000
BIND = {"cause": Cause.BIND_CONSERVATIVE, "tsc": 50}


def table(runs, sends, classes=RecordClass.HANDLER | RecordClass.EOI, by=GroupBy.CHANNEL):
    made = frames(runs, sends)
    found = channels(*made, stage_times(*made, {}), covering(classes), GHZ, by)
    return {row[by.value]: row for row in found.to_dicts()}


def test_a_channel_counts_what_was_sent_and_what_came_of_it():
    found = table(
        [
            run(1, part("BIND", 0, 40, dom=0, port=0), **BIND),
            run(5, part("SEND", 2, 100), part("SEND", 3, 150), work=WorkVerdict.NO_WORK),
        ],
        [send(2, 100), send(3, 150, "COALESCED"), send(6, 700, "LOST"), send(7, 800, "UNKNOWN")],
    )
    row = found["d1:8→d0:33"]

    assert {"d1:8→d0:33"} == found.keys()
    assert (4, 2, 1, 1, 1) == tuple(
        row[name] for name in ("sends", "runs", "coalesced", "lost", "unknown")
    )
    assert (1, 1, 400, 500) == tuple(
        row[name] for name in ("unprovoked", "no_work", "max_ns", "max_at_tsc")
    )


def test_what_was_not_captured_is_not_counted_as_none():
    runs = [run(5, part("SEND", 2, 100)), run(6, cause=Cause.VIRQ, port=1, tsc=600)]
    found = table(runs, [send(9, 50, "UNKNOWN", to=(2, 4))], RecordClass.HANDLER)

    assert found["d1:8→d0:33"]["no_work"] is None
    assert found["virq→d0:1"]["sends"] is None
    assert (1, None, None) == tuple(
        found["d1:8→d2:4"][name] for name in ("sends", "coalesced", "runs")
    )


def test_a_run_at_bind_belongs_to_the_peer_that_sends_next():
    made, _ = frames(
        [
            run(1, part("SEND", 0, 10, dom=2, port=5), tsc=20),
            run(3, part("BIND", 2, 40, dom=0, port=0), **BIND),
            run(5, part("SEND", 4, 60, dom=1, port=8), tsc=70),
            run(6, tsc=80, cause=Cause.DOUBLE_HANDLE),
        ],
    )

    assert [(2, 5), (1, 8), (1, 8), (1, 8)] == attributed(made).select(
        "from_dom", "from_port"
    ).rows()


def test_an_ipi_comes_from_a_vcpu():
    found = table(
        [run(2, part("IPI", 1, 100, dom=0, port=33, vcpu=1), cause=Cause.IPI)],
        [send(1, 100, dom=0, vcpu=1, port=33)],
    )

    assert {"d0v1→d0:33"} == found.keys()
    assert (1, 1) == (found["d0v1→d0:33"]["sends"], found["d0v1→d0:33"]["runs"])


@pytest.mark.parametrize("by", GroupBy)
def test_sends_and_runs_meet_in_every_grouping(by):
    found = table([run(5, part("SEND", 2, 100))], [send(2, 100, run_seq=5)], by=by)

    assert [(1, 1, 400)] == [(row["sends"], row["runs"], row["max_ns"]) for row in found.values()]


def test_the_longest_wait_comes_first():
    runs = [run(5, part("SEND", 2, 400)), run(6, part("SEND", 3, 100, port=9), port=34)]

    assert ["d1:9→d0:34", "d1:8→d0:33"] == list(table(runs, []))
