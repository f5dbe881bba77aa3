"""Captures of other kinds: the 2-level form, two domUs, few classes of xentrace's records."""

import io
from collections import Counter

import pytest
import zstandard

from evtrace.api import Trace
from evtrace.verdicts import Cause, Fate, Route
from tests.conftest import SOURCES

WITH_FTRACE = sorted({path.parent.name for path in SOURCES.glob("*/dom0.ftrace.txt.zst")})


def lines_with(name, what):
    """Count lines of a capture's texts, without the importer."""
    count = 0
    for path in (SOURCES / name).glob("dom?.ftrace.txt.zst"):
        with zstandard.open(path, "rb") as packed:
            text = io.TextIOWrapper(packed, errors="replace")
            count += sum(what in line for line in text)
    return count


def replayed(imported, name):
    with Trace(imported(name)) as trace:
        return trace.replay(), trace


@pytest.mark.parametrize("name", WITH_FTRACE)
def test_every_probe_pair_is_compared_and_every_handler_entry_is_a_run(name, imported):
    results, _ = replayed(imported, name)

    assert lines_with(name, "_post: ") == results.compared
    assert lines_with(name, "irq_handler_entry: ") == len(results.runs)
    assert (0, 0, []) == (results.adopted, results.unknown, results.divergences)
    assert Cause.UNPROVOKED not in {run.cause for run in results.runs}


def test_the_bind_in_the_two_level_form(imported):
    results, trace = replayed(imported, "pv_2l_evpp5")
    at_bind = [run for run in results.runs if run.cause is Cause.BIND_CONSERVATIVE]

    assert {0: 0, 1: 0} == trace.facts.forms
    assert [(0, 35, (Route.UNMASK_RESEND,))] == [(r.dom, r.port, r.routes) for r in at_bind]
    assert Route.FIFO_OLD_QUEUE not in {route for run in results.runs for route in run.routes}


def test_two_domus_are_told_apart(imported):
    results, trace = replayed(imported, "pv_fifo_two_domus")
    at_bind = [(r.dom, r.port) for r in results.runs if r.cause is Cause.BIND_CONSERVATIVE]
    senders = Counter(
        (run.port, run.contributors[0].dom)
        for run in results.runs
        if (run.dom, run.port) in at_bind and run.cause is Cause.SEND
    )

    assert [(0, 35), (0, 36)] == at_bind
    assert {(35, 2): 5, (36, 1): 5} == dict(senders)
    assert "C4" == trace.coverage.overall_level()


def test_without_hypercall_records_a_call_has_its_probes_alone(imported):
    results, _ = replayed(imported, "pv_2l_sched_only")

    assert 0 == results.with_record


def test_two_forms_on_one_host(imported):
    results, trace = replayed(imported, "pv_mixed_forms_cross")
    at_bind = [(r.dom, r.port, r.routes) for r in results.runs if r.cause.startswith("BIND")]

    assert {0: 1, 1: 1, 2: 0} == trace.facts.forms
    assert [(2, 9, (Route.UNMASK_RESEND,))] == at_bind


def test_lost_records_cost_the_narrowing_of_calls_and_nothing_else(imported):
    results, trace = replayed(imported, "pv_fifo_lost")

    assert 25 == len(trace.reader.lost)
    assert 291 == results.with_record
    assert [(0, 33)] == [(r.dom, r.port) for r in results.runs if r.cause.startswith("BIND")]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_cut_file_takes_claims_away_and_adds_none(share, imported, tmp_path):
    data = imported("pv_2l_evpp5").read_bytes()
    cut = tmp_path / "cut.bin"
    cut.write_bytes(data[: int(len(data) * share)])

    with Trace(cut) as trace:
        results = trace.replay()

    causes = Counter(run.cause for run in results.runs)
    assert Cause.UNPROVOKED not in causes
    assert Fate.LOST not in {send.fate for send in results.sends}
    assert causes[Cause.VIRQ] > 0
