"""Scripts: scenarios of the emulator as data, step by step (docs/scenarios.md).

A script names domains, the ports that are open before the recording, and what is done then, one
step after the other. `read_script` reads one out of TOML, `Script.toml` writes it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum, unique
from pathlib import Path
from typing import Final, TypeAlias

from evtrace.fields import Fields, read_toml
from evtrace.xen.abi import Virq

Value: TypeAlias = str | int | bool | tuple[str, ...]


@unique
class Action(StrEnum):
    """What a step does."""

    ALLOC_UNBOUND = "alloc_unbound"
    BIND_INTERDOMAIN = "bind_interdomain"
    BIND_VIRQ = "bind_virq"
    BIND_IPI = "bind_ipi"
    BIND_PIRQ = "bind_pirq"
    REQUEST = "request"
    """Give the port a handler and unmask it."""
    SEND = "send"
    MASK = "mask"
    UNMASK = "unmask"
    SET = "set"
    """The guest sets the pending bit itself."""
    CLEAR = "clear"
    BIND_VCPU = "bind_vcpu"
    SET_PRIORITY = "set_priority"
    STATUS = "status"
    CLOSE = "close"
    UNBIND = "unbind"
    """Free the irq and close its port."""
    RESET = "reset"
    POLL = "poll"
    RAISE_VIRQ = "raise_virq"
    RAISE_PIRQ = "raise_pirq"
    WAIT = "wait"
    """Go on when the port's handler has run."""
    PAUSE = "pause"
    DESTROY = "destroy"


_KEYS: Final[Mapping[Action, tuple[dict[str, type], dict[str, type]]]] = {
    Action.ALLOC_UNBOUND: ({"port": str, "for": str}, {}),
    Action.BIND_INTERDOMAIN: ({"port": str, "to": str}, {}),
    Action.BIND_VIRQ: ({"port": str, "virq": str}, {"vcpu": int}),
    Action.BIND_IPI: ({"port": str}, {"vcpu": int}),
    Action.BIND_PIRQ: ({"port": str, "pirq": int}, {}),
    Action.REQUEST: ({"port": str}, {"late_eoi": bool, "work": bool}),
    Action.BIND_VCPU: ({"port": str, "vcpu": int}, {}),
    Action.SET_PRIORITY: ({"port": str, "priority": int}, {}),
    Action.RESET: ({}, {}),
    Action.POLL: ({"ports": list}, {"timeout_us": int}),
    Action.RAISE_VIRQ: ({"virq": str}, {}),
    Action.RAISE_PIRQ: ({"pirq": int}, {}),
    Action.WAIT: ({"port": str}, {"runs": int, "timeout_us": int}),
    Action.PAUSE: ({"us": int}, {}),
    Action.DESTROY: ({}, {}),
}
"""Action -> keys that it needs, keys that it may have; of the others the port alone."""

_PORT_ALONE: Final[tuple[dict[str, type], dict[str, type]]] = ({"port": str}, {})

OPENING: Final = frozenset(
    {
        Action.ALLOC_UNBOUND,
        Action.BIND_INTERDOMAIN,
        Action.BIND_VIRQ,
        Action.BIND_IPI,
        Action.BIND_PIRQ,
    }
)
"""Actions that open the port they name."""

NOBODYS: Final = frozenset({Action.WAIT, Action.PAUSE})
"""Actions that no vCPU does."""


@dataclass(frozen=True, slots=True)
class ScriptDomain:
    """A domain, which has started before the recording begins."""

    name: str
    domid: int
    vcpus: int = 1
    form: str | None = None
    """2l or fifo; None: as the command line says."""
    kernel: str = "linux"
    """linux, or a small kernel: zephyr, unikraft."""
    pvh: bool | None = None
    """None: as the command line says."""


@dataclass(frozen=True, slots=True)
class ScriptPort:
    """A port that is open before the recording begins: of one kind, so one of the four is given."""

    name: str
    dom: str
    vcpu: int = 0
    peer: str | None = None
    """The port at the other end."""
    unbound_for: str | None = None
    """The domain for which it waits."""
    virq: str | None = None
    pirq: int | None = None
    ipi: bool = False
    masked: bool = False
    """It has no handler yet."""
    late_eoi: bool = False
    work: bool = True


@dataclass(frozen=True, slots=True)
class ScriptStep:
    """One thing that is done."""

    do: Action
    dom: str = ""
    vcpu: int = 0
    values: Mapping[str, Value] = field(default_factory=dict)
    fault: str | None = None
    """Armed when the step begins."""

    def text(self, key: str) -> str:
        """Give a value that is a string."""
        return str(self.values[key])

    def number(self, key: str, default: int = 0) -> int:
        """Give a value that is a number."""
        value = self.values.get(key, default)
        return value if isinstance(value, int) else default


@dataclass(frozen=True, slots=True)
class Script:
    """A scenario, step by step."""

    about: str
    domains: tuple[ScriptDomain, ...]
    ports: tuple[ScriptPort, ...]
    steps: tuple[ScriptStep, ...]

    def toml(self, comments: Iterable[str] = ()) -> str:
        """Give it as TOML, after some comments."""
        parts = [f"# {comment}" for comment in comments]
        parts += [f"about = {_quoted(self.about)}"]
        parts += ["", *_joined(_domain_lines(domain) for domain in self.domains)]
        parts += _joined(_port_lines(port) for port in self.ports)
        parts += _joined(_step_lines(step) for step in self.steps)
        return "\n".join(parts).rstrip("\n") + "\n"


# --- reading ------------------------------------------------------------------------------------


def read_script(path: Path) -> Script:
    """Read a script; raises `UsageError`, which says where what is wrong, and `NoInputError`."""
    fields = read_toml(path)
    about = fields.take("about", str) or f"The script {path.name}."
    domains = tuple(_domain(entry) for entry in fields.tables("domain"))
    names = {domain.name: domain.vcpus for domain in domains}
    if not domains:
        fields.refuse("expected at least one [[domain]]")
    ports = tuple(_port(entry, names) for entry in fields.tables("port"))
    known = {port.name for port in ports}
    _check_peers(fields, ports)
    steps = tuple(_step(entry, names, known) for entry in fields.tables("step"))
    fields.finish()
    return Script(about, domains, ports, steps)


def _domain(entry: Fields) -> ScriptDomain:
    form, kernel = entry.take("form", str), entry.take("kernel", str) or "linux"
    _one_of(entry, "form", form, ("2l", "fifo"))
    vcpus = entry.take("vcpus", int)
    name, domid = entry.need("name", str), entry.need("id", int)
    pvh = entry.take("pvh", bool)
    entry.finish()
    vcpus = 1 if vcpus is None else vcpus
    if not 0 <= domid < 0x7FF0 or not 1 <= vcpus <= 128:
        entry.refuse(f"id = {domid}, vcpus = {vcpus}: expected a domain's number and 1 to 128")
    return ScriptDomain(name, domid, vcpus, form, kernel, pvh)


def _port(entry: Fields, domains: Mapping[str, int]) -> ScriptPort:
    name, dom = entry.need("name", str), entry.need("dom", str)
    _one_of(entry, "dom", dom, domains)
    virq, pirq = entry.take("virq", str), entry.take("pirq", int)
    peer, unbound_for = entry.take("peer", str), entry.take("for", str)
    ipi, masked = entry.take("ipi", bool) or False, entry.take("masked", bool) or False
    late_eoi, work = entry.take("late_eoi", bool) or False, entry.take("work", bool)
    vcpu = entry.take("vcpu", int) or 0
    entry.finish()
    if sum((virq is not None, pirq is not None, bool(peer), bool(unbound_for), ipi)) != 1:
        entry.refuse("expected one of peer, for, virq, pirq, ipi")
    _one_of(entry, "for", unbound_for, domains)
    if virq is not None:
        read_virq(entry, virq)
    _check_vcpu(entry, dom, vcpu, domains)
    return ScriptPort(
        name,
        dom,
        vcpu,
        peer,
        unbound_for,
        virq,
        pirq,
        ipi,
        masked,
        late_eoi,
        work is not False,
    )


def _check_peers(fields: Fields, ports: tuple[ScriptPort, ...]) -> None:
    peers = {port.name: port.peer for port in ports}
    if len(peers) < len(ports):
        fields.refuse("two [[port]] have the same name")
    for name, peer in peers.items():
        if peer is not None and peers.get(peer) != name:
            fields.refuse(f"[[port]] {name}: peer = {peer!r}: expected a port whose peer is {name}")


def _step(entry: Fields, domains: Mapping[str, int], known: set[str]) -> ScriptStep:
    do = entry.need("do", str)
    _one_of(entry, "do", do, [action.value for action in Action])
    action = Action(do)
    dom, vcpu = "", 0
    if action not in NOBODYS:
        dom, vcpu = _vcpu(entry, entry.need("on", str), domains)
    needed, optional = _KEYS.get(action, _PORT_ALONE)
    values: dict[str, Value] = {}
    for key, kind in needed.items():
        values[key] = _value(entry, key, kind, domains, known, opens=action in OPENING)
    for key, kind in optional.items():
        if entry.holds(key):
            values[key] = _value(entry, key, kind, domains, known, opens=False)
    fault = entry.take("fault", str)
    entry.finish()
    if "vcpu" in values:
        _check_vcpu(entry, dom, int(str(values["vcpu"])), domains)
    return ScriptStep(action, dom, vcpu, values, fault)


def _value(
    entry: Fields,
    key: str,
    kind: type,
    domains: Mapping[str, int],
    known: set[str],
    *,
    opens: bool,
) -> Value:
    """Read a value; names of domains and ports have to be known by then."""
    if kind is list:
        texts = entry.texts(key) or ()
        for text in texts:
            _one_of(entry, key, text, known)
        return texts
    value: Value = entry.need(key, kind)
    if key == "for":
        _one_of(entry, key, str(value), domains)
    elif key == "virq":
        read_virq(entry, str(value))
    elif key == "port" and opens:
        known.add(str(value))
    elif key in {"port", "to"}:
        _one_of(entry, key, str(value), known)
    return value


def _vcpu(entry: Fields, text: str, domains: Mapping[str, int]) -> tuple[str, int]:
    """Read the vCPU that does a step: a domain's name, `v`, a number; the name alone is its v0."""
    if text in domains:
        return text, 0
    name, _, number = text.rpartition("v")
    if not re.fullmatch(r"\d+", number):
        _one_of(entry, "on", text, domains)
    _one_of(entry, "on", name, domains)
    _check_vcpu(entry, name, int(number), domains)
    return name, int(number)


def _check_vcpu(entry: Fields, dom: str, vcpu: int, domains: Mapping[str, int]) -> None:
    if not 0 <= vcpu < domains[dom]:
        entry.refuse(f"vCPU {vcpu}: {dom} has {domains[dom]}, numbered from 0")


def _one_of(entry: Fields, key: str, value: str | None, known: Iterable[str]) -> None:
    """Refuse what is not known, with the nearest that is."""
    names = sorted(known)
    if value is None or value in names:
        return
    near = get_close_matches(value, names, n=1, cutoff=0)
    hint = f"the nearest is {near[0]!r}" if near else "there is none yet"
    entry.refuse(f"{key} = {value!r}: there is no such name; {hint}")


def read_virq(entry: Fields, text: str) -> int:
    """Read a VIRQ by its name or number."""
    if re.fullmatch(r"\d+", text) and int(text) < 24:
        return int(text)
    _one_of(entry, "virq", text, [virq.name for virq in Virq])
    return Virq[text]


def virq_number(text: str) -> int:
    """Give the number of a VIRQ that was read."""
    return int(text) if text.isdigit() else Virq[text]


# --- writing ------------------------------------------------------------------------------------


def _domain_lines(domain: ScriptDomain) -> Iterator[str]:
    yield "[[domain]]"
    yield f"name = {_quoted(domain.name)}"
    yield f"id = {domain.domid}"
    yield from [f"vcpus = {domain.vcpus}"] if domain.vcpus != 1 else []
    yield from [f"form = {_quoted(domain.form)}"] if domain.form else []
    yield from [f"kernel = {_quoted(domain.kernel)}"] if domain.kernel != "linux" else []
    yield from [f"pvh = {_quoted(domain.pvh)}"] if domain.pvh is not None else []


def _port_lines(port: ScriptPort) -> Iterator[str]:
    yield "[[port]]"
    given: dict[str, Value | None] = {
        "name": port.name,
        "dom": port.dom,
        "peer": port.peer,
        "for": port.unbound_for,
        "virq": port.virq,
        "pirq": port.pirq,
        "ipi": port.ipi or None,
        "vcpu": port.vcpu or None,
        "masked": port.masked or None,
        "late_eoi": port.late_eoi or None,
        "work": None if port.work else False,
    }
    for key, value in given.items():
        if value is not None:
            yield f"{key} = {_quoted(value)}"


def _step_lines(step: ScriptStep) -> Iterator[str]:
    yield "[[step]]"
    if step.do not in NOBODYS:
        yield f"on = {_quoted(f'{step.dom}v{step.vcpu}')}"
    yield f"do = {_quoted(step.do.value)}"
    for key, value in step.values.items():
        yield f"{key} = {_quoted(value)}"
    if step.fault is not None:
        yield f"fault = {_quoted(step.fault)}"


def _quoted(value: Value) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_quoted, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _joined(tables: Iterable[Iterator[str]]) -> list[str]:
    return [line for table in tables for line in (*table, "")]
