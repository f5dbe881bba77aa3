"""Channels that come and go: port numbers with a new owner, and events that meet a close."""

from typing import TYPE_CHECKING, Final

from evtrace.tracer.emulator.linux import handler_of

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab, Mailbox
    from evtrace.tracer.emulator.linux import Linux
    from evtrace.tracer.emulator.steps import Task

_WORK_NS: Final = 8_000
"""What dom0's handlers take, so that events queue up behind one."""
_HEAD_START_NS: Final = 12_000
"""How long the domUs have been notifying when dom0 begins to close."""
_NOTIFIES: Final = 3
_MASKED_EVERY: Final = 3


def port_reuse(lab: "Lab", *, rounds: int = 10, channels: int = 6) -> None:
    """Ports are closed while events arrive, and the lowest numbers come back with new owners.

    rounds: how often all channels are replaced. channels: how many there are at a time.
    """
    dom0 = lab.domain("dom0", 0, vcpus=2)
    owners = [lab.domain("domU1"), lab.domain("domU2")]
    lab.start(dom0, _toolstack(lab, dom0, owners, rounds, channels))


class _Channel:
    """A channel between dom0 and the domU that owns it for the time being."""

    def __init__(self, owner: "Linux", front_irq: int) -> None:
        self.owner = owner
        self.front_irq = front_irq
        self.back_irq = 0


def _toolstack(
    lab: "Lab", dom0: "Linux", owners: "list[Linux]", rounds: int, channels: int
) -> "Task":
    """Replace every channel by one of the other domU, while its first owner still notifies."""
    present: list[_Channel] = []
    for number in range(rounds + 1):
        owner, former = owners[number % 2], owners[number % 2 - 1]
        coming = yield lab.ask(dom0, owner, _offer(owner, channels if number < rounds else 0))
        for channel in present[::_MASKED_EVERY]:
            yield dom0.disable_irq(channel.back_irq)
        done = lab.mailbox()
        lab.start(former, _notify(former, present, done))
        yield _HEAD_START_NS
        yield _replace(dom0, present, coming)
        yield done.get(dom0)
        present = coming


def _offer(owner: "Linux", count: int) -> "Task":
    """Open ports for dom0; gives the channels."""
    made = []
    for _ in range(count):
        port = yield owner.alloc_unbound(0)
        irq = yield owner.bind_evtchn_to_irqhandler(port, handler_of(), "front")
        made.append(_Channel(owner, irq))
    return made


def _replace(dom0: "Linux", present: list[_Channel], coming: list[_Channel]) -> "Task":
    """Close each channel and at once bind the next one: its port may be the one just closed."""
    for place in range(max(len(present), len(coming))):
        if present:
            yield dom0.unbind_from_irqhandler(present[place].back_irq)
        if coming:
            yield _bind(dom0, coming[place])


def _bind(dom0: "Linux", channel: _Channel) -> "Task":
    """Bind a domU's port on dom0's last vCPU: the others find it linked there for a while."""
    owner = channel.owner
    irq = channel.back_irq = yield dom0.bind_interdomain_evtchn_to_irq(
        owner.dom, owner.port_of(channel.front_irq)
    )
    yield dom0.irq_set_affinity(irq, len(dom0.cpus) - 1)
    yield dom0.request_irq(irq, _work, "back")


def _work(irq: int) -> "Task":
    del irq
    yield _WORK_NS


def _notify(owner: "Linux", present: list[_Channel], done: "Mailbox") -> "Task":
    """Notify through every channel several times, then close one's own end."""
    for _ in range(_NOTIFIES):
        for channel in present:
            yield owner.notify_remote_via_irq(channel.front_irq)
    for channel in present:
        yield owner.unbind_from_irqhandler(channel.front_irq)
    done.put(None)
