"""Races: sends to a port, and runs of it, about the time at which it changes hands.

A run may belong to the port's former owner. And in the FIFO form a port that is closed with an
event on its queue is not given out before the guest has taken it off: which number the next port
gets shows whether a send came before the close.
"""

from dataclasses import dataclass
from typing import NamedTuple

from evtrace.replay.belief import ALLOCATING, Belief
from evtrace.replay.calls import Call
from evtrace.replay.tokens import Channel
from evtrace.timeline import Row
from evtrace.xen.abi import EvtchnOp


class Shift(NamedTuple):
    """How clocks would have to differ: the TSC of `ahead` by so many cycles or more."""

    ahead: int
    """A pCPU, as is `behind`."""
    behind: int
    cycles: int
    seq: int
    """The record that would be in another place."""
    is_race: bool = False
    """Nothing but the outcome of a race shows it."""


@dataclass(slots=True)
class _Closing:
    """The last close of a port."""

    call: Call
    sent_before: Call | None
    sent_after: Call | None = None


class Races:
    """Remembers the last change of each port, its last close, and the sends around that."""

    def __init__(self, belief: Belief) -> None:
        """Ask `belief` where sends lead."""
        self._belief = belief
        self._changed: dict[Channel, Call] = {}
        self._sent: dict[Channel, Call] = {}  # the last one that reached the port
        self._closed: dict[Channel, _Closing] = {}
        self._left: dict[Channel, _Closing] = {}  # by the port whose peer was closed

    def closes(self, call: Call) -> None:
        """Note that a port is about to be closed."""
        channel = (call.dom, (call.args or (0,))[0])
        closing = _Closing(call, self._sent.pop(channel, None))
        self._closed[channel] = self._left[self._belief.peer(channel)] = closing

    def passed(self, call: Call) -> None:
        """Take a call that the model has executed."""
        channel = (call.dom, (call.args or (0,))[0])
        if call.op == EvtchnOp.SEND:
            self._sends(call, channel)
        elif call.op in {EvtchnOp.CLOSE, EvtchnOp.BIND_VCPU}:
            self._changed[channel] = call
        elif call.op in ALLOCATING and call.outputs:
            self._changed[self._belief.owner(call), call.outputs[0]] = call

    def _sends(self, call: Call, channel: Channel) -> None:
        target = self._belief.target_of_send(channel)
        if target is not None:
            self._sent[target] = call
            self._left.pop(channel, None)
        elif channel in self._left:
            self._left.pop(channel).sent_after = call

    def of_run(self, row: Row, tsc: int, channel: Channel) -> list[Shift]:
        """Give what would put a run, whose event was taken at `tsc`, before its port's change."""
        change = self._changed.get(channel)
        if change is None or change.lo > tsc:
            return []
        return _shifts(row, change.enter, tsc - change.hi, change.enter.seq)

    def of_number(self, channel: Channel) -> list[Shift]:
        """Give what would put a send on the other side of the port's last close."""
        closing = self._closed.get(channel)
        if closing is None:
            return []
        own, before, after = closing.call, closing.sent_before, closing.sent_after
        seq = own.enter.seq
        found = _shifts(own.enter, before.enter, own.lo - before.hi, seq) if before else []
        return found + (_shifts(after.enter, own.enter, after.lo - own.hi, seq) if after else [])


def _shifts(ahead: Row, behind: Row, cycles: int, seq: int) -> list[Shift]:
    if ahead.pcpu is None or behind.pcpu is None:
        return []
    return [Shift(ahead.pcpu, behind.pcpu, max(0, cycles), seq, is_race=True)]
