"""Runs by vCPU, and bind_vcpu."""

from evtrace.analysis.placement import moved, placement
from evtrace.replay.results import Results
from evtrace.verdicts import Move
from tests.verdict_builder import frames, run

MOVES = Results(moves=[Move(3, 450, 0, 33, 1)]).moves_frame()


def test_runs_are_counted_on_each_vcpu_of_their_domain():
    runs, _ = frames([run(1), run(2), run(4, vcpu=1), run(5, dom=1, port=8)], device=None)
    found = placement(runs, MOVES, [0])

    assert [
        {"port": "d0:33", "device": None, "v0": 2, "v1": 1, "moves": 1},
        {"port": "d1:8", "device": None, "v0": 1, "v1": None, "moves": None},
    ] == found.to_dicts()


def test_without_runs_nothing_is_placed():
    runs, _ = frames([])

    assert placement(runs, MOVES, []).is_empty()


def test_a_move_names_the_port_and_where_it_went():
    assert [(450, 3, "d0:33", "v1")] == moved(MOVES).rows()
