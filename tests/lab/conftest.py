"""Tests under the marker `lab` boot a machine: they run when asked for (`make lab`)."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.lab import boot, image, machine

EXPERIMENTS = Path(__file__).parent / "experiments"
RESULTS = image.CACHE / "results"
REUSE = "EVTRACE_LAB_REUSE" in os.environ  # look again at what the last boots left
LOG = pytest.StashKey[list[str]]()

Ran = Callable[..., boot.Outcome]
Log = Callable[[str], None]


def pytest_collection_modifyitems(config, items):
    """Leave the lab out unless the marker expression speaks of it."""
    if "lab" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("lab")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter, config):
    """Print what the experiments measured."""
    lines = config.stash.get(LOG, [])
    if lines:
        terminalreporter.section("lab")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def log(pytestconfig: pytest.Config) -> Log:
    """Give a function that notes a line for the log's end."""
    return pytestconfig.stash.setdefault(LOG, []).append


@pytest.fixture(scope="session")
def ran(log: Log) -> Ran:
    """Give a function that runs an experiment, once a session, and says how it ended."""
    try:
        image.preflight()
    except image.LabUnavailable as reason:
        pytest.skip(str(reason))

    @cache
    def run(name: str, linux: str = "", seconds: int = 300) -> boot.Outcome:
        script, size = EXPERIMENTS / f"{name}.sh", machine.Size(seconds=seconds)
        label = f"{name}{'-2l' if linux else ''}"
        if REUSE:
            return boot.Outcome(0, 0.0, RESULTS / label)
        done = boot.boot(script, RESULTS / label, size=size, linux=linux)
        log(f"{label}: {done.xen}, {done.seconds:.0f} s from power-on to power-off")
        assert done.code == 0, (done.folder / "run.log").read_text()
        return done

    return run
