"""Stored traces at which judging fails: one ends its process, one meets an error of evtrace's."""

import os
from dataclasses import dataclass
from pathlib import Path

from evtrace.analysis.checks.stored import Stored


@dataclass(frozen=True, slots=True, order=True)
class Deadly(Stored):
    """Ask it for its expectations and the process is gone."""

    @property
    def expectations(self) -> Path:
        os._exit(9)


@dataclass(frozen=True, slots=True, order=True)
class Unforeseen(Stored):
    """Ask it for its expectations and evtrace makes a mistake."""

    @property
    def expectations(self) -> Path:
        raise KeyError(self.path)
