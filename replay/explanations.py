"""Explanations: a page in plain words for every verdict, finding and code of the doctor.

The texts stand in `pages/`, one file a set; a name may be in several sets. Where they name a file
or a function of Xen or Linux, that is where the mechanism is, as a fact.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum, unique
from functools import cache
from importlib.resources import files
from typing import Final

from evtrace.errors import UsageError
from evtrace.replay.doctor.findings import Code
from evtrace.verdicts import (
    Cause,
    EoiDelay,
    Fate,
    FindingCode,
    Route,
    UpcallVerdict,
    WorkCause,
    WorkVerdict,
)


@unique
class VerdictSet(StrEnum):
    """A closed set of names; sets are never mixed, though they may share a name."""

    CAUSE = "cause of a handler run"
    ROUTE = "route of an event"
    UPCALL = "why an upcall was empty"
    WORK = "what the driver found"
    WORK_CAUSE = "who made a run find no work"
    DELAY = "why a port was unmasked late"
    FATE = "fate of a send"
    FINDING = "finding of a replay"
    DOCTOR = "finding of evtrace doctor"


MEMBERS: Final[dict[VerdictSet, type[StrEnum]]] = {
    VerdictSet.CAUSE: Cause,
    VerdictSet.ROUTE: Route,
    VerdictSet.UPCALL: UpcallVerdict,
    VerdictSet.WORK: WorkVerdict,
    VerdictSet.WORK_CAUSE: WorkCause,
    VerdictSet.DELAY: EoiDelay,
    VerdictSet.FATE: Fate,
    VerdictSet.FINDING: FindingCode,
    VerdictSet.DOCTOR: Code,
}

_FILES: Final = {
    VerdictSet.CAUSE: "causes.toml",
    VerdictSet.ROUTE: "routes.toml",
    VerdictSet.UPCALL: "upcalls.toml",
    VerdictSet.WORK: "work.toml",
    VerdictSet.WORK_CAUSE: "work_causes.toml",
    VerdictSet.DELAY: "delays.toml",
    VerdictSet.FATE: "fates.toml",
    VerdictSet.FINDING: "findings.toml",
    VerdictSet.DOCTOR: "doctor.toml",
}


@dataclass(frozen=True, slots=True)
class Page:
    """The explanation of one name."""

    belongs_to: VerdictSet
    name: str
    code: str
    """EVT number; empty where the set has none."""
    severity: str
    """Of a finding of a replay; empty for all else, the doctor's depends on the snapshots."""
    meaning: str
    mechanism: str
    """What Xen or the guest does, and where."""
    rule: str
    """How evtrace recognises it."""
    needs: tuple[str, ...]
    """Record classes (`RecordClass`), or sources of the doctor; without them it is withheld."""
    next_step: str
    see_also: tuple[str, ...]

    @property
    def title(self) -> str:
        """Name it, with its code and severity if it has any."""
        code = f" ({self.code}, {self.severity})" if self.severity else f" ({self.code})"
        return self.name + (code if self.code else "")


@cache
def all_pages() -> tuple[Page, ...]:
    """Give every page, in the order of the sets and of their members."""
    return tuple(page for which in VerdictSet for page in _pages_of(which))


def _pages_of(which: VerdictSet) -> Iterator[Page]:
    text = (files(__package__) / "pages" / _FILES[which]).read_text(encoding="utf-8")
    entries = tomllib.loads(text)
    for name, member in MEMBERS[which].__members__.items():
        entry = entries[name]
        yield Page(
            belongs_to=which,
            name=name,
            code=member.value if member.value != name else "",
            severity=member.severity.value if isinstance(member, FindingCode) else "",
            meaning=entry["is"],
            mechanism=entry["mechanism"],
            rule=entry["rule"],
            needs=tuple(entry["needs"]),
            next_step=entry["next"],
            see_also=tuple(entry["see"]),
        )


def find_pages(wanted: str) -> list[Page]:
    """Find the pages of a name or code in whatever set, in any case; else `UsageError`."""
    name = wanted.upper().replace("-", "_")
    found = [page for page in all_pages() if name in {page.name, page.code}]
    if not found:
        known = {text: None for page in all_pages() for text in (page.name, page.code) if text}
        near = get_close_matches(name, known, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "see `evtrace explain --list`"
        message = f"nothing is called {wanted!r}; {hint}"
        raise UsageError(message)
    return found
