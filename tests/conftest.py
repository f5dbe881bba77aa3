"""What many tests share: the stored captures, imported once a session."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from evtrace.api import Trace
from evtrace.commands.import_ import import_
from evtrace.timeline import Row

SOURCES = Path(__file__).parent.parent / "traces" / "sources"
FTRACE_CAPTURES = ("pv_fifo_blog", "pv_fifo_evpp5", "pvh_blog", "dom0_self20")


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the trace made of a stored capture's sources."""
    folder = tmp_path_factory.mktemp("imported")

    @cache
    def make(name: str) -> Path:
        source = SOURCES / name
        output = folder / f"{name}.bin"
        import_(
            output=output,
            xentrace=source / "xentrace.bin.zst",
            ftrace=[f"{p.name[3]}={p}" for p in sorted(source.glob("dom?.ftrace.txt.zst"))],
            lsevtchn=[str(path) for path in source.glob("before.lsevtchn.txt")],
            debug_keys=[str(path) for path in source.glob("before.debugkeys.txt")],
        )
        return output

    return make


@pytest.fixture(scope="session")
def replayed_rows(imported: Callable[[str], Path]) -> Callable[[str], tuple[Trace, list[Row]]]:
    """Give a trace and the rows that its replay needs, to be changed and replayed."""

    @cache
    def load(name: str) -> tuple[Trace, list[Row]]:
        trace = Trace(imported(name))
        return trace, list(trace.rows())

    return load
