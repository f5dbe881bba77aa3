"""A Xen to be asked: the model behind the door of hypercalls, in a domain that is in use.

The domain's kernel has ports of its own, and opens and closes some between our calls.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from evtrace.guest import bits
from evtrace.xen.abi import DOMID_SELF, FIFO_MASKED, EvtchnOp, FormName, PortState
from evtrace.xen.effects import EffectKind
from evtrace.xen.machine import ARGS_UNREADABLE, Answer, Machine
from evtrace.xen.ops import decode_args, encode_outputs
from evtrace.xen.profiles import Profile, find_profile

KERNEL_PORTS = 40
SURVEY_CALLS = 150
"""Calls after which the survey is certainly done."""
DISTURBING = (EffectKind.UPCALL, EffectKind.WAKE)

Alter = Callable[["LiveXen", int, tuple[int, ...], Answer], Answer]


class DoorBrokenError(Exception):
    """The device fails."""


@dataclass
class LiveXen:
    """A running Xen; `alter` makes it answer wrongly, once the survey is done.

    `breaks_at` makes that call fail.
    """

    form: FormName = FormName.FIFO
    profile: Profile = field(default_factory=lambda: find_profile("4.17"))
    domid: int = 0
    vcpus: int = 2
    busy: float = 0.05
    seed: int = 0
    alter: Alter | None = None
    breaks_at: int | None = None
    scribbles: bool = False

    def __post_init__(self):
        self.calls = 0
        self.random = Random(self.seed)  # noqa: S311  a test is to be repeated
        self.machine = Machine(self.profile, record_memory=False)
        self.domain = self.machine.seed_domain(self.domid, self.vcpus, self.form)
        if self.domain.fifo is not None:
            self.domain.fifo.seed_port(self.domain.ports[0], FIFO_MASKED)
        bits.mask_all(self.domain)
        self.kernel = [
            self.do(EvtchnOp.BIND_IPI, n % self.vcpus).out[0] for n in range(KERNEL_PORTS)
        ]
        self.kernel.append(self.do(EvtchnOp.BIND_VIRQ, 2, 0).out[0])
        for number in self.random.sample(self.kernel, 9):
            self.kernel_closes(number)
        self.disturbed = []

    def do(self, op, *args):
        return self.machine.hypercall(self.domid, 0, op, args)

    def kernel_closes(self, number):
        self.kernel.remove(number)
        self.do(EvtchnOp.CLOSE, number)

    def others_work(self):
        """The kernel opens and closes a port, now and then."""
        if self.random.random() >= self.busy:
            return
        if self.random.random() < 0.5 and len(self.kernel) > 20:
            self.kernel_closes(self.random.choice(self.kernel))
        else:
            self.kernel.append(self.do(EvtchnOp.ALLOC_UNBOUND, DOMID_SELF, 7).out[0])

    def event_channel_op(self, command, words):
        self.others_work()
        self.machine.take_effects()
        self.calls += 1
        if self.calls == self.breaks_at:
            raise DoorBrokenError
        args = () if words is None else self.args_of(command, words)
        fault = ARGS_UNREADABLE if words is None else 0
        answer = self.machine.hypercall(self.domid, 0, command, args, fault)
        self.disturbed += [e for e in self.machine.take_effects() if e[0] in DISTURBING]
        if self.alter is not None and self.calls > SURVEY_CALLS:
            answer = self.alter(self, command, args, answer)
        if words is None:
            return answer.ret, ()
        if self.scribbles and command == EvtchnOp.SEND:
            words = [word ^ 1 for word in words]
        known = command in set(EvtchnOp) and answer.out
        return answer.ret, tuple(
            encode_outputs(EvtchnOp(command), answer.out, onto=words) if known else words
        )

    @staticmethod
    def args_of(command, words):
        return decode_args(EvtchnOp(command), words) if command in set(EvtchnOp) else ()

    @property
    def kernels_state(self):
        """What the kernel's ports are."""
        return {n: self.domain.ports[n].state for n in self.kernel}

    @property
    def strays(self):
        """Open ports that are not the kernel's."""
        return [
            port.number
            for port in self.domain.ports
            if port.state > PortState.RESERVED and port.number not in self.kernel
        ]
