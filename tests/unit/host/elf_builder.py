"""Small ELF files: a linked kernel, and a module that is to be relocated (gabi, ELF-64)."""

import struct
from dataclasses import dataclass

_HEADER, _SECTION, _SYMBOL = 64, 64, 24
_PROGBITS, _SYMTAB, _STRTAB, _RELA = 1, 2, 3, 4
_ALLOC_EXEC = 6
_GLOBAL_FUNCTION, _LOCAL_FUNCTION = 0x12, 0x02


@dataclass
class Relocation:
    offset: int
    symbol: str
    addend: int = -4
    kind: int = 4


def elf(text, symbols, *, address=0, relocations=(), is_module=False, machine=62, extra=b""):
    """One `.text` at `address` with functions {name: value}; undefined symbols are relocations'."""
    undefined = sorted({relocation.symbol for relocation in relocations})
    names = [*symbols, *undefined]
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in names)
    table = bytes(_SYMBOL)
    at = 1
    for name in names:
        section = 1 if name in symbols else 0
        table += struct.pack("<IBBHQQ", at, _GLOBAL_FUNCTION, 0, section, symbols.get(name, 0), 0)
        at += len(name) + 1
    rela = b"".join(
        struct.pack("<QQq", r.offset, (names.index(r.symbol) + 1) << 32 | r.kind, r.addend)
        for r in relocations
    )
    sections = [
        ("", 0, 0, 0, b"", 0, 0, 0),
        (".text", _PROGBITS, _ALLOC_EXEC, address, text, 0, 0, 0),
        (".symtab", _SYMTAB, 0, 0, table, 3, 1, _SYMBOL),
        (".strtab", _STRTAB, 0, 0, strings, 0, 0, 0),
        (".rela.text", _RELA, 0, 0, rela, 2, 1, 24),
        (".rodata", _PROGBITS, 2, 0, extra, 0, 0, 0),
    ]
    titles = b"".join(section[0].encode() + b"\0" for section in sections) + b".shstrtab\0"
    sections.append((".shstrtab", _STRTAB, 0, 0, titles, 0, 0, 0))
    body, headers = b"", b""
    for name, kind, flags, place, content, link, info, size in sections:
        title = titles.index(name.encode() + b"\0") if name else 0
        offset = _HEADER + len(body)
        headers += struct.pack(
            "<IIQQQQIIQQ", title, kind, flags, place, offset, len(content), link, info, 8, size
        )
        body += content
    kind = 1 if is_module else 2
    header = struct.pack(
        "<4sBBBB8xHHIQQQIHHHHHH",
        b"\x7fELF", 2, 1, 1, 0, kind, machine, 1, 0, 0, _HEADER + len(body),
        0, _HEADER, 0, 0, _SECTION, len(sections), len(sections) - 1,
    )  # fmt: skip
    return header + body + headers
