"""Needs: which units cannot stay without which others, as far as ports and events tell.

A send needs its ports to be open, the port that it reaches to be unmasked, and the run that
answered it, as that run needs everything that provoked it: without the run the send would look
lost. These are the rules by which parts are proposed; what counts is what the replay says of them.
"""

from collections.abc import Iterable
from typing import NamedTuple

from evtrace.replay.belief import ALLOCATING, ON_A_PORT, RESETS
from evtrace.replay.calls import Call
from evtrace.replay.minimise.units import Sort, Unit
from evtrace.replay.results import Results
from evtrace.replay.tokens import Channel
from evtrace.timeline import Kind, Row
from evtrace.verdicts import ContributionKind, Fate, Send
from evtrace.xen.abi import DOMID_SELF, EvtchnOp, PortState


class _Gates(NamedTuple):
    """What last changed how a port's events travel."""

    mask: int | None = None
    move: int | None = None
    priority: int | None = None


class Needs:
    """Walks the units in their order and notes what each needs."""

    def __init__(self, units: list[Unit], whole: Results) -> None:
        """Note the needs of `units`, of which the replay of the whole trace said `whole`."""
        self._units = units
        self._sends = {send.seq: send for send in whole.sends}
        self._opened: dict[Channel, int] = {}
        self._closed: dict[Channel, int] = {}
        self._peers: dict[Channel, Channel] = {}
        self._homes: dict[Channel, int] = {}
        self._gates: dict[Channel, _Gates] = {}
        self._fifo: dict[int, int] = {}
        self._created: dict[int, int] = {}
        self._unanswered: dict[Channel, list[Unit]] = {}
        self._parted: dict[Channel, int] = {}
        self.by_seq = {row.seq: unit for unit in units for row in unit.rows}
        for unit in units:
            self._take(unit)
        self._join_events(whole)
        self._join_upcalls()

    def _take(self, unit: Unit) -> None:
        if unit.dom in self._created:
            unit.needs.add(self._created[unit.dom])
        match unit.sort:
            case Sort.STATE:
                if unit.rows[0].kind == Kind.CHANNEL and not unit.is_late:
                    self._channel(unit, unit.rows[0])
            case Sort.DOMAIN:
                self._domain(unit, unit.rows[0])
            case Sort.RAISE:
                self._raise(unit, unit.rows[0])
            case Sort.CALL:
                self._call(unit)
            case Sort.RUN | Sort.ACCESS | Sort.IRQ:
                self._on_ports(unit)

    # --- what opens and closes ports -------------------------------------------------------------

    def _channel(self, unit: Unit, row: Row) -> None:
        channel = (unit.dom, row.port or 0)
        self._open(channel, unit, row.vcpu or 0)
        if (row.a1 or 0) & 0xFF == PortState.INTERDOMAIN:
            self._peers[channel] = (row.a2 or 0, row.a3 or 0)

    def _domain(self, unit: Unit, row: Row) -> None:
        if row.kind == Kind.DOMAIN_CREATED:
            self._created[unit.dom] = unit.place
        else:
            self._close_all(unit, unit.dom)

    def _call(self, unit: Unit) -> None:
        call = unit.call
        if call is None or call.args is None:
            return
        args, done = call.args, call.rc is not None and call.rc >= 0
        target = call.dom if args and args[0] == DOMID_SELF else (args or (call.dom,))[0]
        if call.op in ON_A_PORT:
            unit.channels.add((call.dom, args[0]))
        elif call.op in {EvtchnOp.STATUS, EvtchnOp.BIND_INTERDOMAIN}:
            unit.channels.add((target, args[1]))
        self._on_ports(unit)
        if call.op in ALLOCATING and done and call.outputs:
            owner = target if call.op == EvtchnOp.ALLOC_UNBOUND else call.dom
            self._allocated(unit, call, (owner, call.outputs[0]), target)
        elif call.op == EvtchnOp.SEND:
            self._send(unit, self._sends.get(call.enter.seq))
        elif call.op == EvtchnOp.CLOSE and done:
            self._close(unit, (call.dom, args[0]))
        elif call.op in RESETS and done:
            self._close_all(unit, target)
        else:
            self._configures(unit, call, done=done)

    def _allocated(self, unit: Unit, call: Call, channel: Channel, target: int) -> None:
        before = (channel[0], channel[1] - 1)
        for place in (self._opened.get(before), self._closed.pop(channel, None)):
            if place is not None:
                unit.needs.add(place)
        args = call.args or ()
        on_vcpu = {EvtchnOp.BIND_VIRQ: 1, EvtchnOp.BIND_IPI: 0}.get(EvtchnOp(call.op))
        if call.op == EvtchnOp.BIND_INTERDOMAIN:
            self._peers[channel] = (target, args[1])
            self._peers[target, args[1]] = channel
            self._parted.pop((target, args[1]), None)
        self._open(channel, unit, 0 if on_vcpu is None else args[on_vcpu])
        self._needs_fifo(unit, channel[0])

    def _open(self, channel: Channel, unit: Unit, vcpu: int) -> None:
        unit.channels.add(channel)
        unit.vcpus.add((channel[0], vcpu))
        self._opened[channel], self._homes[channel] = unit.place, vcpu
        self._gates.pop(channel, None)

    def _close(self, unit: Unit, channel: Channel) -> None:
        for send in self._unanswered.pop(channel, []):
            send.needs.add(unit.place)
        self._opened.pop(channel, None)
        self._closed[channel] = unit.place
        self._gates.pop(channel, None)
        peer = self._peers.pop(channel, None)
        if peer is not None and self._peers.pop(peer, None) is not None:
            self._parted[peer] = unit.place

    def _close_all(self, unit: Unit, dom: int) -> None:
        for channel in [channel for channel in self._opened if channel[0] == dom]:
            self._close(unit, channel)

    # --- what uses them ---------------------------------------------------------------------------

    def _send(self, unit: Unit, send: Send | None) -> None:
        if send is None or send.to_dom is None or send.to_port is None:
            return
        reached = (send.to_dom, send.to_port)
        unit.channels.add(reached)
        unit.vcpus.add((reached[0], self._homes.get(reached, 0)))
        self._use(unit, reached)
        unit.needs |= self._gating(reached)
        if send.fate is Fate.CLOSED:
            self._unanswered.setdefault(reached, []).append(unit)

    def _raise(self, unit: Unit, row: Row) -> None:
        del row
        unit.vcpus.add((unit.dom, unit.vcpu))
        self._needs_fifo(unit, unit.dom)

    def _configures(self, unit: Unit, call: Call, *, done: bool) -> None:
        args = call.args or ()
        if call.op in {EvtchnOp.INIT_CONTROL, EvtchnOp.EXPAND_ARRAY} and done:
            self._needs_fifo(unit, call.dom)
            self._fifo[call.dom] = unit.place
        elif call.op == EvtchnOp.BIND_VCPU and done:
            channel = (call.dom, args[0])
            self._homes[channel] = args[1]
            self._gates[channel] = self._gate(channel)._replace(move=unit.place)
        elif call.op == EvtchnOp.SET_PRIORITY and done:
            channel = (call.dom, args[0])
            self._gates[channel] = self._gate(channel)._replace(priority=unit.place)

    def _on_ports(self, unit: Unit) -> None:
        for channel in sorted(unit.channels):
            self._use(unit, channel)
            if unit.sort is Sort.RUN:
                unit.needs |= self._gating(channel)
                unit.vcpus.add((unit.dom, unit.vcpu))
            elif unit.sort is Sort.ACCESS and _gates(unit):
                self._gates[channel] = self._gate(channel)._replace(mask=unit.place)
                unit.vcpus.add((channel[0], self._homes.get(channel, 0)))

    def _use(self, unit: Unit, channel: Channel) -> None:
        for place in (self._opened.get(channel), self._parted.get(channel)):
            if place is not None and place != unit.place:
                unit.needs.add(place)
        self._needs_fifo(unit, channel[0])

    def _gating(self, channel: Channel) -> set[int]:
        """Give what let the port's events through, to where they went."""
        return {place for place in self._gate(channel) if place is not None}

    def _gate(self, channel: Channel) -> _Gates:
        return self._gates.get(channel, _Gates())

    def _needs_fifo(self, unit: Unit, dom: int) -> None:
        for place in (self._fifo.get(dom), self._created.get(dom)):
            if place is not None and place != unit.place:
                unit.needs.add(place)

    # --- events --------------------------------------------------------------------------------

    def _join_events(self, whole: Results) -> None:
        """Tie each run to what provoked it, and each event to the run that took it.

        A run needs the first event of each kind in its token: without it the next one would be
        delivered, not coalesced, or the run would have another cause.
        """
        for run in whole.runs:
            answer = self.by_seq.get(run.seq)
            kinds: set[ContributionKind] = set()
            for part in run.contributors:
                provoking = self.by_seq.get(part.seq)
                _need(provoking, answer)
                if part.kind not in kinds:
                    _need(answer, provoking)
                kinds.add(part.kind)
        for send in whole.sends:
            if send.polled_seq is not None:
                taker = self.by_seq.get(send.polled_seq)
                _need(self.by_seq.get(send.seq), taker)
                if send.fate is Fate.DELIVERED:
                    _need(taker, self.by_seq.get(send.seq))

    def _join_upcalls(self) -> None:
        """Let each part of an upcall need it."""
        for unit in self._units:
            if unit.upcall is not None and unit.sort is Sort.RUN:
                unit.needs.add(unit.upcall.place)


def _need(one: Unit | None, other: Unit | None) -> None:
    if one is None or other is None or one is other:
        return
    if one.sort is not Sort.STATE:  # a snapshot stands, whoever takes what it shows pending
        one.needs.add(other.place)


def _gates(unit: Unit) -> bool:
    return any(row.kind in {Kind.MASK, Kind.UNMASK} for row in unit.rows)


class Ties:
    """Needs in both directions, for sets that are closed under them."""

    def __init__(self, units: list[Unit]) -> None:
        """Take the needs of `units` as they stand."""
        self._units = units
        self._dependents: list[set[int]] = [set() for _ in units]
        self._parts: dict[int, set[int]] = {}
        for unit in units:
            for place in unit.needs:
                self._dependents[place].add(unit.place)
            if unit.upcall is not None and unit.sort is Sort.RUN:
                self._parts.setdefault(unit.upcall.place, set()).add(unit.place)

    def with_needs(self, places: Iterable[int]) -> set[int]:
        """Give the units with everything that they need."""
        found: set[int] = set()
        waiting = list(places)
        while waiting:
            place = waiting.pop()
            if place not in found:
                found.add(place)
                waiting.extend(self._units[place].needs - found)
        return found

    def without(self, kept: frozenset[int], dropped: Iterable[int]) -> frozenset[int]:
        """Give what is left of `kept` without some units and all that need them.

        An upcall goes with the last port that was handled in it.
        """
        gone: set[int] = set()
        waiting = [place for place in dropped if place in kept]
        while waiting:
            place = waiting.pop()
            if place in gone:
                continue
            gone.add(place)
            waiting.extend((self._dependents[place] & kept) - gone)
            upcall = self._units[place].upcall
            if upcall is not None and upcall.place not in gone and upcall.place in kept:
                parts = self._parts.get(upcall.place, set()) & kept
                if parts and parts <= gone:
                    waiting.append(upcall.place)
        return kept - gone
