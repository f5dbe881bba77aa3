"""Recordings of the emulator."""

from collections.abc import Callable
from pathlib import Path

import pytest

from evtrace.timeline import Row
from evtrace.tracefile.reader import open_trace
from evtrace.tracefile.rows import timeline
from evtrace.tracer.emulator.lab import Lab, Settings
from evtrace.tracer.emulator.session import record

Recording = Callable[..., list[Row]]


@pytest.fixture
def rows_of(tmp_path: Path) -> Recording:
    """Record a scenario, given as a function of a lab, and give all rows of its timeline."""

    def run(scenario: Callable[[Lab], None], settings: Settings | None = None) -> list[Row]:
        path = tmp_path / "trace.bin"
        record(Lab(settings), scenario, path, source="test", force=True)
        return read_rows(path)

    return run


def read_rows(path: Path) -> list[Row]:
    """Give all rows of a trace."""
    reader = open_trace(path)
    try:
        return [Row._make(row) for batch in timeline(reader) for row in batch.iter_rows()]
    finally:
        reader.close()
