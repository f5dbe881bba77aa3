"""Colours of causes, the same in every figure, on light ground and on dark.

SEND, IPI, VIRQ, PIRQ, the conservative event, UNPROVOKED and UNKNOWN stay apart to colour-blind
eyes too; a run that nobody provoked has a flag besides. All have a contrast of 3:1 to the ground.
"""

from evtrace.verdicts import UNPROVOKED_CAUSES, Cause

CAUSE_COLOURS = {
    Cause.SEND: "#3962c5",
    Cause.IPI: "#137b5b",
    Cause.VIRQ: "#8d949e",
    Cause.PIRQ: "#9d8e54",
    Cause.BIND_CONSERVATIVE: "#e2660c",
    Cause.BIND_MERGED: "#b98300",
    Cause.RETRIGGER_LOCAL: "#6a8f1f",
    Cause.DOUBLE_HANDLE: "#d6409f",
    Cause.STALE_PENDING_REUSE: "#b8443c",
    Cause.PEER_CLOSE_RESIDUE: "#9c6644",
    Cause.UNBIND_LAST_CALL: "#6f6fd8",
    Cause.UNPROVOKED: "#d10a25",
    Cause.UNKNOWN: "#925b99",
}

CHANNEL_COLOURS = (
    "#3962c5",
    "#e2660c",
    "#137b5b",
    "#925b99",
    "#9d8e54",
    "#d10a25",
    "#8d949e",
    "#9c6644",
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
