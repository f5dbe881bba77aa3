"""A browser for the session, and pages to open in it."""

from functools import cache

import pytest
from typer.testing import CliRunner

from evtrace.cli import app
from tests.browser.chromium import PROGRAMS, browser, find_chromium
from tests.hostile import FILE_NAME, hostile_trace


def evtrace(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="session")
def running():
    if find_chromium() is None:
        pytest.skip(f"no browser here: none of {', '.join(PROGRAMS)} is on PATH")
    with browser() as started:
        yield started


@pytest.fixture(scope="session")
def page_of(tmp_path_factory, imported):
    """Give the page of a scenario, of a stored capture, or of the hostile trace."""
    folder = tmp_path_factory.mktemp("pages")

    @cache
    def make(name):
        trace, page = folder / f"{name}.bin", folder / f"{name}.html"
        if name == "hostile":
            trace = folder / FILE_NAME
            trace.write_bytes(hostile_trace())
        elif name in {"demo", "storm"}:
            evtrace("record", "--scenario", name, "-o", trace)
        else:
            trace = imported(name)
        evtrace("report", trace, "-o", page)
        return page

    return make
