"""Xen's own reader of traces, xenalyze, where it is installed."""

import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evtrace.cli import app

PLACES = [*os.get_exec_path(), "/usr/sbin", *map(str, Path("/usr/lib").glob("xen-*/bin"))]
"""Where distributions put Xen's tools."""
XENALYZE = shutil.which("xenalyze", path=os.pathsep.join(PLACES))
NAMES = {0x20100D: "hypercall", 0x20200E: "hypercall", 0x28004: "vcpu_wake", 0x28006: "vcpu_block"}
"""What xenalyze calls an event in its text."""

with_xenalyze = pytest.mark.skipif(
    XENALYZE is None, reason="xenalyze is not installed (Debian: xen-utils-common)"
)


def xenalyze(trace, *options):
    """Run xenalyze; give its exit code and the lines it prints."""
    assert XENALYZE
    command = [XENALYZE, *options, str(trace)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert 0 == done.returncode, done.stderr.decode(errors="replace")[-500:]
    return done.stdout.decode(errors="replace").splitlines()


def told(trace):
    """Give what `evtrace info` counts: records by event."""
    done = CliRunner().invoke(app, ["info", str(trace), "--format", "json"])
    answer = json.loads(done.stdout)
    assert [] == answer["damage"]
    return Counter({int(event, 16): n for event, n in answer["records_by_event"].items()})
