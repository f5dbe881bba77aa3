"""The fence: lets through to a running Xen only what cannot touch a port of somebody else.

It stands between what is asked and the hypercall, and knows nothing of programs: whatever they ask,
an operation that changes a port names one that was opened here, or a number that no port ever has.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self, TypeAlias

from evtrace.errors import CannotRecordError, EvtraceError
from evtrace.xen.abi import DOMID_SELF, FIFO_LIMIT, NR_VIRQS, PAGE_BYTES, EvtchnOp, Virq
from evtrace.xen.ops import arg_names, decode_outputs, encode_args

NOBODY: Final = range(DOMID_SELF + 1, 1 << 16)
"""Numbers that name no domain that could have ports, whatever runs."""

NO_PORT: Final = FIFO_LIMIT
"""From here up no number is a port, in either form."""

NO_VCPU: Final = 1 << 13
"""From here up no number is a vCPU of any domain."""

NO_PIRQ: Final = 1 << 31
"""From here up no number is a PIRQ."""

NO_PAGE: Final = (1 << 64) - 1
"""A number that is no page of any domain."""

NO_COMMAND: Final = 1 << 16
"""From here up no number is an operation."""

NAMELESS_VIRQS: Final = (5, 14, 15)
"""VIRQs that Xen's header gives no name: nothing raises them, and no kernel binds them."""

OPENING: Final = frozenset(
    {
        EvtchnOp.ALLOC_UNBOUND,
        EvtchnOp.BIND_INTERDOMAIN,
        EvtchnOp.BIND_IPI,
        EvtchnOp.BIND_PIRQ,
        EvtchnOp.BIND_VIRQ,
    }
)
"""Operations that give out a port, as their only output."""

_DOMAIN_NAMES: Final = frozenset({"dom", "remote_dom"})

FILLER: Final = 0xA5A5_A5A5
"""What stands in a struct where no argument does: Xen must leave it, except for its outputs."""

_UNKNOWN_WORDS: Final = (FILLER, FILLER)
"""The struct of an operation that does not exist."""


Given: TypeAlias = Mapping[str, int]
"""Arguments of an operation by name."""


class HypercallPort(Protocol):
    """Who makes hypercalls for this program."""

    def event_channel_op(
        self, command: int, words: list[int] | None
    ) -> tuple[int, tuple[int, ...]]:
        """Give the result and the words after the call; without words: an unreadable struct."""


class OutsideFenceError(EvtraceError):
    """An operation that might touch a port of somebody else; it was not done."""

    def __init__(self, command: int, args: tuple[int, ...]) -> None:
        """Name the operation."""
        super().__init__(f"not done, it might touch a port not opened here: {command} {args}")


@dataclass(frozen=True, slots=True)
class Reply:
    """What Xen answered: the result, and the struct as it was before and after."""

    command: int
    ret: int
    sent: tuple[int, ...]
    words: tuple[int, ...]

    @property
    def out(self) -> tuple[int, ...]:
        """The outputs; none if Xen refused."""
        if self.ret < 0 or self.command >= NO_COMMAND:
            return ()
        return decode_outputs(EvtchnOp(self.command), self.words)


class Fence:
    """The own ports, and the only way to ask Xen. Leaving it as a context closes them all."""

    def __init__(self, port: HypercallPort) -> None:
        self._port = port
        self.own: set[int] = set()
        """Ports that were opened here and are open."""
        self.distrusted: set[int] = set()
        """Ports that Xen said it had opened, but had not as asked: whose they are is not known."""
        self.domid: int | None = None
        """Number of the own domain, once known; DOMID_SELF names it in any case."""
        self.room = FIFO_LIMIT
        """No port from here up is kept: the kernel may have no memory for its events."""
        self.opened = 0
        self.calls = 0

    def __enter__(self) -> Self:
        """Go in; nothing is open."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close what is open, however it ends."""
        self.close_all()

    def call(self, command: int, args: tuple[int, ...], *, readable: bool = True) -> Reply:
        """Ask Xen, if that is safe; else `OutsideFenceError`. `CannotRecordError`: no room."""
        if not self._is_safe(command, args):
            raise OutsideFenceError(command, args)
        reply = self._ask(command, args, readable=readable)
        if readable and reply.ret == 0:
            self._note(command, args, reply)
        return reply

    def distrust(self, number: int) -> None:
        """Leave a port alone from now on, closing included."""
        self.own.discard(number)
        self.distrusted.add(number)

    def close_all(self) -> None:
        """Close what is open; those that Xen refuses to close stay in `own`.

        An exception at one of them does not keep the others open.
        """
        with ExitStack() as stack:
            for number in sorted(self.own, reverse=True):
                stack.callback(self._close, number)

    def _close(self, number: int) -> None:
        if self._ask(EvtchnOp.CLOSE, (number,)).ret == 0:
            self.own.discard(number)

    def _note(self, command: int, args: tuple[int, ...], reply: Reply) -> None:
        """Keep the own ports as a call left them."""
        if command in OPENING:
            self._keep(*reply.out)
        elif command == EvtchnOp.CLOSE:
            self.own.discard(args[0])

    def _keep(self, number: int) -> None:
        self.own.add(number)
        self.opened += 1
        if number >= self.room:
            message = f"port {number} is beyond those that the kernel has set up; too many are open"
            raise CannotRecordError(message)

    def _ask(self, command: int, args: tuple[int, ...], *, readable: bool = True) -> Reply:
        sent = _struct_of(command, args)
        self.calls += 1
        ret, words = self._port.event_channel_op(command, sent if readable else None)
        return Reply(command, ret, tuple(sent), words if readable else tuple(sent))

    def _is_safe(self, command: int, args: tuple[int, ...]) -> bool:
        if command >= NO_COMMAND:
            return True
        op = EvtchnOp(command)
        rule = _RULES.get(op)
        return rule is not None and rule(self, dict(zip(arg_names(op), args, strict=True)))

    # Rules

    def changes_own(self, given: Given) -> bool:
        """Tell whether the port was opened here, or is none."""
        return given["port"] in self.own or given["port"] >= NO_PORT

    def changes_own_or_reserved(self, given: Given) -> bool:
        """Tell the same where port 0 is refused, or has nothing that could change."""
        return given["port"] == 0 or self.changes_own(given)

    def names_self(self, given: Given) -> bool:
        """Tell whether all domains are the own one, or none."""
        domids = (value for name, value in given.items() if name in _DOMAIN_NAMES)
        return all(domid in (DOMID_SELF, self.domid) or domid in NOBODY for domid in domids)

    def binds_own(self, given: Given) -> bool:
        """Tell whether both ends will be ports of this program, or Xen is certain to refuse."""
        peer = given["remote_port"]
        return self.names_self(given) and (peer == 0 or peer in self.own or peer >= NO_PORT)


def _binds_unused_virq(fence: Fence, given: Given) -> bool:
    """Tell whether no kernel wants the VIRQ, or Xen is certain to refuse."""
    del fence
    virq, vcpu = given["virq"], given["vcpu"]
    refused = virq >= NR_VIRQS or (virq == Virq.TIMER and vcpu >= NO_VCPU)
    return refused or virq in NAMELESS_VIRQS


def _lends_nothing(fence: Fence, given: Given) -> bool:
    """Tell whether Xen is certain to refuse a control block, by three of its checks."""
    del fence
    refused = given["vcpu"] >= NO_VCPU or given["offset"] >= PAGE_BYTES
    return refused and given["control_gfn"] == NO_PAGE


_RULES: Final[dict[EvtchnOp, Callable[[Fence, Given], bool]]] = {
    EvtchnOp.ALLOC_UNBOUND: Fence.names_self,
    EvtchnOp.BIND_INTERDOMAIN: Fence.binds_own,
    EvtchnOp.BIND_IPI: lambda *_: True,
    EvtchnOp.BIND_PIRQ: lambda _, given: given["pirq"] >= NO_PIRQ,
    EvtchnOp.BIND_VIRQ: _binds_unused_virq,
    EvtchnOp.BIND_VCPU: Fence.changes_own_or_reserved,
    EvtchnOp.CLOSE: Fence.changes_own_or_reserved,
    EvtchnOp.EXPAND_ARRAY: lambda _, given: given["array_gfn"] == NO_PAGE,
    EvtchnOp.INIT_CONTROL: _lends_nothing,
    EvtchnOp.SEND: Fence.changes_own_or_reserved,
    EvtchnOp.SET_PRIORITY: Fence.changes_own_or_reserved,
    EvtchnOp.STATUS: Fence.names_self,  # it only reads, so it may name any port
    EvtchnOp.UNMASK: lambda _, given: given["port"] >= NO_PORT,
}
"""When an operation is safe; what is not here never is."""


def _struct_of(command: int, args: tuple[int, ...]) -> list[int]:
    if command >= NO_COMMAND:
        return list(_UNKNOWN_WORDS)
    op = EvtchnOp(command)
    words = encode_args(op, args)
    return encode_args(op, args, onto=[FILLER] * len(words))
