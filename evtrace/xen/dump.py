"""The whole state of a machine as plain values, in the layout of recorded dumps.

Numbers that a guest sees as bit patterns are hexadecimal strings; what is zero or unset is left
out where a dump leaves it out.
"""

from collections.abc import Iterable
from typing import TypeAlias

from evtrace.xen.abi import PAGE_WORDS, PortState
from evtrace.xen.domain import Domain
from evtrace.xen.fifo import HEADS, READY, Fifo
from evtrace.xen.machine import Machine
from evtrace.xen.memory import MASK_BASE, PENDING_BASE
from evtrace.xen.port import Port
from evtrace.xen.vcpu import Vcpu

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


def dump_machine(machine: Machine) -> dict[str, Json]:
    """Give the state of all domains, ascending, and the handlers of global VIRQs."""
    return {
        "domains": [dump_domain(machine.domains[domid]) for domid in sorted(machine.domains)],
        "virq_handlers": {
            str(virq): domid for virq, domid in sorted(machine.virq_handlers.items())
        },
    }


def dump_domain(domain: Domain) -> dict[str, Json]:
    """Give the state of one domain."""
    in_use = [port for port in domain.ports if port.state != PortState.FREE]
    state: dict[str, Json] = {
        "domid": domain.domid,
        "priv": int(domain.is_privileged),
        "abi": domain.form.name.value,
        "bits": domain.word_bits,
        "dying": domain.dying.value,
        "max_port": domain.limits.max_port,
        "limit": domain.form.limit,
        "valid": len(domain.ports),
        "active": sum(port.state != PortState.RESERVED for port in in_use),
        "xen": sum(port.xen_consumer for port in in_use),
        "next_reset": domain.next_reset,
        "paused": domain.pause_count,
        "ports": [_dump_port(domain, port) for port in in_use],
        "pending": _dump_bits(domain, PENDING_BASE),
        "mask": _dump_bits(domain, MASK_BASE),
        "poll_mask": domain.polling,
        "vcpus": [_dump_vcpu(vcpu) for vcpu in domain.vcpus],
    }
    if domain.fifo:
        state["array_pages"] = len(domain.fifo.array)
        state["words"] = _dump_words(domain, domain.fifo)
    return state


def _dump_bits(domain: Domain, base: int) -> dict[str, Json]:
    words = ((word, domain.memory.read(base + word)) for word in range(domain.word_bits))
    return {str(word): hex(value) for word, value in words if value}


def _dump_port(domain: Domain, port: Port) -> dict[str, Json]:
    state: dict[str, Json] = {
        "port": port.number,
        "state": f"ECS_{port.state.name}",
        "vcpu": port.notify_vcpu,
    }
    match port.state:
        case PortState.UNBOUND:
            state["remote_dom"] = port.remote_dom
        case PortState.INTERDOMAIN:
            state |= {"remote_dom": port.remote_dom, "remote_port": port.remote_port}
        case PortState.PIRQ:
            state["pirq"] = port.pirq
        case PortState.VIRQ:
            state["virq"] = port.virq
    if port.xen_consumer:
        state["xen_consumer"] = 1
    if port.state != PortState.RESERVED:
        state["pending"] = int(domain.form.pending(port.number))
        state["masked"] = int(domain.form.masked(port.number))
    if domain.fifo:
        state |= {
            "prio": port.priority,
            "saved_pending": int(port.saved_pending),
            "lastq": [port.last_vcpu, port.last_priority],
            "linked": int(domain.fifo.linked(port.number)),
        }
    return state


def _dump_vcpu(vcpu: Vcpu) -> dict[str, Json]:
    state: dict[str, Json] = {
        "upcall_pending": int(vcpu.upcall_pending),
        "upcall_mask": int(vcpu.upcall_mask),
        "sel": hex(vcpu.selector),
        "blocked": int(vcpu.blocked),
        "poll": vcpu.poll,
        "virqs": {str(virq): port for virq, port in sorted(vcpu.virqs.items())},
    }
    if vcpu.domain.fifo:
        state |= _dump_queues(vcpu, vcpu.domain.fifo)
    return state


def _dump_queues(vcpu: Vcpu, fifo: Fifo) -> dict[str, Json]:
    queues = fifo.queues[vcpu.vcpu_id]
    block = queues.control_block
    if block is None:
        return {"cb": 0}
    read = vcpu.domain.memory.read
    heads = [read(block + HEADS + priority) for priority in range(len(queues.tails))]
    return {
        "cb": 1,
        "ready": read(block + READY),
        "heads": _dump_nonzero(heads),
        "tails": _dump_nonzero(queues.tails),
    }


def _dump_nonzero(values: Iterable[int]) -> dict[str, Json]:
    return {str(index): value for index, value in enumerate(values) if value}


def _dump_words(domain: Domain, fifo: Fifo) -> list[Json]:
    """Give the event words as runs [port, count, value], zeros left out."""
    runs: list[Json] = []
    start, count, value = 0, 0, 0
    for number in range(len(fifo.array) * PAGE_WORDS + 1):
        address = fifo.word_address(number)
        word = 0 if address is None else domain.memory.read(address)
        if word == value and address is not None:
            count += 1
            continue
        if value:
            runs.append([start, count, f"0x{value:08x}"])
        start, count, value = number, 1, word
    return runs
