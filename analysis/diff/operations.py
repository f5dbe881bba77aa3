"""The first operation in which two traces differ: another answer, or another operation.

Calls of one vCPU come in its own order; how the calls of different vCPUs interleave is no
difference. An answer differs where the same vCPU's domain makes the same call for the same time
and Xen answers otherwise, as it never does in the other trace: that one answer comes a little
earlier or later than another is chance.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Final

from evtrace.analysis.diff.aligned import Alignment
from evtrace.analysis.diff.calls import Made, op_name
from evtrace.xen.abi import EvtchnOp

AROUND: Final = 3
"""Operations that are shown before and after the one that differs."""

_COMPARABLE: Final = 0.5
"""So large a share of the shorter trace's operations must be common to both."""

_AHEAD: Final = 8
"""So far ahead the other side's operation is looked for."""

Key = tuple[int, int, Hashable]
"""The caller's domain in A's numbers, the operation, its arguments in A's numbers."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a trace something is, with what is around it on the same vCPU."""

    made: Made | None
    """None: this side's vCPU has made no more calls."""
    before: Sequence[Made]
    after: Sequence[Made]


@dataclass(frozen=True, slots=True)
class FirstDifference:
    """The first operation that differs."""

    what: str
    is_answer: bool
    """The same was asked and answered otherwise; False: something else was asked."""
    a: Place
    b: Place


@dataclass(frozen=True, slots=True)
class Walked:
    """What a walk through both traces' calls came to."""

    shared: float | None
    """Share of the shorter trace's operations that both have; None: one of them has no calls."""
    answers: tuple[FirstDifference, ...] = ()
    """Where each kind of call was first answered as it never is in A."""
    first: FirstDifference | None = None
    """The first operation in which a vCPU does otherwise; None: there is none."""
    vcpus: int = 0
    """vCPUs whose calls are the same to the end of the shorter one."""

    @property
    def is_comparable(self) -> bool:
        """Whether the two can be recordings of the same work."""
        return self.shared is not None and self.shared >= _COMPARABLE


def walk(a: Sequence[Made], b: Sequence[Made], alignment: Alignment) -> Walked:
    """Walk through the calls of both traces."""
    if not a or not b:
        return Walked(None)
    key_b = partial(_key, alignment=alignment)
    shared = _shared(Counter(map(_key, a)), Counter(map(key_b, b)))
    answers = tuple(_answers(a, b, key_b))
    if shared < _COMPARABLE:
        return Walked(shared, answers)
    firsts, same = _first_of_each_vcpu(a, b, alignment)
    return Walked(shared, answers, min(firsts, default=None, key=_when), same)


def _shared(one: Counter[Key], other: Counter[Key]) -> float:
    return (one & other).total() / min(one.total(), other.total())


def _key(made: Made, alignment: Alignment | None = None) -> Key:
    """Give what was asked in A's numbers; what A does not have has no number of A's."""
    if alignment is None:
        return made.dom, made.op, made.args
    doms, ports = alignment.doms, alignment.ports
    args: list[tuple[str, Hashable]] = []
    for name, value in made.args or ():
        if "dom" in name:
            value_in_a: Hashable = doms.get(value, f"d{value} of B")
        elif "port" in name:
            owner = port_owner(made, name)
            value_in_a = ports[owner, value][1] if (owner, value) in ports else f"{value} of B"
        else:
            value_in_a = value
        args.append((name, value_in_a))
    return doms.get(made.dom, -1), made.op, None if made.args is None else tuple(args)


def given_to(made: Made) -> int | None:
    """Give whose port the answer of a call is; None if it gives no port."""
    if made.op not in _PORTS_GIVEN:
        return None
    owner = made.given(_PORTS_GIVEN[EvtchnOp(made.op)])
    return made.dom if owner is None else owner


def port_owner(made: Made, name: str) -> int:
    """Give whose port an argument names."""
    if name == "remote_port":
        return made.given("remote_dom") or 0
    if made.op == EvtchnOp.STATUS:
        return made.given("dom") or 0
    return made.dom


_PORTS_GIVEN: Final = {
    EvtchnOp.ALLOC_UNBOUND: "dom",
    EvtchnOp.BIND_INTERDOMAIN: "",
    EvtchnOp.BIND_VIRQ: "",
    EvtchnOp.BIND_PIRQ: "",
    EvtchnOp.BIND_IPI: "",
}
"""Operations that give a port, and which argument says whose; the caller's if none does."""


def _answer(made: Made, alignment: Alignment | None = None) -> Hashable:
    """Give the answer of a call, a port in A's numbers."""
    owner = given_to(made)
    if alignment is None or made.rc or owner is None or not made.out:
        return made.rc, made.out
    end = owner, made.out[0]
    return made.rc, (alignment.ports[end][1] if end in alignment.ports else -1, *made.out[1:])


# --- answers -----------------------------------------------------------------------------------


def _answers(
    a: Sequence[Made], b: Sequence[Made], key_b: Callable[[Made], Key]
) -> Iterator[FirstDifference]:
    """Find calls that A makes, too, and that are answered as such a call never is in A.

    An answer that other calls of the kind get in A is new only where none of the call's is A's.
    """
    one, other = _by_key(a, _key), _by_key(b, key_b)
    of_kind = defaultdict(set)
    for made in a:
        of_kind[made.dom, made.op].add(made.rc)
    told = set()
    for key, its in other.items():
        if key not in one:
            continue
        was, is_ = ({calls[at].rc for at in at_} for calls, at_ in ((a, one[key]), (b, its)))
        new = is_ - was - {None} - (of_kind[key[:2]] if was & is_ else set())
        turn = next((turn for turn, at in enumerate(its) if b[at].rc in new), None)
        if turn is None or None in was or (key[:2], b[its[turn]].rc) in told:
            continue
        told.add((key[:2], b[its[turn]].rc))
        yield _differ(a, one[key][min(turn, len(one[key]) - 1)], b, its[turn])


def _by_key(calls: Sequence[Made], key: Callable[[Made], Key]) -> dict[Key, list[int]]:
    places: dict[Key, list[int]] = defaultdict(list)
    for place, made in enumerate(calls):
        places[key(made)].append(place)
    return places


def _differ(a: Sequence[Made], at: int, b: Sequence[Made], at_b: int) -> FirstDifference:
    one, other = a[at], b[at_b]
    what = f"d{one.dom} {call_text(one)} was answered {one.answer} in A, {other.answer} in B"
    return FirstDifference(what, True, _place_of(a, at), _place_of(b, at_b))


def _place_of(calls: Sequence[Made], at: int) -> Place:
    """Show a call among those of its vCPU."""
    made = calls[at]
    lane = [one for one in calls if (one.dom, one.vcpu) == (made.dom, made.vcpu)]
    return _place(lane, lane.index(made))


def _place(lane: Sequence[Made], at: int) -> Place:
    made = lane[at] if at < len(lane) else None
    return Place(made, lane[max(0, at - AROUND) : at], lane[at + 1 : at + 1 + AROUND])


# --- operations --------------------------------------------------------------------------------


def _first_of_each_vcpu(
    a: Sequence[Made], b: Sequence[Made], alignment: Alignment
) -> tuple[list[FirstDifference], int]:
    """Find where each vCPU first does otherwise; and how many never do."""
    one, other = _lanes(a), _lanes(b)
    found, same = [], 0
    for (dom_b, vcpu), lane_b in other.items():
        lane_a = one.get((alignment.doms.get(dom_b, -1), vcpu))
        if lane_a is None:
            continue
        first = _first(lane_a, lane_b, alignment)
        found += [first] if first else []
        same += first is None
    return found, same


def _lanes(calls: Sequence[Made]) -> dict[tuple[int, int], list[Made]]:
    lanes: dict[tuple[int, int], list[Made]] = defaultdict(list)
    for made in calls:
        lanes[made.dom, made.vcpu].append(made)
    return lanes


def _first(a: Sequence[Made], b: Sequence[Made], alignment: Alignment) -> FirstDifference | None:
    """Find the first place in which a vCPU does otherwise; that one goes on longer is none."""
    for at, (one, other) in enumerate(zip_longest(a, b)):
        if one is None or other is None:
            return None
        if _key(one) != _key(other, alignment):
            what = _in_words(a[at:], b[at:], alignment)
            return FirstDifference(what, False, _place(a, at), _place(b, at))
        if None not in {one.rc, other.rc} and _answer(one) != _answer(other, alignment):
            what = f"d{one.dom}v{one.vcpu} calls {call_text(one)}, which gives {one.answer} in A"
            what += f", {other.answer} in B"
            return FirstDifference(what, True, _place(a, at), _place(b, at))
    return None


def _in_words(a: Sequence[Made], b: Sequence[Made], alignment: Alignment) -> str:
    """Say how two vCPUs part: one does more, or both do the same in another order."""
    one, other = a[0], b[0]
    soon_a = [_key(made) for made in a[1:_AHEAD]]
    soon_b = [_key(made, alignment) for made in b[1:_AHEAD]]
    later_in_b, later_in_a = _key(one) in soon_b, _key(other, alignment) in soon_a
    who = f"d{one.dom}v{one.vcpu}"
    if later_in_b and later_in_a:
        return f"{who} makes the same calls in another order"
    if later_in_b:
        return f"{who} makes a call more in B: {op_name(other.op)}"
    if later_in_a:
        return f"{who} makes a call less in B: {op_name(one.op)}"
    return f"{who} calls {call_text(other)} in B, not {call_text(one)}"


def _when(found: FirstDifference) -> int:
    return found.a.made.seq if found.a.made else 0


def call_text(made: Made) -> str:
    """Give a call in words, in its trace's own numbers: `bind_interdomain(1, 8)`."""
    if made.args is None:
        return f"{op_name(made.op)}(?)"
    return f"{op_name(made.op)}({', '.join(str(value) for _, value in made.args)})"
