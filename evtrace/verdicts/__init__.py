"""The verdicts: closed sets that are never mixed, what carries them, and their tables."""

from evtrace.verdicts.accounts import (
    Contribution,
    Divergence,
    EmptyUpcall,
    Move,
    Run,
    Send,
)
from evtrace.verdicts.findings import (
    Blame,
    Finding,
    FindingCode,
    Severity,
)
from evtrace.verdicts.sets import (
    UNPROVOKED_CAUSES,
    Cause,
    ContributionKind,
    EoiDelay,
    Fate,
    Route,
    UpcallVerdict,
    WorkCause,
    WorkVerdict,
)
from evtrace.verdicts.tables import (
    moves_schema,
    runs_schema,
    sends_schema,
    upcalls_schema,
)

__all__ = [
    "UNPROVOKED_CAUSES",
    "Blame",
    "Cause",
    "Contribution",
    "ContributionKind",
    "Divergence",
    "EmptyUpcall",
    "EoiDelay",
    "Fate",
    "Finding",
    "FindingCode",
    "Move",
    "Route",
    "Run",
    "Send",
    "Severity",
    "UpcallVerdict",
    "WorkCause",
    "WorkVerdict",
    "moves_schema",
    "runs_schema",
    "sends_schema",
    "upcalls_schema",
]
