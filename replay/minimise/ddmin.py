"""Delta debugging: the smallest set that still passes a test, found by leaving parts out.

After Zeller and Hildebrandt's ddmin, of which only the complements are tried: what is tested is
always what is left without some part.
"""

from collections.abc import Callable, Sequence

Places = frozenset[int]


def reduce_set(
    kept: Places,
    removable: Sequence[int],
    without: Callable[[Places, Sequence[int]], Places],
    passes: Callable[[Places], bool],
    keep_on: Callable[[Places], bool],
) -> tuple[Places, bool]:
    """Leave out of `kept`, which passes, what can be left out of it; `removable` in their order.

    `without` gives what is left without some of them; `keep_on` is asked before each test, and told
    the smallest set that has passed. The second result tells whether no one of them can be left
    out any more.
    """
    failed: set[Places] = set()
    items = [place for place in removable if place in kept]
    parts = 2
    while items:
        size = -(-len(items) // parts)
        smaller = None
        for at in range(0, len(items), size):
            candidate = without(kept, items[at : at + size])
            if candidate == kept or candidate in failed:
                continue
            if not keep_on(kept):
                return kept, False
            if passes(candidate):
                smaller = candidate
                break
            failed.add(candidate)
        if smaller is not None:
            kept = smaller
            items = [place for place in items if place in kept]
            parts = max(parts - 1, 2)
        elif size == 1:
            break
        else:
            parts = min(2 * parts, len(items))
    return kept, True
