"""What a Linux kernel's irq names tell of the ports behind them (arch/x86/xen/{smp,time}.c).

Linux names the irqs of its per-CPU event channels for their purpose and vCPU. Where neither a
bind nor a snapshot was captured, the name still says whether a port is a timer's or an IPI's.
"""

import re
from typing import NamedTuple

from evtrace.xen.abi import PortState, Virq


class NamedPort(NamedTuple):
    """What a port is by the name of its irq."""

    state: PortState
    vcpu: int
    virq: int = 0


_NAME = re.compile(r"(?P<purpose>[a-z]+)(?P<vcpu>\d+)$")
_VIRQS = {"timer": Virq.TIMER, "debug": Virq.DEBUG}
_IPIS = frozenset({"resched", "callfunc", "callfuncsingle", "irqwork", "spinlock"})


def port_by_name(name: str) -> NamedPort | None:
    """Tell what a port is by the name of its irq, e.g. `timer1`; None if the name does not say."""
    match = _NAME.match(name)
    if match is None:
        return None
    purpose, vcpu = match["purpose"], int(match["vcpu"])
    if purpose in _VIRQS:
        return NamedPort(PortState.VIRQ, vcpu, _VIRQS[purpose])
    return NamedPort(PortState.IPI, vcpu) if purpose in _IPIS else None
