"""Call sites: every call of event_channel_op in a kernel's code, with the probes that show it.

At the call rdi holds the operation and rsi the address of its argument structure; both survive, and
rax holds the result behind it. The call itself cannot be probed where it is a static call, so the
probe stands on an instruction before it, where the arguments may not be loaded yet.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from evtrace.tracer.host.code import EVENT_CHANNEL_OP, Code, Function, Text
from evtrace.tracer.host.disassembly import (
    Immediate,
    Instruction,
    Memory,
    Register,
    disassemble,
)
from evtrace.tracer.host.values import WORDS, Value, follow, struct_words

_CALL = re.compile(b"\xe8")
_CALL_BYTES = 5
_ANY = -1
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
        self.sites: list[CallSite] = []
        self.others = 0
        self.not_understood: list[str] = []
        self._function: Function | None = None
        self._instructions: list[Instruction] = []
        self._targets: set[int] = set()

    def take(self, address: int) -> None:
        """Judge what looks like a call."""
        function = self._code.function_at(address)
        if function is None or function.address in self._code.entries:
            return
        if function.name.startswith(_NEVER):
            self.others += 1
            return
        self._decode(function)
        places = [place for place, at in enumerate(self._instructions) if at.address == address]
        if not places or not self._instructions[places[0]].is_call:
            return  # bytes inside another instruction
        place = places[0]
        number = self._number(place)
        if number not in {EVENT_CHANNEL_OP, _ANY, None}:
            self.others += 1
            return
        site = self._site(function, place, is_any=number == _ANY) if number is not None else None
        if site is None:
            self.not_understood.append(f"{function.name}+{address - function.address:#x}")
        else:
            self.sites.append(site)

    def _decode(self, function: Function) -> None:
        if self._function is not function:
            self._function = function
            code = self._code.read(function)
            self._instructions = list(disassemble(code, function.address))
            jumps = (at.target for at in self._instructions if at.is_jump)
            self._targets = {target for target in jumps if target is not None}

    def _number(self, place: int) -> int | None:
        """Give the number of the hypercall; `_ANY` if it is told at run time, None if unknown."""
        if self._instructions[place].target in self._code.own_entries:
            return EVENT_CHANNEL_OP
        return self._constant("ax", place)

    def _constant(self, register: str, place: int) -> int | None:
        """Give the number that the last write of a register before `place` gives it."""
        for before in range(place - 1, -1, -1):
            instruction = self._instructions[before]
            if register not in instruction.written or instruction.mnemonic == "pop":
                continue  # a pop is the end of another branch
            match instruction.mnemonic, instruction.operands:
                case "mov", (Register(), Immediate(value=value)):
                    return value
                case "mov", (Register(), Register(name=other)):
                    return self._constant(other, before)
                case "mov", (Register(), Memory()):
                    return _ANY
                case "xor", (Register(name=one), Register(name=other)) if one == other:
                    return 0
            return None
        return _ANY  # an argument of the function

    def _site(self, function: Function, place: int, *, is_any: bool) -> CallSite | None:
        """Find a place for the probe before a call: one that shows all words, else only cmd."""
        call = self._instructions[place]
        site = CallSite(function, None, call.end - function.address, is_any=is_any)
        nearest = site
        for first in range(place, max(-1, place - 1 - _PROBE_BACK), -1):
            path = self._instructions[first:place]
            if any(at.address in self._targets for at in [*path, call][1:]):
                break
            if (not path and call.target not in self._code.own_entries) or _may_be_patched(path):
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
