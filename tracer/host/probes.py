"""Probes: what is asked of the running kernel, as lines for tracefs (Linux: trace/kprobetrace).

The names are those that the importer knows (docs/importing.md).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from evtrace.tracer.host.code import EVENT_CHANNEL_OP, Code
from evtrace.tracer.host.sites import CallSite
from evtrace.tracer.host.values import WORDS

GROUP = "evtrace"
"""Group of all probes, and name of the tracefs instance."""

IRQ_EVENTS = ("irq/irq_handler_entry", "irq/irq_handler_exit")
"""Events of Linux that are recorded beside the probes."""

FUNCTIONS = (
    "__xen_pv_evtchn_do_upcall",
    "xen_pv_evtchn_do_upcall",
    "xen_evtchn_do_upcall",
    "xen_hvm_evtchn_do_upcall",
    "evtchn_2l_handle_events",
    "evtchn_fifo_handle_events",
    "evtchn_2l_clear_pending",
    "evtchn_fifo_clear_pending",
    "evtchn_2l_set_pending",
    "evtchn_fifo_set_pending",
    "evtchn_2l_mask",
    "evtchn_fifo_mask",
)
"""Functions that the function tracer follows, with their callers."""

_PORT = "port=%di:u32"
_ENTRIES = {
    "handle_irq_for_port": _PORT,
    "evtchn_2l_unmask": _PORT,
    "evtchn_fifo_unmask": _PORT,
    "unbind_from_irqhandler": "irq=%di:u32",
    "xen_irq_lateeoi": "irq=%di:s32 flags=%si:u32",
}
"""Function -> what is shown when it is entered."""

_BINDS = {
    "bind_evtchn_to_irq": _PORT,
    "bind_evtchn_to_irq_lateeoi": _PORT,
    "bind_evtchn_to_irqhandler": f"{_PORT} name=+0(%cx):string",
    "bind_evtchn_to_irqhandler_lateeoi": f"{_PORT} name=+0(%cx):string",
    "bind_interdomain_evtchn_to_irq_lateeoi": "",
    "bind_interdomain_evtchn_to_irqhandler_lateeoi": "",
    "bind_virq_to_irq": "",
    "bind_virq_to_irqhandler": "",
    "bind_ipi_to_irqhandler": "",
}
"""Function that ties an irq to a port -> what is shown when it is entered; it returns the irq."""

_MAX_ACTIVE = 10
"""Calls of one function whose return is waited for at a time."""
_MAX_NAME = 63


@dataclass(frozen=True, slots=True)
class Probe:
    """One kernel probe."""

    name: str
    definition: str
    """Line for kprobe_events."""
    filter: str = ""
    """Condition of its event; empty to take each."""
    is_call: bool = False
    """Shows a call of event_channel_op, or its return."""


def call_probes(sites: Iterable[CallSite], origin: int) -> Iterator[Probe]:
    """Give the probes before and behind each call; `origin` is the address of `_text`."""
    words = [f"w{number}" for number in range(WORDS)]
    for site in sites:
        name = site.name[: _MAX_NAME - len("_post")]
        condition = f"op=={EVENT_CHANNEL_OP}" if site.is_any else ""
        op = [f"op={site.op}"] if site.is_any else []
        if site.before is not None:
            shown = [f"{word}={fetch}" for word, fetch in zip(words, site.words, strict=False)]
            yield Probe(
                f"{name}_pre",
                _line(
                    "p",
                    f"{name}_pre",
                    _place(site, site.before, origin),
                    *op,
                    f"cmd={site.cmd}",
                    *shown,
                ),
                condition,
                is_call=True,
            )
        user = "u" * site.is_any
        shown = [f"{word}=+{user}{4 * number}(%si):x32" for number, word in enumerate(words)]
        place = _place(site, site.behind, origin)
        yield Probe(
            f"{name}_post",
            _line("p", f"{name}_post", place, *op, "cmd=%di:u32", "rc=%ax:s32", *shown),
            condition,
            is_call=True,
        )


def function_probes(code: Code) -> Iterator[Probe]:
    """Give the probes on the functions of the event-channel code that this kernel has."""
    for function, shown in _ENTRIES.items():
        if function in code.names:
            yield Probe(function, _line("p", function, function, shown))
    for function, shown in _BINDS.items():
        if function in code.names:
            yield Probe(function, _line("p", function, function, shown))
            name = f"{function}_ret"
            yield Probe(name, _line(f"r{_MAX_ACTIVE}", name, function, "irq=$retval:s32"))


def traced_functions(code: Code) -> list[str]:
    """Give the functions for the function tracer that this kernel has."""
    return [function for function in FUNCTIONS if function in code.names]


def _line(kind: str, name: str, place: str, *shown: str) -> str:
    return " ".join(filter(None, (f"{kind}:{GROUP}/{name}", place, *shown)))


def _place(site: CallSite, offset: int, origin: int) -> str:
    """Name a place by its function; where the name is that of several, by its way from `_text`."""
    function = site.function
    if not function.is_unique:
        return f"_text+{function.address + offset - origin}"
    prefix = f"{function.module}:" if function.module else ""
    return f"{prefix}{function.name}+{offset}"
