"""Tests under the marker `lab` boot a machine: they run when asked for (`make lab`)."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.lab import boot, disk, image, machine

EXPERIMENTS = Path(__file__).parent / "experiments"
RESULTS = image.CACHE / "results"
REUSE = "EVTRACE_LAB_REUSE" in os.environ  # look again at what the last boots left
OPTIONAL = "EVTRACE_LAB_OPTIONAL" in os.environ  # a machine that cannot be made is no failure
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
        terminalreporter.section("lab", bold=True)
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
        log(f"NOT RUN: {reason}")
        pytest.skip(str(reason))

    @cache
    def run(name: str, linux: str = "", **size: Any) -> boot.Outcome:
        label = f"{name}{'-2l' if linux else ''}"
        if REUSE:
            return boot.Outcome(0, 0.0, RESULTS / label)
        try:
            done = booted(label, EXPERIMENTS / f"{name}.sh", machine.Size(**size), linux, log)
        except (machine.BootFailed, disk.CommandFailed) as reason:
            if not OPTIONAL:
                raise
            log(f"{label}: NOT RUN, there is no machine here: {reason}")
            pytest.skip(str(reason))
        log(f"{label}: {done.xen}, {done.seconds:.0f} s from power-on to power-off")
        if OPTIONAL and done.code and done.crash:
            log(f"{label}: NOT RUN to its end, a kernel crashed again: {done.crash}")
            pytest.skip(done.crash)
        assert done.code == 0, (done.folder / "run.log").read_text()
        return done

    return run


def booted(label: str, script: Path, size: machine.Size, linux: str, log: Log) -> boot.Outcome:
    """Boot, and once more if it was the machine that failed."""
    try:
        done = boot.boot(script, RESULTS / label, size=size, linux=linux)
        failed = done.crash if done.code else None
    except machine.BootFailed as reason:
        failed = str(reason).splitlines()[0]
    if failed is None:
        return done
    log(f"{label}: once more, the machine failed: {failed}")
    return boot.boot(script, RESULTS / label, size=size, linux=linux)
