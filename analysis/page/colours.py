"""Colours of causes, the same in every figure, on light ground and on dark.

They can be told apart by colour-blind eyes where they meet most (SEND, VIRQ, IPI, the conservative
event, UNKNOWN); a run that nobody provoked has a flag besides.
"""

from evtrace.verdicts import UNPROVOKED_CAUSES, Cause

CAUSE_COLOURS = {
    Cause.SEND: "#2a78c8",
    Cause.IPI: "#1d9a8a",
    Cause.VIRQ: "#8d949e",
    Cause.PIRQ: "#a08a5b",
    Cause.BIND_CONSERVATIVE: "#e2660c",
    Cause.BIND_MERGED: "#c08a00",
    Cause.RETRIGGER_LOCAL: "#9a5fd0",
    Cause.DOUBLE_HANDLE: "#d6409f",
    Cause.STALE_PENDING_REUSE: "#b8443c",
    Cause.PEER_CLOSE_RESIDUE: "#9c6644",
    Cause.UNBIND_LAST_CALL: "#6f6fd8",
    Cause.UNPROVOKED: "#e02f2f",
    Cause.UNKNOWN: "#5b8097",
}

CHANNEL_COLOURS = (
    "#2a78c8",
    "#e2660c",
    "#1d9a8a",
    "#9a5fd0",
    "#c08a00",
    "#d6409f",
    "#8d949e",
    "#b8443c",
)
"""Colours of channels in a figure of latencies."""


def cause_legend(causes: dict[str, int]) -> list[dict[str, object]]:
    """Give the causes that occur, the most frequent first: name, colour, whether it is flagged."""
    return [
        {
            "name": cause,
            "colour": CAUSE_COLOURS[Cause(cause)],
            "runs": runs,
            "flagged": Cause(cause) in UNPROVOKED_CAUSES,
        }
        for cause, runs in sorted(causes.items(), key=lambda item: (-item[1], item[0]))
    ]
