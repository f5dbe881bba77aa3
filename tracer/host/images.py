"""Images: kernel and modules on disk as `Code` (ELF; pyelftools reads it).

Modules are relocatable: their texts are laid out one behind the other, and calls of hypercall entry
points are relocated to addresses chosen for these, so that one finder serves both.
"""

import io
import re
import struct
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from evtrace.errors import CannotRecordError, NotATraceError
from evtrace.tracer.host.code import Code, Text, find_entries, find_functions, find_origin
from evtrace.tracer.host.compressed import read_elf
from evtrace.tracer.host.kallsyms import Symbol, decode_kallsyms

_X86_64 = "EM_X86_64"
_EXECUTABLE = 0x4
_FUNCTION_KINDS = {"STT_FUNC", "STT_NOTYPE"}
_CALL_RELOCATIONS = {2, 4}
"""R_X86_64_PC32, R_X86_64_PLT32."""
_BANNER = re.compile(rb"Linux version [\x20-\x7e]{1,400}#\d[\x20-\x7e]{1,100}\n")
_MODULE_STEP = 1 << 24
_ALIGNMENT = 64
_ENTRY_SPACING = 1 << 12

Elf = Any
"""An ELFFile; pyelftools has no types."""


def read_kernel(path: Path) -> Code:
    """Read a vmlinux or vmlinuz.

    Raises what `read_elf` raises, and `CannotRecordError` if it is no x86-64 kernel with symbols.
    """
    image = read_elf(path)
    elf = _open(path, image)
    symbols = list(_symbols(elf)) or decode_kallsyms(image)
    if not symbols:
        message = f"{path}: no symbols: neither a symbol table nor kallsyms that evtrace can read"
        raise CannotRecordError(message)
    texts = [
        Text("", section["sh_addr"], section.data())
        for section in elf.iter_sections()
        if section.name == ".text"
    ]
    entries, own_entries = find_entries(symbols)
    banner = _BANNER.search(image)
    return Code(
        texts,
        find_functions(symbols, texts),
        entries,
        own_entries,
        banner[0].decode("ascii").strip() if banner else "",
        frozenset(symbol.name for symbol in symbols if symbol.is_code),
        find_origin(symbols),
    )


def read_modules(paths: Iterable[Path]) -> Code:
    """Read modules; those that make no hypercall are skipped. Raises as `read_kernel`."""
    texts: list[Text] = []
    symbols: list[Symbol] = []
    entries: dict[str, int] = {}
    for path in paths:
        image = read_elf(path)
        if b"xen_hypercall" not in image and b"hypercall_page" not in image:
            continue
        base = _MODULE_STEP * (len(texts) + 1)
        module = path.name.partition(".")[0].replace("-", "_")
        for text, named in _laid_out(_open(path, image), module, base, entries):
            texts.append(text)
            symbols += named
    stubs = [Symbol(name, address, "T") for name, address in entries.items()]
    found, own_entries = find_entries(stubs)
    return Code(
        texts,
        find_functions(symbols, texts),
        found,
        own_entries,
        names=frozenset(symbol.name for symbol in symbols),
    )


def module_files(folder: Path) -> list[Path]:
    """Give the module files under a folder such as /lib/modules/VERSION."""
    return sorted(path for path in folder.rglob("*.ko*") if path.is_file())


def _open(path: Path, image: bytes) -> Elf:
    try:
        elftools: Any = import_module("elftools.elf.elffile")
    except ImportError as error:
        message = "reading a kernel image needs pyelftools: pip install 'evtrace[host]'"
        raise CannotRecordError(message) from error
    try:
        elf = elftools.ELFFile(io.BytesIO(image))
    except import_module("elftools.common.exceptions").ELFError as error:
        hint = "check that the file was copied whole"
        raise NotATraceError(path, 0, "an ELF image", str(error), hint) from error
    if elf["e_machine"] != _X86_64:
        message = f"{path}: is for {elf['e_machine']}: call sites are found in x86-64 code only"
        raise CannotRecordError(message)
    return elf


def _symbols(elf: Elf) -> Iterator[Symbol]:
    """Give the symbols of a linked image."""
    table = elf.get_section_by_name(".symtab")
    for symbol in table.iter_symbols() if table else ():
        if symbol.name and isinstance(symbol["st_shndx"], int):
            yield Symbol(symbol.name, symbol["st_value"], _kind(symbol))


def _kind(symbol: Any) -> str:  # noqa: ANN401
    is_global = symbol["st_info"]["bind"] != "STB_LOCAL"
    return "T" if is_global else "t"


def _laid_out(
    elf: Elf, module: str, base: int, entries: dict[str, int]
) -> Iterator[tuple[Text, list[Symbol]]]:
    """Give each text section of a module at an address, relocated, with the symbols in it."""
    table = elf.get_section_by_name(".symtab")
    if table is None:
        return
    for number, section in enumerate(elf.iter_sections()):
        if not section["sh_flags"] & _EXECUTABLE or section.name.startswith(".exit"):
            continue
        content = bytearray(section.data())
        _relocate(elf, number, content, base, table, entries)
        symbols = [
            Symbol(symbol.name, base + symbol["st_value"], _kind(symbol), module)
            for symbol in table.iter_symbols()
            if symbol["st_shndx"] == number
            and symbol.name
            and symbol["st_info"]["type"] in _FUNCTION_KINDS
        ]
        if symbols:
            yield Text(module, base, bytes(content)), symbols
        base += -(-len(content) // _ALIGNMENT) * _ALIGNMENT


def _relocate(
    elf: Elf, number: int, content: bytearray, base: int, table: Elf, entries: dict[str, int]
) -> None:
    """Let the calls of hypercall entry points in a section reach the addresses chosen for them."""
    for section in elf.iter_sections():
        if section["sh_type"] != "SHT_RELA" or section["sh_info"] != number:
            continue
        for relocation in section.iter_relocations():
            name = table.get_symbol(relocation["r_info_sym"]).name
            if relocation["r_info_type"] not in _CALL_RELOCATIONS or "hypercall" not in name:
                continue
            target = entries.setdefault(name, _ENTRY_SPACING * (len(entries) + 1))
            at = relocation["r_offset"]
            value = target + relocation["r_addend"] - (base + at)
            struct.pack_into("<i", content, at, value)
