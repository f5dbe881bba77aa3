"""Code: the text of a kernel and its modules, with its functions and hypercall entry points.

Where it comes from is told by its maker: the running kernel's memory (`running`), or an image and
modules on disk (`images`).
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import takewhile

from evtrace.tracer.host.kallsyms import Symbol

HYPERCALL_BYTES = 32
"""Of one entry of the hypercall page (Xen: HVM and PV ABI)."""
EVENT_CHANNEL_OP = 32
"""__HYPERVISOR_event_channel_op, xen/include/public/xen.h."""

_ENTRY = re.compile(
    r"__SCT__xen_hypercall|__xen_hypercall_setfunc|xen_hypercall_(?:pv|hvm|amd|intel)"
)
"""What a hypercall of Linux goes through since the fixes of XSA-466: a static call, or what it was
patched to."""
_PAD = 17
"""Bytes in front of a function at which Linux may enter it instead (call depth tracking), and 1."""
_PAGE = "hypercall_page"
_NO_FUNCTION = re.compile(
    r"__pfx_|__SC[TK]__|\.L|_[es]?text$|_[es]inittext$|__.*_text_(?:start|end)$"
)


@dataclass(frozen=True, slots=True)
class Function:
    """A function; its text ends where the next one begins."""

    name: str
    module: str
    """Empty for the kernel itself."""
    address: int
    size: int
    is_unique: bool = True
    """No other function of the kernel has the name."""


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text."""

    module: str
    address: int
    content: bytes

    @property
    def end(self) -> int:
        """Address behind it."""
        return self.address + len(self.content)


@dataclass(slots=True)
class Code:
    """Texts, with what is known of them."""

    texts: list[Text]
    functions: list[Function]
    """In order of address."""
    entries: frozenset[int]
    """Addresses that any hypercall calls, its number in eax."""
    own_entries: frozenset[int] = frozenset()
    """Addresses in hypercall pages that stand for event_channel_op alone."""
    banner: str = ""
    """`Linux version …` of the kernel, as /proc/version shows it."""
    names: frozenset[str] = frozenset()
    """Of all functions there are."""
    origin: int = 0
    """Address of `_text`, from where the kernel's code is counted."""
    _starts: list[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Index the functions."""
        self._starts = [function.address for function in self.functions]

    def function_at(self, address: int) -> Function | None:
        """Give the function in which `address` lies."""
        place = bisect_right(self._starts, address) - 1
        function = self.functions[place] if place >= 0 else None
        return function if function and address < function.address + function.size else None

    def read(self, function: Function) -> bytes:
        """Give a function's text."""
        for text in self.texts:
            if text.address <= function.address < text.end:
                start = function.address - text.address
                return text.content[start : start + function.size]
        return b""


def merge(one: Code, other: Code) -> Code:
    """Take two codes, as a kernel and modules, as one; the first says which kernel it is."""
    return Code(
        one.texts + other.texts,
        sorted(one.functions + other.functions, key=lambda function: function.address),
        one.entries | other.entries,
        one.own_entries | other.own_entries,
        one.banner,
        one.names | other.names,
        one.origin,
    )


def find_entries(symbols: Iterable[Symbol]) -> tuple[frozenset[int], frozenset[int]]:
    """Give the addresses that hypercalls call: of any hypercall, and of event_channel_op alone."""
    named = {(symbol.name, symbol.address) for symbol in symbols}
    taken = {address for _, address in named}
    entries: set[int] = set()
    own_entries: set[int] = set()
    for name, address in named:
        if name == _PAGE:
            own_entries.add(address + EVENT_CHANNEL_OP * HYPERCALL_BYTES)
        elif _ENTRY.fullmatch(name):
            padding = takewhile(lambda at: at not in taken, range(address - 1, address - _PAD, -1))
            entries |= {address, *padding}
    return frozenset(entries), frozenset(own_entries)


def find_origin(symbols: Iterable[Symbol]) -> int:
    """Give the address of `_text`; 0 if there is none."""
    return next((symbol.address for symbol in symbols if symbol.name == "_text"), 0)


def find_functions(symbols: Iterable[Symbol], texts: list[Text]) -> list[Function]:
    """Give the functions of `texts`, in order of address; of several names of one the first global.

    Sizes reach to the next function or the end of the text.
    """
    code = [symbol for symbol in symbols if symbol.is_code and not _NO_FUNCTION.match(symbol.name)]
    numbers = Counter(symbol.name for symbol in code if not symbol.module)
    named: dict[int, Symbol] = {}
    for symbol in sorted(code, key=lambda symbol: (symbol.address, symbol.kind not in "TW")):
        named.setdefault(symbol.address, symbol)
    addresses, ordered = [*named], [*named.values()]
    functions: list[Function] = []
    for text in sorted(texts, key=lambda text: text.address):
        first, last = bisect_left(addresses, text.address), bisect_left(addresses, text.end)
        inside = ordered[first:last]
        ends = [*addresses[first + 1 : last], text.end][: len(inside)]
        functions += [
            Function(
                symbol.name,
                text.module,
                symbol.address,
                end - symbol.address,
                is_unique=bool(text.module) or numbers[symbol.name] == 1,
            )
            for symbol, end in zip(inside, ends, strict=True)
        ]
    return functions
