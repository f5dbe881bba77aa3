"""The survey: what must be known of the own domain before its ports can be compared.

Its answers cannot be predicted, so none of them is counted as compared.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from evtrace.errors import CannotRecordError
from evtrace.replay.conform.fence import NAMELESS_VIRQS, NO_VCPU, OPENING, Fence, Reply
from evtrace.xen.abi import (
    DOMID_SELF,
    FIFO_DEFAULT_PRIORITY,
    FIFO_LIMIT,
    PAGE_WORDS,
    Errno,
    EvtchnOp,
    FormName,
    PortStatus,
)

PORTS_NEEDED: Final = 128
"""Free ports without which nothing is compared: more than a program opens, and some for others."""

_TWO_LEVEL_LIMIT: Final = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """The domain in which the program runs, as far as event channels go."""

    domid: int
    form: FormName
    vcpus: int
    usable_vcpus: tuple[int, ...]
    """vCPUs that run, so that events may be sent to them."""
    free_virqs: tuple[int, ...]
    """VIRQs without a name that nobody has bound."""
    room: int
    """Ports below have memory for their events."""
    open_ports: int
    """Ports of others, at the time of the survey."""


class NoRoomError(CannotRecordError):
    """Too few ports are free: Xen might give one that has no memory, or the kernel get none."""

    def __init__(self, open_ports: int, room: int) -> None:
        """Say how many are open, and of how many."""
        super().__init__(
            f"{open_ports} of {room} ports are open; {PORTS_NEEDED} more have to be free"
        )


class UnexpectedAnswerError(CannotRecordError):
    """Xen answers so that nothing can be compared."""

    def __init__(self, reply: Reply) -> None:
        """Name the operation and its result."""
        name = EvtchnOp(reply.command).name.lower()
        super().__init__(f"{name}: Xen answers {reply.ret} {reply.out}; nothing can be compared")


def survey(fence: Fence, running: Collection[int]) -> Place:
    """Find out where the program is; `running` are the vCPUs that the kernel runs.

    Ports that are opened for it are closed again. `NoRoomError`: too few are free.
    """
    probe = _open(fence, EvtchnOp.ALLOC_UNBOUND, DOMID_SELF, DOMID_SELF)
    domid = _ask(fence, EvtchnOp.STATUS, DOMID_SELF, probe)[2]
    form = _find_form(fence, probe)
    _ask(fence, EvtchnOp.CLOSE, probe)
    vcpus = _count_vcpus(fence)
    ports = _read_ports(fence)
    virqs = {out[2] for out in ports.values() if out[:1] == (PortStatus.VIRQ,)}
    room = _find_room(form, max(ports, default=0))
    if room - len(ports) < PORTS_NEEDED:
        raise NoRoomError(len(ports), room)
    usable = tuple(vcpu for vcpu in sorted(running) if vcpu < vcpus)
    return Place(
        domid=domid,
        form=form,
        vcpus=vcpus,
        usable_vcpus=usable or (0,),
        free_virqs=tuple(virq for virq in NAMELESS_VIRQS if virq not in virqs),
        room=room,
        open_ports=len(ports),
    )


def _ask(fence: Fence, op: EvtchnOp, *args: int) -> tuple[int, ...]:
    reply = fence.call(op, args)
    if reply.ret != 0 or (op in OPENING and not reply.out):
        raise UnexpectedAnswerError(reply)
    return reply.out


def _open(fence: Fence, op: EvtchnOp, *args: int) -> int:
    return _ask(fence, op, *args)[-1]


def _find_form(fence: Fence, own: int) -> FormName:
    """Tell the forms apart by what only FIFO has: priorities."""
    reply = fence.call(EvtchnOp.SET_PRIORITY, (own, FIFO_DEFAULT_PRIORITY))
    if reply.ret == 0:
        return FormName.FIFO
    if reply.ret == -Errno.ENOSYS:
        return FormName.TWO_LEVEL
    raise UnexpectedAnswerError(reply)


def _count_vcpus(fence: Fence) -> int:
    """Open an IPI for one vCPU after the other, until there is none."""
    for vcpu in range(NO_VCPU):
        reply = fence.call(EvtchnOp.BIND_IPI, (vcpu,))
        if reply.ret == -Errno.ENOENT and vcpu:
            return vcpu
        if reply.ret != 0:
            raise UnexpectedAnswerError(reply)
        _ask(fence, EvtchnOp.CLOSE, reply.out[-1])
    return NO_VCPU


def _read_ports(fence: Fence) -> dict[int, tuple[int, ...]]:
    """Read the status of all open ports, up to the end of the table."""
    ports: dict[int, tuple[int, ...]] = {}
    for number in range(1, FIFO_LIMIT):
        reply = fence.call(EvtchnOp.STATUS, (DOMID_SELF, number))
        if reply.ret == -Errno.EINVAL:
            break
        if reply.ret < 0 or reply.out[0] != PortStatus.CLOSED:
            ports[number] = reply.out
    return ports


def _find_room(form: FormName, highest_open: int) -> int:
    """Find the end of the ports that have memory.

    The kernel gives the FIFO form pages of event words as it opens ports. An event that comes
    before the page is kept by Xen and raised on whoever has the port by then. As Xen gives the
    lowest free port, none beyond is given while enough are free.
    """
    if form is FormName.TWO_LEVEL:
        return _TWO_LEVEL_LIMIT
    return (highest_open // PAGE_WORDS + 1) * PAGE_WORDS
