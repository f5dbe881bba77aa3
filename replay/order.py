"""Overlapping calls: the order in which they took effect, found from what they answered."""

from collections.abc import Iterator
from itertools import permutations

from evtrace.replay.adoption import prepare
from evtrace.replay.belief import Belief
from evtrace.replay.calls import Call
from evtrace.replay.comparison import matches

MAX_RIVALS = 5
"""More overlapping calls than this are taken in the order in which they were entered."""


def explaining_order(belief: Belief, call: Call, rivals: list[Call]) -> list[Call]:
    """Give the rivals that took effect before `call`, in their order.

    The first order in which the model answers every one of them as Xen did is taken; the order of
    entry comes first. If none explains the answers, no rival is put before the call.
    """
    for order in _orders(call, rivals[:MAX_RIVALS]):
        if _explains(belief, order):
            return list(order[: order.index(call)])
    return []


def _orders(call: Call, rivals: list[Call]) -> Iterator[tuple[Call, ...]]:
    """Give the orders that the calls' intervals allow."""
    for order in permutations([call, *rivals]):
        if all(
            order[i].lo <= order[j].hi for i in range(len(order)) for j in range(i + 1, len(order))
        ):
            yield order


def _explains(belief: Belief, order: tuple[Call, ...]) -> bool:
    trial = belief.clone()
    for call in order:
        if call.rc is None or call.args is None:
            continue
        prepare(trial, call)
        if not matches(call, trial.execute(call)):
            return False
    return True
