"""Minimising: the fewest operations that still show the same fact, and make nothing up."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evtrace.api import Trace, record
from evtrace.commands.minimising import Watch, Whole, replay_whole, search
from evtrace.replay.follow import Follow
from evtrace.replay.minimise.ddmin import reduce_set
from evtrace.replay.minimise.needs import Ties
from evtrace.replay.minimise.oracle import Oracle
from evtrace.replay.minimise.search import Search
from evtrace.replay.minimise.showing import facts
from evtrace.replay.minimise.units import Grouping, Sort
from evtrace.timeline import Kind
from evtrace.tracer.emulator.lab import Settings

TRACES = Path(__file__).parents[2] / "traces"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Give the trace that the emulator records of a scenario."""
    folder = tmp_path_factory.mktemp("recorded")
    made: dict[object, Trace] = {}

    def make(scenario, *faults, seed=0, **parameters):
        key = (scenario, faults, seed, *parameters.items())
        if key not in made:
            path = folder / f"{len(made)}.bin"
            made[key] = record(
                scenario, path, faults=faults, settings=Settings(seed=seed), **parameters
            )
        return made[key]

    return make


def fact_of(whole: Whole, name, number=0):
    return [fact for fact in facts(whole.results) if name in fact.names][number]


def minimised(trace, name, folder, number=0):
    whole = replay_whole(trace, None)
    return search(whole, fact_of(whole, name, number), Watch(None), folder)


def judged(found, rows):
    """Give the facts that a replay of some rows finds."""
    trace = found.whole.trace
    return list(facts(Follow(trace.belief(), found.whole.coverage).follow(rows)))


# --- ddmin ----------------------------------------------------------------------------------------


def without(kept, dropped):
    return kept - set(dropped)


@given(st.sets(st.integers(0, 60), max_size=8), st.integers(1, 61))
def test_ddmin_finds_exactly_what_is_needed(needed, size):
    needed = frozenset(needed & set(range(size)))
    whole = frozenset(range(size))

    found, is_minimal = reduce_set(
        whole, sorted(whole), without, lambda kept: needed <= kept, lambda _: True
    )

    assert needed == found
    assert is_minimal


@given(st.integers(0, 30))
def test_ddmin_that_is_stopped_gives_the_best_so_far(tests):
    passed, asked = [frozenset(range(40))], []

    def passes(kept):
        if {3, 17} <= kept:
            passed.append(kept)
        return {3, 17} <= kept

    def keep_on(kept):
        asked.append(kept)
        return len(asked) <= tests

    found, is_minimal = reduce_set(passed[0], range(40), without, passes, keep_on)

    assert passed[-1] == found
    assert is_minimal == (len(asked) <= tests)
    assert passed == sorted(passed, key=len, reverse=True)


# --- the search -----------------------------------------------------------------------------------


def test_a_lost_send_is_left_with_what_opens_its_ports(recorded, tmp_path):
    trace = recorded("pingpong", "lost-send@0.0005", rounds=100)
    found = minimised(trace, "fate.LOST", tmp_path)
    calls = [unit.call.op for unit in found.minimal.operations if unit.call is not None]

    assert 200 < found.of_operations
    assert [6, 0, 9, 4] == calls  # alloc_unbound, bind_interdomain, unmask, send
    assert 6 == len(found.minimal.operations)
    assert found.minimal.is_minimal


def is_one_minimal(found):
    """Tell whether no operation can be left out with those that need it, the window apart."""
    whole = found.whole
    oracle = Oracle(whole.trace.belief, whole.coverage, whole.results, found.fact)
    kept = frozenset(unit.place for unit in found.minimal.units)
    ties = Ties(found.search.units)
    protected = found.search.meanwhile()
    for unit in found.minimal.operations:
        left = ties.without(kept, [unit.place])
        gone = {row.seq for place in kept - left for row in found.search.units[place].rows}
        rows = [row for row in found.minimal.rows if row.seq not in gone]
        if protected <= left and oracle.shows(rows):
            return False
    return True


def test_what_is_left_is_one_minimal(recorded, tmp_path):
    trace = recorded("pingpong", "lost-send@0.0005", rounds=100)

    assert is_one_minimal(minimised(trace, "fate.LOST", tmp_path))


def test_many_channels_need_no_opening_if_it_begins_late(tmp_path):
    with Trace(TRACES / "emu-fifo-many.bin.zst") as trace:
        found = minimised(trace, "fate.COALESCED", tmp_path)

    assert found.started_late
    assert 700 < found.of_operations
    assert 10 > len(found.minimal.operations)


def test_it_is_the_wanted_one_and_no_other(recorded, tmp_path):
    trace = recorded("netfront", packets=60)
    second = minimised(trace, "fate.COALESCED", tmp_path, number=3)
    kept = judged(second, second.minimal.rows)

    assert second.fact in kept


CONSISTENT = [
    ("pingpong", ("lost-send@0.0003",), {"rounds": 60}),
    ("ipi", ("lost-send@0.0005",), {"calls": 10}),
    ("netfront", ("lost-upcall@0.001",), {"packets": 40}),
    ("blkfront", ("unmask-without-reraise",), {"requests": 40}),
    ("storm", ("double-handling@0.001",), {"events": 40}),
    ("port-reuse", ("pending-kept-over-close",), {}),
    ("demo", ("no-pending-at-bind",), {}),
    ("pingpong", ("never-unmasks@0.0003",), {"rounds": 40}),
    ("fifo-priority", (), {}),
    ("poll", (), {}),
    ("reset", (), {}),
]


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(CONSISTENT), st.integers(0, 3), st.integers(0, 50))
def test_nothing_is_made_up(recorded, tmp_path_factory, case, seed, number):
    scenario, faults, parameters = case
    trace = recorded(scenario, *faults, seed=seed, **parameters)
    whole = replay_whole(trace, None)
    known = list(facts(whole.results))
    if not known:
        return
    names = sorted({name for fact in known for name in fact.names})
    name = names[number % len(names)]
    fact = next(fact for fact in known if name in fact.names)
    found = search(whole, fact, Watch(None), tmp_path_factory.mktemp("late"))
    kept = judged(found, found.minimal.rows)

    assert found.minimal.is_minimal
    assert is_one_minimal(found)
    assert found.fact.explanation in [one.explanation for one in kept]
    before = {(fact.kind, fact.seq) for fact in facts(found.whole.results)}
    assert {(fact.kind, fact.seq) for fact in kept} <= before


def test_a_run_left_out_loses_no_send(recorded):
    trace = recorded("pingpong", "lost-send@0.0005", rounds=100)
    whole = replay_whole(trace, None)
    fact = fact_of(whole, "fate.LOST")
    oracle = Oracle(trace.belief, whole.coverage, whole.results, fact)
    run = next(run for run in whole.results.runs if run.cause == "SEND")
    gone = {
        row.seq
        for unit in Grouping(whole.rows).units
        for row in unit.rows
        if any(one.seq == run.seq for one in unit.rows)
    }

    assert oracle.shows(whole.rows)
    assert not oracle.shows(row for row in whole.rows if row.seq not in gone)


def test_what_happens_on_the_port_meanwhile_stays(recorded):
    trace = recorded("ipi", "lost-send@0.0004", calls=10)
    whole = replay_whole(trace, None)
    fact = fact_of(whole, "fate.LOST")
    oracle = Oracle(trace.belief, whole.coverage, whole.results, fact)
    search_ = Search(whole.rows, whole.results, fact, oracle)
    assert search_.begin()
    last = search_.ends
    left = {row.seq for row in search_.reduce().rows}
    meanwhile = [
        row.seq
        for row in whole.rows
        if fact.seq <= row.seq <= last
        and row.kind in {Kind.CLEAR, Kind.CONSUME, Kind.HANDLER_ENTER}
        and (row.dom, row.port) in fact.channels
    ]

    assert set(meanwhile) <= left


def test_a_call_that_unmasks_belongs_to_the_unmask(recorded):
    trace = recorded("demo")
    units = Grouping(trace.rows()).units
    unmask = [unit for unit in units if unit.call is not None and unit.call.op == 9]

    assert unmask
    assert {Sort.ACCESS} == {unit.sort for unit in unmask}


def test_every_row_is_in_one_unit(recorded):
    trace = recorded("port-reuse")
    rows = list(trace.rows())
    grouping = Grouping(rows)
    units = [row.seq for unit in grouping.units for row in unit.rows]
    logs = [row for row in rows if row.kind == Kind.TEXT]
    others = [row.seq for row in (*grouping.always, *grouping.scheduler)]

    assert len(units) == len(set(units))
    assert {row.seq for row in rows} - {row.seq for row in logs} <= {*units, *others}
