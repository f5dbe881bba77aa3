"""`--map d1=d3`, `--map d1:8=d3:12`: which domain or port of A is which of B, as a user says."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from evtrace.analysis.diff.structure import End
from evtrace.errors import UsageError

K = TypeVar("K")

_DOMAINS: Final = re.compile(r"d(\d+)=d(\d+)")
_PORTS: Final = re.compile(r"d(\d+):(\d+)=d(\d+):(\d+)")


@dataclass(frozen=True, slots=True)
class Mapping:
    """What is said of domains and ports, from A's number to B's."""

    doms: dict[int, int] = field(default_factory=dict)
    ports: dict[End, End] = field(default_factory=dict)


def read_mapping(texts: Iterable[str]) -> Mapping:
    """Read what `--map` was given; raises `UsageError` for what contradicts itself, too."""
    found = Mapping()
    for text in texts:
        _read(found, text.replace(" ", ""))
    for one, other in found.ports.items():
        _put(found.doms, one[0], other[0], f"d{one[0]}", f"d{other[0]}")
    return found


def _read(found: Mapping, text: str) -> None:
    if match := _DOMAINS.fullmatch(text):
        one, other = map(int, match.groups())
        _put(found.doms, one, other, f"d{one}", f"d{other}")
    elif match := _PORTS.fullmatch(text):
        dom, port, to_dom, to_port = map(int, match.groups())
        names = f"d{dom}:{port}", f"d{to_dom}:{to_port}"
        _put(found.ports, (dom, port), (to_dom, to_port), *names)
    else:
        message = f"--map {text}: expected d1=d3 or d1:8=d3:12, A's number first"
        raise UsageError(message)


def _put(pairs: dict[K, K], one: K, other: K, one_name: str, other_name: str) -> None:
    for known, its in pairs.items():
        if (known == one) != (its == other):
            message = f"--map {one_name}={other_name}: one of them is mapped to another already"
            raise UsageError(message)
    pairs[one] = other
