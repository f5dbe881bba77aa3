"""From a line of a vector file to a step of the model: what to run, and how its answer is written.

`prepare` does all that depends on the line alone, so that running a step is the model's work only.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from evtrace.guest import bits, queue
from evtrace.guest.scan import ScanRules, run_upcall
from evtrace.guest.unmask import unmask_linux
from evtrace.replay.conform.vectors import BadVectorError, Line
from evtrace.xen.abi import DOMID_SELF, EvtchnOp, HypercallError, PortStatus
from evtrace.xen.domain import NO_PORT_LIMIT, Domain, Limits
from evtrace.xen.dump import Json
from evtrace.xen.machine import Answer, Machine
from evtrace.xen.ops import arg_names, output_names
from evtrace.xen.vcpu import Vcpu


class BadOperationError(BadVectorError):
    """A line names an operation that vectors do not have."""

    def __init__(self, line: Line) -> None:
        """Name the operation."""
        super().__init__(line.path, line.number, f"unknown operation {line.op!r}")


class MissingArgumentError(BadVectorError):
    """A line lacks an argument of its operation."""

    def __init__(self, line: Line, name: str) -> None:
        """Name the argument."""
        super().__init__(line.path, line.number, f"{line.op} without number {name!r}")


Namer: TypeAlias = Callable[[tuple[int, ...]], "dict[str, Json] | None"]
NOTHING: Final = Answer(0)


def _name_none(out: tuple[int, ...]) -> None:
    del out


class Step(NamedTuple):
    """One line, ready to run; `name_outputs` writes the answer's outputs as a vector does."""

    run: Callable[[Machine], Answer]
    name_outputs: Namer = _name_none
    returns_nothing: bool = False
    """Success is recorded as null: the operation has no return value."""


def prepare(line: Line) -> Step:
    """Make the step of a line; `BadVectorError` if the operation or an argument is unknown."""
    if line.op in _HYPERCALLS:
        return _prepare_hypercall(line, _HYPERCALLS[line.op])
    maker = _MAKERS.get(line.op)
    if maker is None:
        raise BadOperationError(line)
    return maker(line)


def _number(line: Line, name: str) -> int:
    if name not in line.numbers:
        raise MissingArgumentError(line, name)
    return line.numbers[name]


# Hypercalls

_HYPERCALLS: Final = {op.name.lower(): op for op in EvtchnOp}

_VECTOR_NAMES: Final = {"control_gfn": "gfn", "array_gfn": "gfn"}
"""Arguments that vectors call otherwise than Xen's structs."""


def _prepare_hypercall(line: Line, op: EvtchnOp) -> Step:
    args = tuple(_number(line, _VECTOR_NAMES.get(name, name)) for name in arg_names(op))
    preempt = bool(line.numbers.get("preempt", 0))
    dom, vcpu, fault = line.dom, line.vcpu, line.fault

    def run(machine: Machine) -> Answer:
        machine.work_waits = preempt
        return machine.hypercall(dom, vcpu, op, args, fault)

    return Step(run, partial(_name_hypercall, op))


def _name_hypercall(op: EvtchnOp, out: tuple[int, ...]) -> dict[str, Json] | None:
    if not out:
        return None
    named: dict[str, Json] = dict(zip(output_names(op, out), out, strict=True))
    if op == EvtchnOp.STATUS:
        named["status"] = f"EVTCHNSTAT_{PortStatus(out[0]).name.lower()}"
    return named


def _prepare_unknown_op(line: Line) -> Step:
    dom, vcpu, command = line.dom, line.vcpu, _number(line, "cmd")
    return Step(lambda machine: machine.hypercall(dom, vcpu, command, ()))


def _prepare_bulk_alloc(line: Line) -> Step:
    owner, remote = line.numbers.get("dom", DOMID_SELF), _number(line, "remote_dom")
    calls = [(owner, remote)] * _number(line, "n")
    return _prepare_bulk(line, EvtchnOp.ALLOC_UNBOUND, calls)


def _prepare_bulk_expand(line: Line) -> Step:
    first = _number(line, "gfn")
    calls = [(first + i,) for i in range(_number(line, "n"))]
    return _prepare_bulk(line, EvtchnOp.EXPAND_ARRAY, calls)


def _prepare_bulk(line: Line, op: EvtchnOp, calls: Sequence[tuple[int, ...]]) -> Step:
    """Repeat a call up to its first error; outputs: how often it succeeded, ports given out."""
    dom, vcpu = line.dom, line.vcpu

    def run(machine: Machine) -> Answer:
        ports: list[int] = []
        for done, args in enumerate(calls):
            answer = machine.hypercall(dom, vcpu, op, args)
            if answer.ret:
                return Answer(answer.ret, (done, *ports))
            ports += answer.out
        return Answer(0, (len(calls), *ports))

    return Step(run, _name_bulk_alloc if op == EvtchnOp.ALLOC_UNBOUND else _name_bulk_expand)


def _name_bulk_alloc(out: tuple[int, ...]) -> dict[str, Json]:
    done, *ports = out
    first, last = (ports[0], ports[-1]) if ports else (0, 0)
    return {"done": done, "first": first, "last": last}


def _name_bulk_expand(out: tuple[int, ...]) -> dict[str, Json]:
    return {"done": out[0]}


def _prepare_sched_poll(line: Line) -> Step:
    dom, vcpu, ports = line.dom, line.vcpu, line.lists.get("ports", [])
    return Step(lambda machine: machine.sched_poll(dom, vcpu, ports), _name_wait)


def _prepare_sched_block(line: Line) -> Step:
    dom, vcpu = line.dom, line.vcpu
    return Step(lambda machine: machine.sched_block(dom, vcpu), _name_wait)


def _name_wait(out: tuple[int, ...]) -> dict[str, Json]:
    return {"blocked": out[0]}


# Management

Manage: TypeAlias = Callable[[Machine, list[int]], int | None]


def _managing(names: str, manage: Manage, *, returns_nothing: bool = False) -> "Maker":
    """Make steps of a management method from the names of its arguments."""

    def prepare_line(line: Line) -> Step:
        args = [_number(line, name) for name in names.split()]
        preempt = bool(line.numbers.get("preempt", 0))

        def run(machine: Machine) -> Answer:
            machine.work_waits = preempt
            try:
                ret = manage(machine, args)
            except HypercallError as refusal:
                return Answer(-refusal.errno)
            return Answer(ret or 0)

        return Step(run, returns_nothing=returns_nothing)

    return prepare_line


def _prepare_domain_create(line: Line) -> Step:
    domid, vcpus = _number(line, "domid"), _number(line, "vcpus")
    numbers = line.numbers
    limits = Limits(
        max_port=numbers.get("max_port", NO_PORT_LIMIT),
        nr_pirqs=numbers.get("nr_pirqs", 64),
        pirqs=None if domid == 0 else frozenset(line.lists.get("pirqs", [])),
        gfns=numbers.get("gfns", 256),
        read_only_gfns=frozenset(line.lists.get("ro_gfns", [])),
        target=numbers.get("target_of"),
    )

    def run(machine: Machine) -> Answer:
        try:
            machine.create_domain(
                domid,
                vcpus,
                is_privileged=bool(numbers.get("priv", 0)),
                is_hvm=bool(numbers.get("hvm", 0)),
                word_bits=32 if numbers.get("abi32", 0) else 64,
                upcall_mask=bool(numbers.get("upcall_mask", 0)),
                limits=limits,
            )
        except HypercallError as refusal:
            return Answer(-refusal.errno)
        return NOTHING

    return Step(run)


# Guests

_SKIPPED: Final[dict[str, Json]] = {"skipped": "port out of shared memory"}

OnDomain: TypeAlias = Callable[[Domain, list[int]], bool | None]
OnVcpu: TypeAlias = Callable[[Vcpu, list[int]], None]


def _writing(names: str, write: OnDomain) -> "Maker":
    """Make steps of a guest's write that may be skipped for want of memory."""

    def prepare_line(line: Line) -> Step:
        dom, args = line.dom, [_number(line, name) for name in names.split()]

        def run(machine: Machine) -> Answer:
            return Answer(0, (1,)) if write(machine.domains[dom], args) is False else NOTHING

        return Step(run, lambda out: _SKIPPED if out else None, returns_nothing=True)

    return prepare_line


def _touching(names: str, touch: OnVcpu) -> "Maker":
    """Make steps of what a guest does on its own vCPU."""

    def prepare_line(line: Line) -> Step:
        dom, vcpu, args = line.dom, line.vcpu, [_number(line, name) for name in names.split()]

        def run(machine: Machine) -> Answer:
            touch(machine.domains[dom].vcpus[vcpu], args)
            return NOTHING

        return Step(run, returns_nothing=True)

    return prepare_line


def _prepare_unmask(line: Line) -> Step:
    dom, vcpu, port = line.dom, line.vcpu, _number(line, "port")

    def run(machine: Machine) -> Answer:
        unmasked = unmask_linux(machine, machine.domains[dom].vcpus[vcpu], port)
        if unmasked is None:
            return NOTHING
        return Answer(0, (0,) if unmasked.ret is None else (1, unmasked.ret))

    return Step(run, _name_unmask, returns_nothing=True)


def _name_unmask(out: tuple[int, ...]) -> dict[str, Json]:
    if not out:
        return _SKIPPED
    return dict(zip(("hypercall", "unmask_ret"), out, strict=False))


def _prepare_upcall(line: Line) -> Step:
    numbers, words = line.numbers, line.words
    rules = ScanRules(
        round_robin=words.get("style") != "simple",
        bound_only=words.get("filter") == "bound",
        masks=bool(numbers.get("mask", 0)),
        clears=bool(numbers.get("clear", 1)),
        force=bool(numbers.get("force", 0)),
        limit=numbers.get("limit"),
    )
    dom, vcpu = line.dom, line.vcpu

    def run(machine: Machine) -> Answer:
        upcall = run_upcall(machine.domains[dom].vcpus[vcpu], rules)
        return NOTHING if upcall is None else Answer(0, (upcall.bad_heads, *upcall.handled))

    return Step(run, _name_upcall, returns_nothing=True)


def _name_upcall(out: tuple[int, ...]) -> dict[str, Json]:
    if not out:
        return {"delivered": 0}
    bad_heads, *handled = out
    named: dict[str, Json] = {"delivered": 1, "handled": list[Json](handled)}
    return named | {"bad_head": bad_heads} if bad_heads else named


Maker: TypeAlias = Callable[[Line], Step]

_MAKERS: Final[dict[str, Maker]] = {
    "unknown_op": _prepare_unknown_op,
    "bulk_alloc_unbound": _prepare_bulk_alloc,
    "bulk_expand_array": _prepare_bulk_expand,
    "sched_poll": _prepare_sched_poll,
    "sched_block": _prepare_sched_block,
    "register_vcpu_info": _touching("", lambda v, _: v.register_info()),
    "domain_create": _prepare_domain_create,
    "domain_kill": _managing("domid", lambda m, a: m.kill_domain(*a)),
    "domain_destroy": _managing("domid", lambda m, a: m.destroy_domain(*a)),
    "domain_pause": _managing("domid", lambda m, a: m.pause_domain(*a)),
    "domain_unpause": _managing("domid", lambda m, a: m.unpause_domain(*a)),
    "virq_raise_vcpu": _managing(
        "domid vcpu virq", lambda m, a: m.raise_vcpu_virq(*a), returns_nothing=True
    ),
    "virq_raise_domain": _managing(
        "domid virq", lambda m, a: m.raise_domain_virq(*a), returns_nothing=True
    ),
    "virq_raise_global": _managing(
        "virq", lambda m, a: m.raise_global_virq(*a), returns_nothing=True
    ),
    "set_virq_handler": _managing("domid virq", lambda m, a: m.set_virq_handler(*a)),
    "pirq_raise": _managing("domid pirq", lambda m, a: m.raise_pirq(*a), returns_nothing=True),
    "xen_alloc_unbound": _managing("domid vcpu remote_dom", lambda m, a: m.xen_alloc_unbound(*a)),
    "xen_notify": _managing("domid port", lambda m, a: m.xen_notify(*a), returns_nothing=True),
    "xen_free": _managing("domid port", lambda m, a: m.xen_free(*a), returns_nothing=True),
    "g_mask": _writing("port", lambda d, a: bits.mask(d, *a)),
    "g_clear_mask": _writing("port", lambda d, a: bits.clear_mask(d, *a)),
    "g_clear_pending": _writing("port", lambda d, a: bits.clear_pending(d, *a)),
    "g_set_pending": _writing("port", lambda d, a: bits.set_pending(d, *a)),
    "g_mask_all": _writing("", lambda d, _: bits.mask_all(d)),
    "g_write_word": _writing("port value", lambda d, a: bits.write_word(d, *a)),
    "g_page_fill": _writing("gfn value", lambda d, a: bits.fill_page(d, *a)),
    "g_unmask": _prepare_unmask,
    "g_upcall": _prepare_upcall,
    "g_upcall_mask": _touching("value", lambda v, a: bits.write_upcall_mask(v, *a)),
    "g_clear_upcall_pending": _touching("", lambda v, _: bits.clear_upcall_pending(v)),
    "g_fifo_local_reset": _touching("", lambda v, _: queue.forget_heads(v)),
    "vcpu_unblock": _touching("", lambda v, _: v.unblock()),
}
