"""Channels with too few events are put together: what many of them tell, they tell jointly."""

import re
from collections.abc import Mapping
from typing import Final

from evtrace.analysis.checks.parts import ARROW
from evtrace.analysis.diff.compared import FEWEST

_NUMBER: Final = re.compile(r"(d\d+(?:\(B\))?)(?::\d+|v\d+)")


def pools(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, str]:
    """Name for each small channel that both traces have what it is put together with.

    `a` and `b` count the events of channels. Those between the same domains go together.
    """
    small = [name for name in a.keys() & b.keys() if min(a[name], b[name]) < FEWEST]
    return {name: _pool(name) for name in small}


def _pool(channel: str) -> str:
    start, _, end = _NUMBER.sub(r"\1", channel).partition(ARROW)
    return f"{start}{ARROW}{end}{_POOLED}"


_POOLED: Final = " (small channels)"


def is_pool(part: str) -> bool:
    """Whether a part is several channels put together."""
    return part.endswith(_POOLED)
