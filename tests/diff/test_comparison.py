"""What two recordings are told to differ in, and what not."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evtrace.analysis.diff.comparison import compare
from evtrace.analysis.diff.operations import walk
from evtrace.analysis.diff.verdict import About
from evtrace.api import Trace, record
from tests.diff.acceptance import SlowerTrace, finds, recorded, stages_of
from tests.diff.renumbering import Renumbering


@pytest.fixture(scope="module")
def side(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")

    @cache
    def make(scenario, seed, *parameters):
        path = folder / f"{scenario}-{seed}-{'-'.join(parameters)}.bin"
        return Trace(recorded(scenario, path, parameters, seed=seed)).side()

    return make


@pytest.mark.parametrize("scenario", ["pingpong", "blkfront", "netfront", "storm", "many", "boot"])
@settings(
    max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.data())
def test_renumbered_it_is_the_same(side, scenario, data):
    """Domains get new numbers, ports any others: the same work, so the same in every respect."""
    one = side(scenario, 1)
    doms = sorted(one.structure.doms)
    numbers = data.draw(st.permutations(range(40, 40 + len(doms))))
    new = dict(zip(doms, numbers, strict=True)) | {0: 0}
    start = data.draw(st.integers(90, 300))  # the highest port is 62
    reverse = data.draw(st.booleans())
    other = Renumbering(
        lambda dom: new.get(dom, dom), lambda _, port: start + (-port if reverse else port)
    ).of(one)
    found = compare(one, other)

    assert found.differences == []
    assert found.with_load == []
    assert found.channels == []
    assert found.walked.first is None
    assert {b: a for a, b in found.alignment.doms.items()} == {d: new[d] for d in doms}


def test_a_fault_is_a_difference_from_its_first_time_on(tmp_path):
    one = Trace(recorded("demo", tmp_path / "a.bin"))
    found = one.diff(record("demo", tmp_path / "b.bin", faults=["no-pending-at-bind"]))

    assert found.differences[0].about is About.FAULTS
    assert found.differences[0].is_worse
    assert "new: NO_PENDING_AT_BIND 1 time" in found.differences[0].sentence


def test_one_stage_slower_is_told_with_its_interval(side, tmp_path):
    path = recorded("pingpong", tmp_path / "b.bin", seed=2)
    slower = SlowerTrace(path, "d0:8→d1:8", "pending→upcall")
    found = compare(side("pingpong", 1), slower.side())
    (its,) = (one for one in found.differences if one.part == "d0:8→d1:8")

    assert finds(found, "d0:8→d1:8", "pending→upcall")
    assert its.ratios["mean(pending→upcall)"] == pytest.approx(1.2, rel=0.1)
    assert {one.part for one in found.differences} == {"d0:8→d1:8"}


def test_the_warp_slows_its_stage_and_no_other(tmp_path):
    path = recorded("pingpong", tmp_path / "b.bin", seed=2)
    channel, stage = "d0:8→d1:8", "upcall→handler"
    before, after = stages_of(Trace(path)), stages_of(SlowerTrace(path, channel, stage))
    keys = ["seq", "group", "stage"]
    joined = before.join(after, on=keys, suffix="_after")
    changed = joined.filter(joined["cycles_after"] > joined["cycles"] + 2)

    assert joined.height == before.height
    assert set(changed["group"]) == {channel}
    assert set(changed["stage"]) == {stage, "send→handler"}
    its = changed.filter(changed["stage"] == stage)
    assert its["cycles_after"].sum() == pytest.approx(int(its["cycles"].sum()) * 1.2, rel=0.01)


def test_a_standstill_is_a_difference(side, tmp_path):
    hung = record("netfront", tmp_path / "b.bin", faults=["lost-upcall"])
    found = compare(side("netfront", 1), hung.side())

    assert found.differences[0].sentence.startswith("hardly anything happens in B: ")
    assert found.differences[0].is_worse


def answered(side, place, rc):
    calls = list(side.told.calls)
    calls[place] = replace(calls[place], rc=rc, out=())
    return calls


def test_another_answer_is_told_apart_from_another_order(side):
    one = side("pingpong", 1)
    same = compare(one, one).alignment
    calls = one.told.calls
    walked = walk(calls, answered(one, 20, -22), same)

    assert [found.is_answer for found in walked.answers] == [True]
    assert "was answered 0 in A, -EINVAL in B" in walked.answers[0].what
    assert walked.answers[0].b.made == replace(calls[20], rc=-22, out=())

    swapped = [*calls]
    lane = [n for n, made in enumerate(calls) if made.dom == 0 and made.vcpu == 0]
    ops = {n: calls[n] for n in lane}
    first, second = next((a, b) for a, b in pairwise(lane) if ops[a].op != ops[b].op)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    walked = walk(calls, swapped, same)

    assert walked.answers == ()
    assert walked.first is not None
    assert not walked.first.is_answer


def test_how_vcpus_interleave_is_no_difference(side):
    one = side("pingpong", 1)
    by_vcpu = sorted(one.told.calls, key=lambda made: (made.dom, made.vcpu))
    walked = walk(one.told.calls, by_vcpu, compare(one, one).alignment)

    assert (walked.answers, walked.first) == ((), None)
    assert walked.vcpus == 2


def test_a_call_more_is_told(side):
    one = side("pingpong", 1)
    calls = [*one.told.calls[:30], one.told.calls[0], *one.told.calls[30:]]
    walked = walk(one.told.calls, calls, compare(one, one).alignment)

    assert walked.first is not None
    assert "makes a call more in B" in walked.first.what


def test_calls_of_other_work_are_not_compared(side):
    one, other = side("boot", 1), side("pingpong", 1)
    walked = compare(one, other).walked

    assert not walked.is_comparable
    assert walked.first is None


def test_another_load_explains_what_goes_along_with_it(side):
    """Two recordings of the start of many domains: which of them is busy first is chance."""
    found = compare(side("many", 10), side("many", 11))

    assert found.load
    assert found.differences == []
