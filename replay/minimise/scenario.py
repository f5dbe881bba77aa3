"""The scenario of what is left: its operations as a script that the emulator can run.

The script does what the guests did, in their order; what a kernel does by itself (its upcalls, the
unmask after a driver is done) the emulator's kernels do by themselves. Ports that were open before
are open before. Numbers of ports may come out otherwise, so they are names in a script.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from evtrace.replay.calls import Call
from evtrace.replay.minimise.showing import Fact
from evtrace.replay.minimise.units import Sort, Unit
from evtrace.replay.tokens import Channel
from evtrace.script import Action, Script, ScriptDomain, ScriptPort, ScriptStep, Value
from evtrace.timeline import Kind, RecordClass, Row
from evtrace.tracefile.facts import Facts
from evtrace.tracefile.family import ChannelBits, GuestHabits, GuestType
from evtrace.xen.abi import DOMID_SELF, EvtchnOp, HYPERVISOR_sched_op, PortState, Virq

FAULTS: Final[Mapping[str, tuple[str, ...]]] = {
    "finding.NO_PENDING_AT_BIND": ("no-pending-at-bind",),
    "finding.LOST_SEND": ("lost-send",),
    "finding.LOST_UPCALL": ("lost-upcall",),
    "finding.NOT_DELIVERED": ("lost-send", "lost-upcall", "no-pending-at-bind"),
    "finding.WRONG_PORT": ("wrong-port",),
    "finding.SET_FOR_NOBODY": ("wrong-port", "pending-kept-over-close"),
    "finding.PENDING_KEPT_OVER_CLOSE": ("pending-kept-over-close",),
    "finding.UNMASK_WITHOUT_RERAISE": ("unmask-without-reraise",),
    "finding.NOT_CLEARED": ("forgets-to-clear",),
    "finding.NEVER_UNMASKED": ("never-unmasks",),
    "finding.WRONG_VCPU": ("no-vcpu-mask",),
    "finding.DOUBLE_HANDLE": ("double-handling",),
    "fate.LOST": ("lost-send", "lost-upcall", "forgets-to-clear"),
    "fate.HELD_MASKED": ("never-unmasks",),
    "cause.STALE_PENDING_REUSE": ("pending-kept-over-close",),
    "cause.DOUBLE_HANDLE": ("double-handling",),
    "cause.UNPROVOKED": ("wrong-port",),
}
"""Name of a fact -> the emulator's faults that may show it, the likeliest first."""

_FROM_THE_START: Final = frozenset(
    {"forgets-to-clear", "never-unmasks", "no-vcpu-mask", "double-handling"}
)
"""Faults that a kernel has all the time."""


_LINES: Final = {EvtchnOp.BIND_VIRQ: PortState.VIRQ, EvtchnOp.BIND_PIRQ: PortState.PIRQ}


class Placed(NamedTuple):
    """A step and the record that it stands for."""

    seq: int
    step: ScriptStep


@dataclass(frozen=True, slots=True)
class Scenario:
    """A script, and how it belongs to the trace."""

    script: Script
    fault_at: int
    """Step at which a fault has to act for the fact to come about."""
    names: Mapping[Channel, frozenset[str]]
    """Port -> what it is called in the script; a number that was used again has several names."""

    def with_fault(self, fault: str) -> Script:
        """Give the script with a fault of the emulator at its place."""
        steps = list(self.script.steps)
        at = 0 if fault in _FROM_THE_START else self.fault_at
        steps[at] = replace(steps[at], fault=fault)
        return replace(self.script, steps=tuple(steps))


def make_scenario(units: list[Unit], facts: Facts, fact: Fact, about: str) -> Scenario | None:
    """Make the scenario of `units`; None if they hold no step that the emulator could do."""
    writer = _Writer(units, facts)
    placed = sorted(writer.steps(), key=lambda one: one.seq)
    if not placed:
        return None
    ports = writer.ports()
    domains = tuple(writer.domains())
    acting = [place for place, one in enumerate(placed) if one.seq <= fact.seq]
    calls = [place for place in acting if placed[place].step.do is not Action.WAIT]
    names: dict[Channel, set[str]] = {}
    for channel, name in writer.named:
        names.setdefault(channel, set()).add(name)
    return Scenario(
        Script(about, domains, ports, tuple(one.step for one in placed)),
        calls[-1] if calls else 0,
        {channel: frozenset(known) for channel, known in names.items()},
    )


class _Writer:
    """Turns units into steps, and remembers which domains and ports these need."""

    def __init__(self, units: list[Unit], facts: Facts) -> None:
        self._facts = facts
        self._units = units
        self.named: list[tuple[Channel, str]] = []
        self._names: dict[Channel, str] = {}
        self._before: dict[Channel, Row | None] = {}
        self._vcpus: dict[int, int] = {}
        self._requested: set[str] = set()
        self._channels = {
            (unit.dom, row.port or 0): row
            for unit in units
            for row in unit.rows
            if row.kind == Kind.CHANNEL and not unit.is_late
        }
        self._late_eoi = _ports_with(units, lambda row: row.kind == Kind.EOI)
        self._no_work = _ports_with(units, lambda row: row.kind == Kind.EOI and bool(row.a0))
        self._handled = _ports_with(units, lambda row: row.kind == Kind.HANDLER_ENTER)
        self._unmasked = _ports_with(
            [unit for unit in units if unit.sort is Sort.ACCESS],
            lambda row: row.kind == Kind.UNMASK,
        )
        self._freed: set[Channel] = set()
        self._lines: dict[Channel, tuple[PortState, int]] = {}
        """Port that was opened here -> the VIRQ or PIRQ that it is bound to."""

    # --- steps ----------------------------------------------------------------------------------

    def steps(self) -> Iterator[Placed]:
        """Give the steps, unit by unit."""
        for unit in self._units:
            if unit.sort is not Sort.STATE:
                self._vcpus[unit.dom] = max(self._vcpus.get(unit.dom, 0), unit.vcpu)
                yield from self._steps_of(unit)

    def _steps_of(self, unit: Unit) -> Iterator[Placed]:
        row = unit.rows[0]
        match unit.sort:
            case Sort.CALL if unit.call is not None and unit.call.args is not None:
                yield from self._call(unit, unit.call)
            case Sort.RUN:
                yield from self._run(unit)
            case Sort.ACCESS | Sort.IRQ:
                yield from self._accesses(unit)
            case Sort.RAISE:
                yield from self._raise(unit, row)
            case Sort.HYPERCALL:
                yield from self._poll(unit, row)
            case Sort.DOMAIN if row.kind == Kind.DOMAIN_DESTROYED:
                yield self._step(unit, row.seq, Action.DESTROY)

    def _run(self, unit: Unit) -> Iterator[Placed]:
        """Wait for a handler, which the emulator's kernel calls by itself."""
        for row in unit.rows:
            if row.kind == Kind.HANDLER_ENTER and row.port is not None:
                values: dict[str, Value] = {"port": self._name((unit.dom, row.port))}
                yield from self._raise_unseen(unit, row)
                yield Placed(row.seq, ScriptStep(Action.WAIT, values=values))

    def _raise_unseen(self, unit: Unit, row: Row) -> Iterator[Placed]:
        """Raise what a run answers where its raising leaves no record, as on real hosts."""
        seen = [c for c in self._facts.coverage if RecordClass.RAISE in c.classes]
        if any(one.dom in {None, unit.dom} for one in seen):
            return
        channel = (unit.dom, row.port or 0)
        state, about, _ = _state(self._channels.get(channel))
        state, about = self._lines.get(channel, (state, about))
        if state is PortState.VIRQ:
            yield self._step(unit, row.seq, Action.RAISE_VIRQ, virq=_virq(about))
        elif state is PortState.PIRQ:
            yield self._step(unit, row.seq, Action.RAISE_PIRQ, pirq=about)

    @staticmethod
    def _step(unit: Unit, seq: int, action: Action, **values: Value) -> Placed:
        return Placed(seq, ScriptStep(action, f"d{unit.dom}", unit.vcpu, values))

    def _call(self, unit: Unit, call: Call) -> Iterator[Placed]:
        args, seq = call.args or (), call.enter.seq
        opened = call.outputs[0] if call.outputs and (call.rc or 0) >= 0 else None
        match call.op:
            case EvtchnOp.SEND | EvtchnOp.UNMASK | EvtchnOp.CLOSE:
                channel = (unit.dom, args[0])
                if call.op == EvtchnOp.CLOSE and channel in self._freed:
                    self._freed.discard(channel)
                else:
                    action = Action(EvtchnOp(call.op).name.lower())
                    yield self._step(unit, seq, action, port=self._name(channel))
                if call.op == EvtchnOp.CLOSE:
                    self._forget(channel)
            case EvtchnOp.STATUS if args[0] in {DOMID_SELF, unit.dom}:
                yield self._step(unit, seq, Action.STATUS, port=self._name((unit.dom, args[1])))
            case EvtchnOp.BIND_VCPU:
                name = self._name((unit.dom, args[0]))
                self._vcpus[unit.dom] = max(self._vcpus.get(unit.dom, 0), args[1])
                yield self._step(unit, seq, Action.BIND_VCPU, port=name, vcpu=args[1])
            case EvtchnOp.SET_PRIORITY:
                name = self._name((unit.dom, args[0]))
                yield self._step(unit, seq, Action.SET_PRIORITY, port=name, priority=args[1])
            case EvtchnOp.RESET:
                yield self._step(unit, seq, Action.RESET)
                for channel in [known for known in self._names if known[0] == unit.dom]:
                    self._forget(channel)
            case _:
                yield from self._opening(unit, call, args, opened)

    def _opening(
        self, unit: Unit, call: Call, args: tuple[int, ...], opened: int | None
    ) -> Iterator[Placed]:
        seq, op = call.enter.seq, EvtchnOp(call.op)
        values = self._opening_values(unit, op, args)
        if values is None:
            return
        name = f"refused{seq}" if opened is None else self._new_name((unit.dom, opened))
        bound = values.get("vcpu", 0)
        if isinstance(bound, int):
            self._vcpus[unit.dom] = max(self._vcpus.get(unit.dom, 0), bound)
        step = ScriptStep(
            Action(op.name.lower()), f"d{unit.dom}", unit.vcpu, {"port": name} | values
        )
        yield Placed(seq, step)
        channel = (unit.dom, opened or 0)
        if op in _LINES:
            self._lines[channel] = _LINES[op], args[0]
        if opened is not None and channel in self._handled and channel not in self._unmasked:
            yield self._request(unit, unit.last, channel)

    def _opening_values(
        self, unit: Unit, op: EvtchnOp, args: tuple[int, ...]
    ) -> dict[str, Value] | None:
        """Give what a step needs to know to open a port; None if it cannot be a step."""
        peer = unit.dom if args and args[0] == DOMID_SELF else (args or (0,))[0]
        match op:
            case EvtchnOp.ALLOC_UNBOUND if peer == unit.dom:
                remote = unit.dom if args[1] == DOMID_SELF else args[1]
                self._vcpus.setdefault(remote, 0)
                return {"for": f"d{remote}"}
            case EvtchnOp.BIND_INTERDOMAIN:
                return {"to": self._name((peer, args[1]))}
            case EvtchnOp.BIND_VIRQ:
                return {"virq": _virq(args[0]), "vcpu": args[1]}
            case EvtchnOp.BIND_IPI:
                return {"vcpu": args[0]}
            case EvtchnOp.BIND_PIRQ:
                return {"pirq": args[0]}
        return None  # a toolstack opens ports of others; here a domain opens its own, before

    def _request(self, unit: Unit, seq: int, channel: Channel) -> Placed:
        name = self._name(channel)
        self._requested.add(name)
        values: dict[str, Value] = {"port": name}
        if channel in self._late_eoi:
            values["late_eoi"] = True
        if channel in self._no_work:
            values["work"] = False
        return Placed(seq, ScriptStep(Action.REQUEST, f"d{unit.dom}", unit.vcpu, values))

    def _accesses(self, unit: Unit) -> Iterator[Placed]:
        for row in unit.rows:
            if row.port is None:
                continue
            channel = (unit.dom, row.port)
            match row.kind:
                case Kind.UNMASK if self._name(channel) not in self._requested:
                    yield self._request(unit, row.seq, channel)
                case Kind.IRQ_UNBOUND:
                    self._freed.add(channel)
                    yield self._step(unit, row.seq, Action.UNBIND, port=self._name(channel))
                case Kind.MASK if channel in self._freed:
                    pass
                case Kind.MASK | Kind.UNMASK | Kind.CLEAR | Kind.SET:
                    action = Action(Kind(row.kind).name.lower())
                    yield self._step(unit, row.seq, action, port=self._name(channel))

    def _raise(self, unit: Unit, row: Row) -> Iterator[Placed]:
        if row.kind == Kind.VIRQ_RAISED:
            yield self._step(unit, row.seq, Action.RAISE_VIRQ, virq=_virq(row.a0 or 0))
        elif row.kind == Kind.PIRQ_RAISED:
            yield self._step(unit, row.seq, Action.RAISE_PIRQ, pirq=row.a0 or 0)

    def _poll(self, unit: Unit, row: Row) -> Iterator[Placed]:
        """Let the vCPU wait for what it clears next, without an upcall."""
        if row.op != HYPERVISOR_sched_op:
            return
        for other in self._units:
            if other.sort is not Sort.ACCESS or (other.dom, other.vcpu) != (unit.dom, unit.vcpu):
                continue
            cleared = [one for one in other.rows if one.kind == Kind.CLEAR and one.seq > row.seq]
            if cleared and cleared[0].port is not None:
                name = self._name((unit.dom, cleared[0].port))
                yield self._step(unit, row.seq, Action.POLL, ports=(name,))
                return

    # --- names ----------------------------------------------------------------------------------

    def _name(self, channel: Channel) -> str:
        """Give the name of a port; one that was not opened here was open before."""
        if channel not in self._names:
            self._before[channel] = self._channels.get(channel)
            name = self._new_name(channel)
            if channel in self._handled or not _is_masked(self._before[channel]):
                self._requested.add(name)
        return self._names[channel]

    def _new_name(self, channel: Channel) -> str:
        name = f"d{channel[0]}:{channel[1]}"
        again = sum(known == channel for known, _ in self.named)
        self._names[channel] = f"{name} ({again + 1})" if again else name
        self.named.append((channel, self._names[channel]))
        self._vcpus.setdefault(channel[0], 0)
        return self._names[channel]

    def _forget(self, channel: Channel) -> None:
        self._names.pop(channel, None)

    def ports(self) -> tuple[ScriptPort, ...]:
        """Give the ports that were open before, with the other ends of theirs."""
        found: dict[str, ScriptPort] = {}
        waiting = list(self._before.items())
        while waiting:
            channel, row = waiting.pop(0)
            port, peer = self._port(channel, row)
            found[port.name] = port
            if peer is not None and f"d{peer[0]}:{peer[1]}" not in found:
                self._vcpus.setdefault(peer[0], 0)
                if peer not in self._names:
                    self._new_name(peer)
                waiting.append((peer, self._channels.get(peer) or _other_end(channel)))
        return tuple(found.values())

    def _port(self, channel: Channel, row: Row | None) -> tuple[ScriptPort, Channel | None]:
        name, dom = f"d{channel[0]}:{channel[1]}", f"d{channel[0]}"
        vcpu = (row.vcpu or 0) if row is not None else 0
        self._vcpus[channel[0]] = max(self._vcpus.get(channel[0], 0), vcpu)
        port = ScriptPort(
            name,
            dom,
            vcpu,
            masked=_is_masked(row) and channel not in self._handled,
            late_eoi=channel in self._late_eoi,
            work=channel not in self._no_work,
        )
        state, about, peer_port = _state(row)
        if state is PortState.VIRQ:
            return replace(port, virq=_virq(about)), None
        if state is PortState.PIRQ:
            return replace(port, pirq=about), None
        if state is PortState.IPI:
            return replace(port, ipi=True), None
        if state is PortState.INTERDOMAIN:
            return replace(port, peer=f"d{about}:{peer_port}"), (about, peer_port)
        self._vcpus.setdefault(about, 0)
        return replace(port, unbound_for=f"d{about}"), None

    def domains(self) -> Iterator[ScriptDomain]:
        """Give the domains that take part."""
        for dom, vcpu in sorted(self._vcpus.items()):
            facts = self._facts
            habits = facts.habits.get(dom)
            masks = habits is None or GuestHabits.MASKED_AT_START in habits
            form = facts.forms.get(dom)
            yield ScriptDomain(
                f"d{dom}",
                dom,
                max(facts.vcpus.get(dom, 1), vcpu + 1),
                None if form is None or not masks else ("fifo" if form else "2l"),
                "linux" if masks else "zephyr",
                True if facts.guest_types.get(dom) is GuestType.HVM and dom else None,
            )


def _ports_with(units: list[Unit], wanted: Callable[[Row], bool]) -> set[Channel]:
    return {
        (unit.dom, row.port)
        for unit in units
        for row in unit.rows
        if row.port is not None and wanted(row)
    }


def _is_masked(row: Row | None) -> bool:
    return row is not None and ChannelBits.MASKED in ChannelBits((row.a1 or 0) & ~0xFF)


def _state(row: Row | None) -> tuple[PortState, int, int]:
    """Give the state of a port before, what it is bound to, and the port there."""
    if row is None:
        return PortState.UNBOUND, 0, 0
    return PortState((row.a1 or 0) & 0xFF), row.a2 or 0, row.a3 or 0


def _other_end(channel: Channel) -> Row:
    """Make the row of a channel's other end, of which nothing is known but that it is one."""
    nothing = Row(0, 0, 0, 0, *(None,) * 3, Kind.CHANNEL, *(None,) * 11, 0)
    return nothing._replace(a1=int(PortState.INTERDOMAIN), a2=channel[0], a3=channel[1])


def _virq(number: int) -> str:
    return Virq(number).name if number in set(Virq) else str(number)
