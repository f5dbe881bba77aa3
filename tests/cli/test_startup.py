"""Start-up: asking for help loads no part of evtrace and no heavy package."""

import subprocess
import sys

import pytest

HEAVY = ("polars", "plotly", "construct", "zstandard")
PARTS = ("tracefile", "xen", "guest", "replay", "tracer", "analysis", "api", "timeline")
LIST_MODULES = "import sys; print('\\n'.join(sys.modules))"
HELP = """
import sys
sys.argv = ["evtrace", "--help"]
from evtrace.cli import main
try:
    main()
except SystemExit:
    pass
"""


@pytest.mark.parametrize("program", ["import evtrace\n", HELP])
def test_nothing_is_loaded_before_it_is_used(program):
    done = subprocess.run(
        [sys.executable, "-c", program + LIST_MODULES],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())

    assert not loaded & set(HEAVY)
    assert not loaded & {f"evtrace.{part}" for part in PARTS}
