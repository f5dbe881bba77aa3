"""Flow: the ways through one function, and which numbers a register may hold at a place in it."""

from collections.abc import Iterable, Iterator
from enum import Enum

from evtrace.tracer.host.disassembly import Immediate, Instruction, Memory, Register

_SCRATCH = frozenset({"ax", "cx", "dx", "si", "di", "r8", "r9", "r10", "r11"})
"""Registers that a function called may change (System V ABI, x86-64)."""
_ENDS = frozenset({"jmp", "ud2", "int3", "hlt"})


class Origin(Enum):
    """Where a number comes from that the code does not tell."""

    RUN_TIME = "memory, or an argument of the function"
    UNKNOWN = "unknown"


Number = int | Origin


class Flow:
    """A function's instructions, and the jumps between them."""

    def __init__(
        self,
        instructions: list[Instruction],
        from_elsewhere: Iterable[int] = (),
        hypercalls: frozenset[int] = frozenset(),
    ) -> None:
        """Take the instructions in order, the targets of jumps outside them, and hypercall entries.

        A hypercall changes rax alone (Linux: asm/xen/hypercall.h).
        """
        self.instructions = instructions
        self._elsewhere = frozenset(from_elsewhere)
        self._hypercalls = hypercalls
        self._jumps: dict[int, list[int]] = {}
        for place, at in enumerate(instructions):
            if at.is_jump and at.target is not None:
                self._jumps.setdefault(at.target, []).append(place)

    @property
    def targets(self) -> Iterable[int]:
        """Addresses that are jumped to from within."""
        return self._jumps.keys()

    def is_reached(self, address: int) -> bool:
        """Tell whether a jump leads to an address."""
        return address in self._jumps or address in self._elsewhere

    def numbers(self, register: str, place: int) -> set[Number]:
        """Give what a register may hold in front of the instruction at `place`."""
        found: set[Number] = set()
        waiting, seen = [(register, place)], set()
        while waiting:
            state = waiting.pop()
            if state in seen:
                continue
            seen.add(state)
            wanted, at = state
            if at == 0:
                found.add(Origin.RUN_TIME)
            if self.instructions[at].address in self._elsewhere:
                found.add(Origin.UNKNOWN)
            for before in self._before(at):
                source = self._source(self.instructions[before], wanted)
                if isinstance(source, str):
                    waiting.append((source, before))
                else:
                    found.add(source)
        return found

    def _source(self, instruction: Instruction, register: str) -> str | Number:
        if instruction.is_call:
            changed = {"ax"} if instruction.target in self._hypercalls else _SCRATCH
            return Origin.UNKNOWN if register in changed else register
        return _source(instruction, register)

    def _before(self, place: int) -> Iterator[int]:
        """Give the places from which the one at `place` is reached."""
        if place > 0 and not self._ends(self.instructions[place - 1]):
            yield place - 1
        yield from self._jumps.get(self.instructions[place].address, ())

    @staticmethod
    def _ends(instruction: Instruction) -> bool:
        return instruction.is_return or instruction.mnemonic in _ENDS


def _source(instruction: Instruction, register: str) -> str | Number:
    """Say what a register holds behind an instruction: a number, or what another held before."""
    if register not in instruction.written:
        return register
    source: str | Number = Origin.UNKNOWN
    match instruction.mnemonic, instruction.operands:
        case (("mov" | "movabs"), (Register(), Immediate(value=value))):
            source = value
        case "mov", (Register(), Register(name=other)):
            source = other
        case "mov", (Register(), Memory()):
            source = Origin.RUN_TIME
        case "xor", (Register(name=one), Register(name=other)) if one == other:
            source = 0
    return source
