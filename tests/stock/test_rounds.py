"""Round trips: which calls and wake-ups make one."""

import pytest

from evtrace.analysis.stock.chains import Round
from evtrace.analysis.stock.rounds import Rounds
from tests.stock.found import vcpu

A, B, B1, C = vcpu(0, 0), vcpu(1, 0), vcpu(1, 1), vcpu(2, 0)


class Play:
    """Plays calls and wake-ups; one that is woken runs 10 cycles later."""

    def __init__(self):
        self.found = list[Round]()
        self.rounds = Rounds(self.found.append)

    def awake(self, *vcpus, at=0):
        for one in vcpus:
            self.rounds.awakes(one, at)
            self.rounds.runs(one, at)

    def call(self, who, tsc, wakes=None):
        self.rounds.calls(who, tsc)
        if wakes is not None:
            self.rounds.wakes(who, wakes)
            self.awake(wakes, at=tsc + 10)

    def sleep(self, *vcpus):
        for one in vcpus:
            self.rounds.sleeps(one)


@pytest.fixture
def play():
    made = Play()
    made.awake(A)
    return made


def test_a_round_trip_is_seen_where_both_sides_wake_the_other(play):
    play.call(A, 100, wakes=B)
    play.sleep(A)
    play.call(B, 200, wakes=A)

    assert [Round(A, B, 100, 200, 210)] == play.found


def test_no_round_trip_without_an_answer(play):
    play.call(A, 100, wakes=B)
    play.sleep(A, B)
    play.awake(B, at=150)
    play.call(B, 200, wakes=A)

    assert [] == play.found


def test_an_answer_may_meet_a_caller_who_is_awake(play):
    play.call(A, 100, wakes=B)
    play.call(B, 200)
    play.sleep(B)

    assert [Round(A, B, 100, 200, None)] == play.found


def test_who_sleeps_would_have_been_woken_by_an_answer(play):
    play.call(A, 100, wakes=B)
    play.sleep(A)
    play.call(B, 200)
    play.sleep(B)

    assert [] == play.found


def test_a_call_may_meet_an_answerer_who_is_awake(play):
    play.awake(B, at=50)
    play.call(A, 100)
    play.sleep(A)
    play.call(B, 200, wakes=A)

    assert [Round(A, B, 100, 200, None)] == play.found


def test_who_wakes_after_a_silent_call_does_not_answer_it(play):
    play.call(A, 100)
    play.sleep(A)
    play.awake(B, at=150)
    play.call(B, 200, wakes=A)

    assert [] == play.found


def test_another_vcpu_of_the_domain_may_answer(play):
    play.call(A, 100, wakes=B)
    play.sleep(A)
    play.call(B, 150, wakes=B1)
    play.call(B1, 200, wakes=A)

    assert [Round(A, B1, 100, 200, 210)] == play.found


def test_a_third_domain_does_not_answer(play):
    play.call(A, 100, wakes=B)
    play.sleep(A)
    play.call(B, 150, wakes=C)
    play.call(C, 200, wakes=A)

    assert [] == play.found


def test_a_wakeup_that_an_interrupt_caused_is_taken_back(play):
    play.call(A, 100, wakes=B)
    play.rounds.retract(A, B)
    play.sleep(A)
    play.call(B, 200, wakes=A)

    assert [] == play.found


def test_nothing_follows_from_before_a_gap(play):
    play.call(A, 100, wakes=B)
    play.sleep(A)
    play.rounds.forget()
    play.call(B, 200, wakes=A)

    assert [] == play.found


def test_each_round_of_a_series_is_found(play):
    for start in range(100, 1100, 100):
        play.call(A, start, wakes=B)
        play.sleep(A)
        play.call(B, start + 50, wakes=A)
        play.sleep(B)

    calls = [found for found in play.found if found.caller == A]
    assert [Round(A, B, t, t + 50, t + 60) for t in range(100, 1100, 100)] == calls
