"""The running Xen answers as the model of its version; nobody else's port is touched."""

import json
from pathlib import Path

import pytest

from evtrace.errors import ExitCode
from evtrace.tracer.importers.debug_keys import parse_debug_keys

pytestmark = pytest.mark.lab

FORMS = {"fifo": "", "2l": "xen.fifo_events=0"}
LOOKS = 4


@pytest.fixture(scope="module", params=FORMS)
def form(request):
    return request.param


@pytest.fixture(scope="module")
def folder(form, ran):
    return ran("live", FORMS[form]).folder


def read_report(folder: Path, name: str):
    return json.loads((folder / f"{name}.json").read_text())


def read_channels(folder: Path, name: str):
    text = (folder / f"{name}.debugkeys.txt").read_text()
    return parse_debug_keys(text.splitlines()).domains[0]


def test_ten_thousand_answers_are_those_of_the_model(folder, form, log):
    report = read_report(folder, "alone")
    log(
        f"live {form}: Xen {report['xen']} against profile {report['profile']}: "
        f"{report['operations']:,} operations, {len(report['differences'])} differences"
    )
    assert ("4.17", form, 0) == (
        report["profile"],
        report["domain"]["form"],
        report["domain"]["domid"],
    )
    assert report["operations"] >= 10_000
    assert report["differences"] == []
    assert {"0", "EINVAL", "ENOENT", "EEXIST"} <= set(report["answers"]["bind_virq"])


def test_others_that_open_and_close_ports_make_no_difference(folder):
    report = read_report(folder, "busy")
    assert report["differences"] == []
    assert report["ports"]["taken_by_others"] > 0


def test_what_it_has_open_is_masked(folder):
    others = read_channels(folder, "before")
    seen = [read_channels(folder, f"meanwhile{look + 1}") for look in range(LOOKS)]
    own = [channel for look in seen for port, channel in look.items() if port not in others]
    assert len(own) > LOOKS
    assert [channel for channel in own if not channel.masked] == []
    assert any(channel.pending for channel in own)


def test_a_signal_ends_it_and_the_ports_are_as_before(folder):
    code = int((folder / "interrupted.code").read_text())
    report = read_report(folder, "interrupted")
    before, after = (
        {port: channel.identity for port, channel in read_channels(folder, name).items()}
        for name in ("before", "after")
    )
    assert code == ExitCode.INTERRUPTED
    assert report["interrupted"]
    assert report["ports"]["left"] == []
    assert before == after
