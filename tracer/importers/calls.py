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


@dataclass(slots=True)
class ProbedCall:
    """One call as two probes saw it; `post` is None if it was not seen to return."""

    call_id: int
    pre: Line
    post: Line | None = None

    @property
    def op(self) -> int:
        """The EVTCHNOP."""
        return int(self.pre.values["cmd"], 0)

    @property
    def port(self) -> int | None:
        """First word of the argument struct: the port, for operations on one."""
        words = _words(self.pre)
        return words[0] if words else None

    def argument_words(self) -> list[int]:
        """Give the arguments as CALL_ENTER holds them: a 64-bit one as two words."""
        if self.op not in _OPS:
            return []
        op = _OPS[self.op]
        words: list[int] = []
        values = ops.decode_args(op, _words(self.pre))
        for member, value in zip(ops.OP_SPECS[op].inputs, values, strict=False):
            words += [value & 0xFFFFFFFF, value >> 32] if member.width == 8 else [value]
        return words

    def rc(self) -> int:
        """Give the result as an unsigned word; the call must have returned."""
        return int(self.post.values["rc"], 0) & 0xFFFFFFFF if self.post else 0

    def output_words(self) -> list[int]:
        """Give the outputs as CALL_EXIT holds them, as far as the probe saw them."""
        if self.post is None or self.op not in _OPS:
            return []
        return list(ops.decode_outputs(_OPS[self.op], _words(self.post)))


class CallPairs:
    """Pairs probes as they come."""

    def __init__(self) -> None:
        """Start with no call open."""
        self.calls: list[ProbedCall] = []
        self.unopened = 0
        """Returns whose entry was not seen."""
        self._open: dict[str, list[ProbedCall]] = {}

    def enter(self, line: Line) -> ProbedCall:
        """Open the call of a `_pre` probe."""
        call = ProbedCall(len(self.calls) % (_CALL_IDS - 1) + 1, line)
        self.calls.append(call)
        self._open.setdefault(line.task, []).append(call)
        return call

    def leave(self, line: Line) -> ProbedCall | None:
        """Close the call of a `_post` probe; None if its entry was not seen."""
        stack = self._open.get(line.task, [])
        base, cmd = line.name.removesuffix("_post"), line.values["cmd"]
        for place in range(len(stack) - 1, -1, -1):
            pre = stack[place].pre
            if pre.name.removesuffix("_pre") == base and pre.values["cmd"] == cmd:
                call = stack[place]
                del stack[place:]  # calls inside it never returned: their probe was lost
                call.post = line
                return call
        self.unopened += 1
        return None


def is_entry(line: Line) -> bool:
    """Tell whether the line is the probe before a call."""
    return line.name.endswith("_pre") and number(line.values.get("cmd")) is not None


def is_return(line: Line) -> bool:
    """Tell whether the line is the probe after a call."""
    known = number(line.values.get("rc")) is not None and number(line.values.get("cmd")) is not None
    return known and line.name.endswith("_post")


def number(text: str | None) -> int | None:
    """Read a probe's value, decimal or hex; None if it is no number, as `(fault)`."""
    try:
        return None if text is None else int(text, 0)
    except ValueError:
        return None


def _words(line: Line) -> list[int]:
    words: list[int] = []
    while (value := number(line.values.get(f"w{len(words)}"))) is not None:
        words.append(value & 0xFFFFFFFF)
    return words
