"""The engine: what happens when, and in which order."""

from evtrace.tracer.emulator.engine import Engine


def test_actions_run_by_time_and_then_in_the_order_they_were_asked_for():
    engine = Engine()
    ran: list[object] = []
    engine.at(5, ran.append, "late")
    engine.at(3, ran.append, "first")
    engine.at(3, ran.append, "second")

    engine.run()

    assert ran == ["first", "second", "late"]
    assert engine.now == 5


def test_an_action_may_ask_for_others():
    engine, times = Engine(), []

    def again(left: int) -> None:
        times.append(engine.now)
        if left:
            engine.after(10, again, left - 1)

    engine.at(1, again, 2)
    engine.run()

    assert times == [1, 11, 21]


def test_time_is_skipped_only_up_to_the_next_action():
    engine = Engine()
    engine.at(10, lambda: None)

    assert engine.skip(9)
    assert engine.now == 9
    assert not engine.skip(1), "the action of that very moment goes first"
    assert engine.now == 9


def test_nothing_runs_behind_the_limit():
    engine = Engine()
    ran: list[object] = []
    engine.limit = 10
    engine.at(10, ran.append, "in time")
    engine.at(11, ran.append, "too late")

    assert not engine.run()
    assert ran == ["in time"]
    assert not engine.skip(1)


def test_a_run_can_be_done_in_pieces_and_stopped():
    engine = Engine()
    ran: list[object] = []
    for tsc in range(5):
        engine.at(tsc, ran.append, tsc)

    assert engine.run(2)
    assert ran == [0, 1]
    engine.stopped = True
    assert not engine.run()
    assert ran == [0, 1]
