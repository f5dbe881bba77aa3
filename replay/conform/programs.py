"""Programs for a running Xen: random sequences of operations, the same for the same seed.

A program is written in the model's numbers of ports, step by step, by what is open in the model.
It opens and uses loopback ports and IPIs of its own domain; whatever it asks about others is asked
with numbers that nobody has. What it opened, it looks at and closes at its end.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Final, NamedTuple, TypeAlias

from evtrace.replay.conform.fence import NO_COMMAND, NO_PAGE, NO_PIRQ, NO_PORT, NO_VCPU, NOBODY
from evtrace.replay.conform.survey import Place
from evtrace.xen.abi import DOMID_SELF, FIFO_QUEUES, NR_VIRQS, PAGE_BYTES, EvtchnOp, PortState, Virq
from evtrace.xen.domain import Domain

MOST_OPEN: Final = 48
"""Ports that a program has open at most, so that the kernel never lacks one."""

_LARGEST: Final = (1 << 32) - 1
_NO_PORTS: Final = (NO_PORT, NO_PORT + 1, 1 << 24, _LARGEST)
_NO_VCPUS: Final = (NO_VCPU, 1 << 20, _LARGEST)
_NO_DOMAINS: Final = (NOBODY[0], NOBODY[1], NOBODY[2], NOBODY[3], NOBODY[-1])


class Ask(NamedTuple):
    """One operation to be done; `readable` is false if Xen cannot read its arguments."""

    command: int
    args: tuple[int, ...]
    readable: bool = True


Maker: TypeAlias = "Callable[[Program], Ask]"


class Program:
    """A sequence of operations, written while it is run."""

    def __init__(self, seed: int, length: int, place: Place, domain: Domain) -> None:
        self._random = Random(seed)  # noqa: S311  a program is to be repeated, not to be secret
        self._length = length
        self._place = place
        self._domain = domain
        """The own domain in the model, after what was asked so far."""

    def __iter__(self) -> Iterator[Ask]:
        """Give the operations; the model does each before the next is taken."""
        for _ in range(self._length):
            yield self._next()
        own = self._own()
        yield from (Ask(EvtchnOp.STATUS, (DOMID_SELF, number)) for number in own)
        self._random.shuffle(own)
        while own:
            yield Ask(EvtchnOp.CLOSE, (own.pop(),))
            if own:
                yield Ask(EvtchnOp.STATUS, (DOMID_SELF, self._random.choice(own)))

    def _next(self) -> Ask:
        if len(self._own()) >= MOST_OPEN:
            return self._close()
        (make,) = self._random.choices(_MAKERS, _WEIGHTS)
        ask = make(self)
        return ask if self._likely(0.98) else ask._replace(readable=False)

    # Operations

    def _alloc_unbound(self) -> Ask:
        return Ask(EvtchnOp.ALLOC_UNBOUND, (self._domid(0.9), self._domid(0.85)))

    def _bind_interdomain(self) -> Ask:
        waiting = self._own(PortState.UNBOUND)
        number = self._random.choice(waiting) if waiting and self._likely(0.8) else self._port(0.8)
        return Ask(EvtchnOp.BIND_INTERDOMAIN, (self._domid(0.92), number))

    def _bind_ipi(self) -> Ask:
        return Ask(EvtchnOp.BIND_IPI, (self._vcpu(),))

    def _bind_virq(self) -> Ask:
        pick = self._random.choice
        if self._place.free_virqs and self._likely(0.75):
            vcpu = 0 if self._likely(0.85) else pick((1, self._place.vcpus, *_NO_VCPUS))
            return Ask(EvtchnOp.BIND_VIRQ, (pick(self._place.free_virqs), vcpu))
        if self._likely(0.5):
            return Ask(EvtchnOp.BIND_VIRQ, (Virq.TIMER, pick(_NO_VCPUS)))
        return Ask(EvtchnOp.BIND_VIRQ, (pick((NR_VIRQS, NR_VIRQS + 1, _LARGEST)), self._vcpu()))

    def _bind_pirq(self) -> Ask:
        pick = self._random.choice
        return Ask(EvtchnOp.BIND_PIRQ, (pick((NO_PIRQ, _LARGEST)), pick((0, 1))))

    def _send(self) -> Ask:
        return Ask(EvtchnOp.SEND, (self._port(0.93),))

    def _status(self) -> Ask:
        return Ask(EvtchnOp.STATUS, (self._domid(0.93), self._port(0.93)))

    def _bind_vcpu(self) -> Ask:
        return Ask(EvtchnOp.BIND_VCPU, (self._port(0.9), self._vcpu()))

    def _set_priority(self) -> Ask:
        pick = self._random.choice
        queue = pick(range(FIFO_QUEUES)) if self._likely(0.8) else pick((FIFO_QUEUES, _LARGEST))
        return Ask(EvtchnOp.SET_PRIORITY, (self._port(0.85), queue))

    def _close(self) -> Ask:
        return Ask(EvtchnOp.CLOSE, (self._port(0.9),))

    def _unmask(self) -> Ask:
        return Ask(EvtchnOp.UNMASK, (self._random.choice(_NO_PORTS),))

    def _init_control(self) -> Ask:
        if self._likely(0.5):
            vcpu, offset = self._random.choice(_NO_VCPUS), self._random.choice((0, 4, _LARGEST))
        else:
            vcpu, offset = self._vcpu(), self._random.choice((PAGE_BYTES, 2 * PAGE_BYTES, _LARGEST))
        return Ask(EvtchnOp.INIT_CONTROL, (NO_PAGE, offset, vcpu))

    def _expand_array(self) -> Ask:
        return Ask(EvtchnOp.EXPAND_ARRAY, (NO_PAGE,))

    def _unknown(self) -> Ask:
        return Ask(self._random.choice((NO_COMMAND, 1 << 30)), ())

    # Arguments

    def _likely(self, chance: float) -> bool:
        return self._random.random() < chance

    def _own(self, *states: PortState) -> list[int]:
        return [
            port.number
            for port in self._domain.ports
            if port.usable and (not states or port.state in states)
        ]

    def _port(self, chance: float) -> int:
        """Pick an own port, or with the rest of the chance one that is refused."""
        own = self._own()
        wanted = own if own and self._likely(chance) else [0, *_NO_PORTS]
        return self._random.choice(wanted)

    def _domid(self, chance: float) -> int:
        """Name the own domain in either way, or with the rest of the chance nobody."""
        own = (DOMID_SELF, self._place.domid)
        return self._random.choice(own if self._likely(chance) else _NO_DOMAINS)

    def _vcpu(self) -> int:
        place = self._place
        refused = (place.vcpus, *_NO_VCPUS)
        return self._random.choice(place.usable_vcpus if self._likely(0.85) else refused)


_CHOICES: Final[dict[Maker, int]] = {
    Program._alloc_unbound: 13,  # noqa: SLF001  its own makers
    Program._bind_interdomain: 16,  # noqa: SLF001
    Program._bind_ipi: 6,  # noqa: SLF001
    Program._bind_virq: 5,  # noqa: SLF001
    Program._bind_pirq: 1,  # noqa: SLF001
    Program._send: 18,  # noqa: SLF001
    Program._status: 16,  # noqa: SLF001
    Program._bind_vcpu: 9,  # noqa: SLF001
    Program._set_priority: 6,  # noqa: SLF001
    Program._close: 11,  # noqa: SLF001
    Program._unmask: 1,  # noqa: SLF001
    Program._init_control: 1,  # noqa: SLF001
    Program._expand_array: 1,  # noqa: SLF001
    Program._unknown: 1,  # noqa: SLF001
}
_MAKERS: Final = tuple(_CHOICES)
_WEIGHTS: Final = tuple(_CHOICES.values())
"""How often each operation is asked for."""
