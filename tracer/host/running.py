"""The running kernel as `Code`: its symbols from /proc/kallsyms, its text from /proc/kcore.

Memory shows the text as it runs, with what the kernel patched into it. Where it cannot be read, the
kernel's files in /boot and /lib/modules stand in, if they are those of the running kernel.
"""

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from evtrace.errors import CannotRecordError, EvtraceError
from evtrace.tracer.host.code import Code, Text, find_entries, find_functions, find_origin, merge
from evtrace.tracer.host.images import module_files, read_kernel, read_modules
from evtrace.tracer.host.kallsyms import Symbol, parse_kallsyms
from evtrace.tracer.host.kcore import Kcore, open_kcore

_PAGE = 4096
_NO_MODULE = re.compile(r"bpf$|__builtin__")
"""What /proc/kallsyms lists beside modules: code that the kernel makes."""
_MAX_MODULE_TEXT = 1 << 22


def read_running(root: Path = Path("/")) -> Code:
    """Read the running kernel and its modules; `root` has /proc, /boot and /lib/modules.

    Raises `CannotRecordError` if neither its memory nor its files can be read.
    """
    symbols = _symbols(root)
    try:
        with open_kcore(root / "proc/kcore") as kcore:
            texts = list(_texts(symbols, kcore))
    except OSError as error:
        return _installed(root, f"/proc/kcore: {error.strerror or error}")
    entries, own_entries = find_entries(symbols)
    return Code(
        texts,
        find_functions(symbols, texts),
        entries,
        own_entries,
        read_banner(root),
        frozenset(symbol.name for symbol in symbols if symbol.is_code),
        find_origin(symbols),
    )


def read_banner(root: Path) -> str:
    """Give what the running kernel says of itself: /proc/version."""
    try:
        return (root / "proc/version").read_text("utf-8").strip()
    except OSError:
        return ""


def _symbols(root: Path) -> list[Symbol]:
    try:
        with (root / "proc/kallsyms").open(encoding="utf-8") as file:
            symbols = list(parse_kallsyms(file))
    except OSError as error:
        message = f"/proc/kallsyms: cannot read: {error.strerror or error}"
        raise CannotRecordError(message) from error
    if not any(symbol.address for symbol in symbols):
        message = (
            "/proc/kallsyms shows no addresses: it takes root, and kernel.kptr_restrict below 2"
        )
        raise CannotRecordError(message)
    return symbols


def _texts(symbols: list[Symbol], kcore: Kcore) -> Iterator[Text]:
    """Read the text of the kernel without its initialisation, and that of each module."""
    marks = {symbol.name: symbol.address for symbol in symbols if not symbol.module}
    first, last = marks.get("_stext", 0), marks.get("_etext", 0)
    content = kcore.read(first, last - first)
    if content:
        yield Text("", first, content)
    code = [at for at in symbols if at.module and at.is_code and not _NO_MODULE.match(at.module)]
    for module, own in groupby(code, key=lambda symbol: symbol.module):
        addresses = [symbol.address for symbol in own]
        first, last = min(addresses), max(addresses)
        length = min((last | _PAGE - 1) + 1 - first, _MAX_MODULE_TEXT)
        content = kcore.read(first, length)
        if content:
            yield Text(module, first, content)


def _installed(root: Path, why: str) -> Code:
    """Read the kernel's files instead of its memory."""
    release = read_banner(root).split(" ")[2:3]
    path = root / "boot" / f"vmlinuz-{release[0] if release else ''}"
    try:
        code = read_kernel(path)
    except EvtraceError as error:
        message = f"the kernel's text cannot be read: {why}, and {error}"
        raise CannotRecordError(message) from error
    if code.banner != read_banner(root):
        message = f"the kernel's text cannot be read: {why}, and {path} is not the running kernel"
        raise CannotRecordError(message)
    modules = root / "lib/modules" / release[0]
    return merge(code, read_modules(module_files(modules)))
