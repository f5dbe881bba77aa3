"""What `evtrace minimise` found, as text and as JSON."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evtrace.commands.minimising import Found, Watch
from evtrace.printable import printable

if TYPE_CHECKING:
    from evtrace.analysis.operations import Operation
    from evtrace.commands.reproducing import Reproduction


@dataclass(frozen=True, slots=True)
class Told:
    """What is printed."""

    found: Found
    name: str
    watch: Watch
    output: Path
    records: int
    played: "Reproduction | None"

    def text(self) -> str:
        """Say what was kept, how much is left, what that is, and where it was written."""
        played = self.played or "No scenario: nothing is left that a guest does."
        written = f"{self.output}: {self.records:,} records"
        return "\n".join([*self._lines(), "", written, str(played)])

    def _lines(self) -> Iterator[str]:
        from evtrace.analysis.operations import open_before, operation_lines  # noqa: PLC0415

        found, minimal, watch = self.found, self.found.minimal, self.watch
        yield printable(f"Kept: {found.fact.sentence}")
        operations = f"{found.of_operations:,} → {len(minimal.operations):,} operations"
        yield f"  {operations}; {watch.replays:,} replays, {watch.elapsed:.1f} s"
        if found.started_late:
            yield "  It begins with its channels as they stood when it starts."
        if not minimal.is_minimal:
            yield "  Ended early: more may be left out."
        yield ""
        before = open_before(minimal.units)
        if before:
            yield "Open before:"
            yield from (f"  {line}" for line in before)
            yield ""
        yield from operation_lines(self._operations())

    def _operations(self) -> "list[Operation]":
        from evtrace.analysis.operations import list_operations  # noqa: PLC0415

        found = self.found
        return list_operations(found.minimal.operations, found.whole.results, found.fact.seq)

    def json(self) -> str:
        """Give the same by `schemas/minimise.schema.json`."""
        from evtrace.analysis.operations import open_before  # noqa: PLC0415

        found, played = self.found, self.played
        fact = found.fact
        told = {
            "schema": "evtrace-minimise/1",
            "kept": {"name": self.name, "sentence": fact.sentence, "seq": fact.seq},
            "of": {"trace": found.of_trace, "operations": found.of_operations},
            "is_minimal": found.minimal.is_minimal,
            "starts_late": found.started_late,
            "replays": self.watch.replays,
            "seconds": round(self.watch.elapsed, 3),
            "open_before": open_before(found.minimal.units),
            "operations": [one._asdict() for one in self._operations()],
            "trace": {"path": str(self.output), "records": self.records},
            "scenario": played and {**asdict(played), "path": str(played.path)},
        }
        return json.dumps(told, indent=2, ensure_ascii=False)
