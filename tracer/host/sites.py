"""Call sites: every call of event_channel_op in a kernel's code, with the probes that show it.

At the call rdi holds the operation and rsi the address of its argument structure; both survive, and
rax holds the result behind it. The call itself cannot be probed where it is a static call, so the
probe stands on an instruction before it, where the arguments may not be loaded yet.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from evtrace.tracer.host.code import EVENT_CHANNEL_OP, Code, Function, Text
from evtrace.tracer.host.disassembly import Instruction, disassemble
from evtrace.tracer.host.flow import Flow, Number, Origin
from evtrace.tracer.host.values import WORDS, Value, follow, struct_words

_CALL = re.compile(b"\xe8")
_CALL_BYTES = 5
_COLD = ".cold"
_NEVER = "xen_mc_"
"""Multicalls are not made of event_channel_op, but often: a probe would cost much for nothing."""
_PROBE_BACK = 6
"""Instructions before a call among which a place for its probe is looked for."""


@dataclass(frozen=True, slots=True)
class CallSite:
    """One call; the offsets are those in the function."""

    function: Function
    before: int | None
    """Where the probe before the call stands; None if there is no place for it."""
    behind: int
    """Where the call returns to."""
    cmd: str = ""
    """kprobe argument that gives the operation, at `before`."""
    words: tuple[str, ...] = ()
    """kprobe arguments that give the first words of the argument structure, at `before`."""
    is_any: bool = False
    """The call makes other hypercalls too, as a program in user space asks."""
    op: str = ""
    """Then: kprobe argument that gives the hypercall's number, at `before` and `behind`."""
    is_shared: bool = False
    """Other branches come to `behind` too, without the call."""
    constant: int | None = None
    """The operation, where it is a constant."""

    @property
    def name(self) -> str:
        """Give the name that its probes share."""
        return f"{re.sub(r'[^A-Za-z0-9_]', '_', self.function.name)}_{self.behind:x}"


@dataclass(frozen=True, slots=True)
class Found:
    """What a search gave."""

    sites: tuple[CallSite, ...]
    other_hypercalls: int
    """Calls of other hypercalls."""
    not_understood: tuple[str, ...]
    """Calls of which it is not known which hypercall they make: function and offset."""


def find_sites(code: Code) -> Found:
    """Find the calls of event_channel_op. Raises `CannotRecordError` if capstone is missing."""
    search = _Search(code)
    for text in code.texts:
        for address in _calls(code, text):
            search.take(address)
    sites = sorted(search.sites, key=lambda site: (site.function.module, site.function.address))
    return Found(tuple(sites), search.others, tuple(search.not_understood))


def _calls(code: Code, text: Text) -> Iterator[int]:
    """Give the addresses of what looks like a call of a hypercall entry."""
    wanted = code.entries | code.own_entries
    unpack, content, last = struct.Struct("<i").unpack_from, text.content, len(text.content) - 5
    behind = text.address + _CALL_BYTES
    for match in _CALL.finditer(content, 0, last + 1):
        at = match.start()
        if behind + at + unpack(content, at + 1)[0] in wanted:
            yield text.address + at


class _Search:
    def __init__(self, code: Code) -> None:
        self._code = code
        self._named = {(function.module, function.name): function for function in code.functions}
        self.sites: list[CallSite] = []
        self.others = 0
        self.not_understood: list[str] = []

    def take(self, address: int) -> None:
        """Judge what looks like a call."""
        function = self._code.function_at(address)
        if function is None or function.address in self._code.entries:
            return
        flow = self._flow(function)
        places = [place for place, at in enumerate(flow.instructions) if at.address == address]
        if not places or not flow.instructions[places[0]].is_call:
            return  # bytes inside another instruction
        numbers = self._numbers(flow, places[0])
        known = numbers - {*Origin}
        if function.name.startswith(_NEVER) or (known and EVENT_CHANNEL_OP not in known):
            self.others += 1
            return
        is_any = numbers == {Origin.RUN_TIME}
        clear = is_any or (bool(known) and numbers <= {EVENT_CHANNEL_OP, Origin.UNKNOWN})
        site = _site(self._code, function, flow, places[0], is_any=is_any) if clear else None
        if site is None:
            self.not_understood.append(f"{function.name}+{address - function.address:#x}")
        else:
            self.sites.append(site)

    @cache  # noqa: B019  the search is short-lived
    def _flow(self, function: Function) -> Flow:
        """Decode a function; the compiler may have split it, each part jumping into the other."""
        whole = function.name.removesuffix(_COLD)
        other = self._named.get(
            (function.module, whole if whole != function.name else whole + _COLD)
        )
        elsewhere = Flow(self._decoded(other)).targets if other else ()
        hypercalls = self._code.entries | self._code.own_entries
        return Flow(self._decoded(function), elsewhere, hypercalls)

    def _decoded(self, function: Function) -> list[Instruction]:
        return list(disassemble(self._code.read(function), function.address))

    def _numbers(self, flow: Flow, place: int) -> set[Number]:
        """Give the numbers of the hypercalls that a call may make."""
        if flow.instructions[place].target in self._code.own_entries:
            return {EVENT_CHANNEL_OP}
        return flow.numbers("ax", place)


def _site(
    code: Code, function: Function, flow: Flow, place: int, *, is_any: bool
) -> CallSite | None:
    """Find a place for the probe before a call: one that shows all words, else only cmd."""
    call = flow.instructions[place]
    operations = flow.numbers("di", place)
    constant = operations.pop() if len(operations) == 1 else None
    nearest = site = CallSite(
        function,
        None,
        call.end - function.address,
        is_any=is_any,
        is_shared=flow.is_reached(call.end),
        constant=constant if isinstance(constant, int) else None,
    )
    is_page = call.target in code.own_entries
    for first in range(place, max(-1, place - 1 - _PROBE_BACK), -1):
        path = flow.instructions[first:place]
        if any(flow.is_reached(at.address) for at in [*path, call][1:]):
            break
        if (not path and not is_page) or _may_be_patched(path):
            continue
        probed = _probed(site, path)
        if probed is not None and len(probed.words) == WORDS:
            return probed
        if probed is not None and nearest.before is None:
            nearest = probed
    return nearest if nearest.op or not is_any else None


def _may_be_patched(path: Sequence[Instruction]) -> bool:
    """Tell whether the kernel may put another instruction where the path begins."""
    return bool(path) and path[0].mnemonic in {"nop", "stac", "clac", "lfence"}


def _probed(site: CallSite, path: Sequence[Instruction]) -> CallSite | None:
    """Put the probe on the first instruction of a path to the call; None if it shows no cmd."""
    state = follow(path)
    if state is None:
        return None
    cmd, op = state.register("di"), state.register("ax")
    fetched, fetched_op = cmd.fetch() if cmd else None, op.fetch() if op else None
    if not fetched or (site.is_any and not _survives(op)):
        return None
    return replace(
        site,
        before=path[0].address - site.function.address if path else site.behind - _CALL_BYTES,
        cmd=f"{fetched}:u32",
        words=struct_words(state, user=site.is_any),
        op=f"{fetched_op}:u32" if site.is_any else "",
    )


def _survives(op: Value | None) -> bool:
    """Tell whether the number of a hypercall can be fetched behind it too."""
    return op is not None and op.base.endswith(("(%sp)", "(%bp)", "(%bx)"))
