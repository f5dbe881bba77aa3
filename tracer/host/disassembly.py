"""Disassembly of x86-64 code, in the terms that kernel probes use; capstone does the work.

Registers are named as kprobe events name them (`ax` for rax, eax, ax and al).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from evtrace.errors import CannotRecordError

_NAMED = ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")
_ALIASES = {
    alias: name
    for name in _NAMED
    for alias in (f"r{name}", f"e{name}", name, f"{name[0]}l" if name.endswith("x") else f"{name}l")
} | {
    f"r{number}{suffix}": f"r{number}" for number in range(8, 16) for suffix in ("", "d", "w", "b")
}
_ADDRESSES = (1 << 64) - 1
_CALL_GROUP, _JUMP_GROUP, _RETURN_GROUP = 2, 1, 3


@dataclass(frozen=True, slots=True)
class Register:
    """A register operand, of `width` bytes."""

    name: str
    width: int


@dataclass(frozen=True, slots=True)
class Immediate:
    """A number in the instruction."""

    value: int
    width: int


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory operand; `base` is None where the address is not a register and an offset."""

    base: str | None
    offset: int
    width: int


Operand = Register | Immediate | Memory


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction."""

    address: int
    size: int
    mnemonic: str
    operands: tuple[Operand, ...]
    written: frozenset[str]
    """Registers that it writes, wholly or in part."""
    is_call: bool
    is_jump: bool
    is_return: bool

    @property
    def end(self) -> int:
        """Address of what stands behind it."""
        return self.address + self.size

    @property
    def target(self) -> int | None:
        """Where it jumps or calls, if that is written in it."""
        direct = (self.is_call or self.is_jump) and len(self.operands) == 1
        match self.operands[0] if direct else None:
            case Immediate(value=value):
                return value & _ADDRESSES
            case _:
                return None


def disassemble(code: bytes, address: int) -> Iterator[Instruction]:
    """Decode `code`, which stands at `address`, up to its end or to what is no instruction.

    Raises `CannotRecordError` if capstone is not installed.
    """
    return map(_instruction, _decoder().disasm(code, address))


@cache
def _decoder() -> Any:  # noqa: ANN401  capstone has no types
    try:
        capstone: Any = import_module("capstone")
    except ImportError as error:
        message = "finding call sites needs capstone: pip install 'evtrace[host]'"
        raise CannotRecordError(message) from error
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    decoder.detail = True
    return decoder


def _instruction(decoded: Any) -> Instruction:  # noqa: ANN401
    groups = set(decoded.groups)
    _, written = decoded.regs_access()
    names = (_register(decoded.reg_name(number)) for number in written)
    return Instruction(
        decoded.address,
        decoded.size,
        decoded.mnemonic,
        tuple(_operands(decoded)),
        frozenset(name for name in names if name is not None),
        is_call=_CALL_GROUP in groups,
        is_jump=_JUMP_GROUP in groups,
        is_return=_RETURN_GROUP in groups,
    )


def _register(name: str | None) -> str | None:
    return _ALIASES.get(name or "")


def _operands(decoded: Any) -> Iterator[Operand]:  # noqa: ANN401
    for operand in decoded.operands:
        match operand.type:
            case 1:  # CS_OP_REG
                name = decoded.reg_name(operand.reg)
                yield Register(_register(name) or name, operand.size)
            case 2:  # CS_OP_IMM
                yield Immediate(operand.imm, operand.size)
            case _:
                place = operand.mem
                base = _register(decoded.reg_name(place.base)) if place.base else None
                plain = not place.index and not place.segment
                yield Memory(base if plain else None, place.disp, operand.size)
