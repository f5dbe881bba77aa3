"""The state at a time, in the layout of debug key e, and what set a bit."""

import pytest
from typer.testing import CliRunner

from evtrace.api import Trace
from evtrace.cli import app
from evtrace.replay.state import dump_domain
from evtrace.xen.abi import FormName, PortState
from evtrace.xen.machine import Machine
from tests.conftest import SOURCES


def replay(*arguments):
    return CliRunner().invoke(app, ["replay", *map(str, arguments)])


@pytest.mark.parametrize("name", ["pv_fifo_blog", "pvh_blog", "dom0_self20"])
def test_the_state_after_the_snapshot_prints_as_xen_printed_it(name, imported):
    printed = (SOURCES / name / "before.debugkeys.txt").read_text()
    channels = [line.removeprefix("(XEN) ") for line in printed.splitlines() if "]: s=" in line]

    with Trace(imported(name)) as trace:
        snapshot_tsc = next(trace.rows()).tsc_lo

    output = replay(imported(name), "--at", snapshot_tsc).output

    assert channels
    assert [] == [line for line in channels if line not in output.splitlines()]


def test_what_set_the_bit_after_the_bind(imported):
    found = replay(imported("pv_fifo_blog"), "--at", "279744200000", "--who", "d0:33")

    assert found.exit_code == 0
    assert "bind_interdomain by d0v0: Xen pends the binder's port, while masked" in found.output


def test_nothing_is_pending_after_the_run(imported):
    found = replay(imported("pv_fifo_blog"), "--at", "279750100000", "--who", "d0:33")

    assert "d0:33 is not pending" in found.output


def columns(domain):
    return [line.split("[")[1].split("]")[0] for line in dump_domain(domain, {}) if ": s=" in line]


def test_the_third_column_of_the_fifo_form():
    domain = Machine().seed_domain(0, 1, FormName.FIFO)
    for port in (1, 2, 3):
        domain.seed_port(port, PortState.IPI, pending=port < 3, linked=port < 3)

    assert columns(domain) == ["1/0/  2   ", "1/0/  0   ", "0/0/  -   "]


def test_the_third_column_of_the_two_level_form():
    domain = Machine().seed_domain(0, 1)
    domain.seed_port(1, PortState.IPI, pending=True)
    domain.memory.write(domain.vcpus[0].selector_address, 1)

    assert columns(domain) == ["1/0/1"]
