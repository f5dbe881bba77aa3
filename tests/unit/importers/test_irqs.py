"""The irq map: sightings before and after, and the changes between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evtrace.tracer.importers.irqs import IrqMap


def test_a_sighting_holds_for_earlier_and_later_times():
    irqs = IrqMap()
    irqs.see(30, 7, tsc=500)

    assert [7, 7, 7] == [irqs.port(30, tsc) for tsc in (1, 500, 900)]
    assert irqs.port(31, 500) is None


def test_the_majority_of_sightings_is_right():
    irqs = IrqMap()
    for port in (7, 9, 7):
        irqs.see(30, port, tsc=500)

    assert irqs.port(30, 1) == 7


def test_an_irq_is_one_ports_from_its_bind_to_its_unbind():
    irqs = IrqMap()
    irqs.see(30, 7, tsc=100)
    irqs.unbind(30, tsc=200)
    irqs.bind(30, 9, tsc=300)
    irqs.unbind(30, tsc=400)
    irqs.see(30, 11, tsc=500)

    found = [irqs.port(30, tsc) for tsc in (0, 200, 201, 299, 300, 400, 401, 600)]
    assert [7, 7, None, None, 9, 9, 11, 11] == found


def test_a_bind_ends_what_was_before_even_if_no_unbind_was_seen():
    irqs = IrqMap()
    for tsc in range(10):
        irqs.see(30, 7, tsc)
    irqs.bind(30, 9, tsc=50)

    assert (7, 9) == (irqs.port(30, 49), irqs.port(30, 50))


@pytest.mark.parametrize("asked_before", [False, True])
def test_what_is_learned_after_a_question_counts_for_the_next(asked_before):
    irqs = IrqMap()
    irqs.see(30, 7, tsc=100)
    if asked_before:
        assert irqs.port(30, 300) == 7
    irqs.unbind(30, tsc=200)

    assert irqs.port(30, 300) is None


@given(st.permutations([("see", 7, 10), ("unbind", 0, 20), ("bind", 9, 30), ("see", 9, 40)]))
def test_the_order_of_learning_does_not_matter(learned):
    irqs = IrqMap()
    for how, port, tsc in learned:
        if how == "unbind":
            irqs.unbind(30, tsc)
        else:
            getattr(irqs, how)(30, port, tsc)

    assert [7, None, 9] == [irqs.port(30, tsc) for tsc in (20, 25, 30)]
