"""Calls: the probes before and after each event_channel_op, paired.

Probes are named by whoever set them; the pair is told by `_pre` with `cmd=` and `_post` with `cmd=`
and `rc=` behind one base name. Pairs nest, so they close last-in-first-out per task.
"""

from dataclasses import dataclass

from evtrace.tracer.importers.ftrace import Line
from evtrace.xen import ops
from evtrace.xen.abi import EvtchnOp

_OPS = {int(op): op for op in EvtchnOp}
_CALL_IDS = 1 << 24
_MAX_OP = 0xFF
"""A record has 8 bits for the operation; a greater `cmd` is none."""


@dataclass(slots=True)
class ProbedCall:
    """One call as its probes saw it; a probe that was lost or lies outside the text is None."""

    call_id: int
    op: int
    """The EVTCHNOP."""
    pre: Line | None = None
    post: Line | None = None
    is_doubtful: bool = False
    """Events of its vCPU were lost while it was open: what returns may be another call."""

    def arguments(self) -> tuple[int, ...]:
        """Give the arguments in the order of `ops.arg_names`, as far as the probes saw them.

        Xen leaves them as they are: where the probe before the call has no words, the one behind
        it shows the same.
        """
        if self.pre is None or self.op not in _OPS:
            return ()
        words = _words(self.pre) or (_words(self.post) if self.post else [])
        return ops.decode_args(_OPS[self.op], words)

    def argument_words(self) -> list[int]:
        """Give the arguments as CALL_ENTER holds them: a 64-bit one as two words."""
        words: list[int] = []
        members = ops.OP_SPECS[_OPS[self.op]].inputs if self.op in _OPS else ()
        for member, value in zip(members, self.arguments(), strict=False):
            words += [value & 0xFFFFFFFF, value >> 32] if member.width == 8 else [value]
        return words

    def rc(self) -> int | None:
        """Give the result, negative for an error; None if the call was not seen to return."""
        if self.post is None:
            return None
        word = int(self.post.values["rc"], 0) & 0xFFFFFFFF
        return word - (1 << 32) if word >> 31 else word

    def outputs(self) -> tuple[int, ...]:
        """Give the outputs in the order of `ops.output_names`, as far as the probe saw them."""
        if self.post is None or self.op not in _OPS:
            return ()
        return ops.decode_outputs(_OPS[self.op], _words(self.post))

    def port_acted_on(self) -> int | None:
        """Give the port that the call closes, unmasks or moves; None if it does neither."""
        arguments = self.arguments()
        acts = self.op in {EvtchnOp.CLOSE, EvtchnOp.UNMASK, EvtchnOp.BIND_VCPU}
        return arguments[0] if acts and arguments else None

    def port_made(self) -> int | None:
        """Give the port that the call bound or allocated for its caller; None if none."""
        output = _PORT_MADE.get(self.op)
        outputs = self.outputs()
        return outputs[output] if output is not None and outputs and self.rc() == 0 else None

    def may_end(self, line: Line) -> bool:
        """Tell whether `line` can be the return of this call."""
        if self.pre is None or (self.op, _base(self.pre)) != (_op(line), _base(line)):
            return False
        words = _words(self.pre)
        if not self.is_doubtful or self.op not in _OPS or not words:
            return True
        op = _OPS[self.op]
        return ops.decode_args(op, words) == ops.decode_args(op, _words(line))


_PORT_MADE = {
    int(op): 0
    for op in (
        EvtchnOp.ALLOC_UNBOUND,
        EvtchnOp.BIND_INTERDOMAIN,
        EvtchnOp.BIND_VIRQ,
        EvtchnOp.BIND_PIRQ,
        EvtchnOp.BIND_IPI,
    )
}
"""Operation -> place of the new port among its outputs."""


class CallPairs:
    """Pairs probes as they come."""

    def __init__(self) -> None:
        """Start with no call open."""
        self.calls: list[ProbedCall] = []
        """In order of entry; one whose entry was not seen, of return."""
        self._open: dict[str, list[ProbedCall]] = {}

    @property
    def paired(self) -> int:
        """Number of calls of which both probes were seen."""
        return sum(call.pre is not None and call.post is not None for call in self.calls)

    def enter(self, line: Line) -> ProbedCall:
        """Open the call of a `_pre` probe."""
        call = self._new(line)
        call.pre = line
        self._open.setdefault(line.task, []).append(call)
        return call

    def leave(self, line: Line) -> ProbedCall:
        """Close the call of a `_post` probe; if its entry was not seen, a call of its own."""
        stack = self._open.get(line.task, [])
        for place in range(len(stack) - 1, -1, -1):
            if stack[place].may_end(line):
                call = stack[place]
                del stack[place:]  # calls inside it never returned: their probe was lost
                break
        else:
            call = self._new(line)
        call.post = line
        return call

    def doubt(self, cpu: int) -> None:
        """Note that events of a CPU were lost here: calls open on it may have returned."""
        for stack in self._open.values():
            for call in stack:
                call.is_doubtful |= call.pre is not None and call.pre.cpu == cpu

    def _new(self, line: Line) -> ProbedCall:
        call = ProbedCall(len(self.calls) % (_CALL_IDS - 1) + 1, _op(line))
        self.calls.append(call)
        return call


def is_entry(line: Line) -> bool:
    """Tell whether the line is the probe before a call."""
    return line.name.endswith("_pre") and "cmd" in line.values


def is_return(line: Line) -> bool:
    """Tell whether the line is the probe behind a call."""
    return line.name.endswith("_post") and "cmd" in line.values


def is_readable(line: Line) -> bool:
    """Tell whether a probe's line has the fields that it needs."""
    op = number(line.values.get("cmd"))
    known = op is not None and 0 <= op <= _MAX_OP
    return known and (is_entry(line) or number(line.values.get("rc")) is not None)


def number(text: str | None) -> int | None:
    """Read a probe's value, decimal or hex; None if it is no number, as `(fault)`."""
    try:
        return None if text is None else int(text, 0)
    except ValueError:
        return None


def _op(line: Line) -> int:
    return int(line.values["cmd"], 0)


def _base(line: Line) -> str:
    return line.name.removesuffix("_pre").removesuffix("_post")


def _words(line: Line) -> list[int]:
    words: list[int] = []
    while (value := number(line.values.get(f"w{len(words)}"))) is not None:
        words.append(value & 0xFFFFFFFF)
    return words
