"""Values: where the arguments of a call are at an instruction before it, as kprobes can fetch them.

A few instructions are followed from the probe to the call. What they do with registers and with
the argument structure gives each argument as an argument of a kprobe (Linux: trace/kprobetrace).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from evtrace.tracer.host.disassembly import Immediate, Instruction, Memory, Register

WORDS = 6
"""Words of the argument structure that are shown: those of EVTCHNOP_status, the longest."""
_HARMLESS = frozenset({"nop", "endbr64", "stac", "clac", "cmp", "test", "lfence"})


@dataclass(frozen=True, slots=True)
class Value:
    """A value: what `base` holds at the probe, plus `offset`; without base the number `offset`."""

    base: str
    """A kprobe fetch argument, as %si or +8(%bp); empty for a number."""
    offset: int = 0

    def fetch(self) -> str | None:
        """Give the fetch argument of the value itself; None if there is none."""
        if not self.base:
            return f"\\{self.offset}"
        return self.base if self.offset == 0 else None

    def load(self, offset: int, *, user: bool = False) -> str:
        """Give the fetch argument of the memory at the value plus `offset`."""
        return (
            f"{'+-'[self.offset + offset < 0]}{'u' * user}{abs(self.offset + offset)}({self.base})"
        )


@dataclass(slots=True)
class State:
    """What the registers hold, in terms of what they held at the probe; None is unknown."""

    registers: dict[str, Value | None] = field(default_factory=dict)
    stores: list[tuple[Value, int, Value | None]] = field(default_factory=list)
    """(address, width, value) of what was written to memory."""
    wrote_somewhere: bool = False

    def register(self, name: str) -> Value | None:
        """Give what a register holds."""
        return self.registers.get(name, Value(f"%{name}"))

    def address(self, memory: Memory) -> Value | None:
        """Give the address of a memory operand."""
        base = self.register(memory.base) if memory.base else None
        return Value(base.base, base.offset + memory.offset) if base and base.base else None

    def follow(self, instruction: Instruction) -> None:
        """Follow one instruction."""
        if instruction.mnemonic in _HARMLESS:
            return
        value = self._result(instruction)
        match instruction.operands:
            case (Memory() as memory, *_):
                self._store(memory, value)
        for name in instruction.written:
            self.registers[name] = None
        match instruction.operands:
            case (Register(name=name, width=width), *_) if (
                width >= 4 and name in instruction.written
            ):
                self.registers[name] = value

    def _result(self, instruction: Instruction) -> Value | None:
        """Give what an instruction puts into its first operand."""
        value: Value | None = None
        match instruction.mnemonic, instruction.operands:
            case (("mov" | "movabs"), (_, Immediate(value=number))):
                value = Value("", number % (1 << 64))
            case "mov", (_, Register(name=name)):
                value = self.register(name)
            case "mov", (Register(width=8), Memory() as memory) if not self.stores:
                address = self.address(memory)
                value = Value(address.load(0)) if address else None
            case "lea", (_, Memory() as memory):
                value = self.address(memory)
            case "xor", (Register(name=one), Register(name=other)) if one == other:
                value = Value("", 0)
            case "add", (Register(name=name, width=8), Immediate(value=number)):
                before = self.register(name)
                value = Value(before.base, before.offset + number) if before else None
        return value

    def _store(self, memory: Memory, value: Value | None) -> None:
        address = self.address(memory)
        if address is None:
            self.wrote_somewhere = True
        else:
            self.stores.append((address, memory.width, value))


def follow(instructions: Sequence[Instruction]) -> State | None:
    """Follow instructions; None if they may go elsewhere, or use the stack otherwise."""
    state = State()
    for instruction in instructions:
        elsewhere = instruction.is_call or instruction.is_jump or instruction.is_return
        if elsewhere or instruction.mnemonic.startswith(("push", "pop", "rep", "xchg", "cmov")):
            return None
        state.follow(instruction)
    return None if state.wrote_somewhere else state


def struct_words(state: State, *, user: bool = False) -> tuple[str, ...]:
    """Give the fetch arguments of the words at rsi, up to the first that is not to be had."""
    where = state.register("si")
    if where is None or not where.base:
        return ()
    words: list[str] = [where.load(4 * number, user=user) for number in range(WORDS)]
    for address, width, value in state.stores:
        place = address.offset - where.offset
        if address.base != where.base:
            return ()  # it may be the structure by another name
        if place <= -width or place >= 4 * len(words):
            continue
        fetched = value.fetch() if value else None
        if place % 4 or width != 4 or fetched is None:
            del words[max(0, place // 4) :]
        else:
            words[place // 4] = fetched
    return tuple(f"{word}:x32" for word in words)
