"""Faults put into the stored traces: each is caught, and one of the capture blames the capture."""

from pathlib import Path

import pytest

from evtrace.tracer.emulator.faults import FAULTS, Place
from tests.emulator.caught import Again, caught, is_of_capture, table

DOC = Path(__file__).parents[2] / "docs" / "faults.md"
BLIND = ("emu-fifo-timer", "emu-fifo-closed-while-pending", "emu-2l-closed-while-pending")
"""Traces in which no pCPU's clock is seen against another one's."""


@pytest.mark.parametrize(
    ("fault", "trace", "check"),
    [
        ("lost-send", "emu-fifo-pingpong", "finding.LOST_SEND"),
        ("never-unmasks", "emu-2l-ipi", "cause.IPI"),
        ("unmask-without-reraise", "emu-2l-port-reuse", "min(bind→run) on all"),
        ("cut-file", "emu-fifo-poll", "damage"),
    ],
)
def test_a_fault_is_caught_by_its_check(fault, trace, check, tmp_path):
    found = Again(trace, tmp_path).with_fault(fault)

    assert found is not None
    assert check == found.telling


@pytest.mark.slow
def test_every_fault_of_hypervisor_and_guest_is_caught_as_the_table_says():
    found = list(caught(Place.HYPERVISOR, Place.GUEST))
    rows = DOC.read_text().partition("## Which check")[2].splitlines()

    assert [one for one in found if one.judged.passed] == []
    assert table(found) == [row for row in rows if row.startswith("| `")]
    faults = {name for name, fault in FAULTS.items() if fault.place is not Place.CAPTURE}
    assert faults == {one.fault for one in found}


@pytest.mark.slow
def test_a_fault_of_the_capture_fails_nothing_but_checks_of_the_capture():
    found = list(caught(Place.CAPTURE))

    assert {fault for fault, one in FAULTS.items() if one.place is Place.CAPTURE} == {
        one.fault for one in found
    }
    wrong = [(one, name) for one in found for name in one.failed if not is_of_capture(name)]
    assert wrong == []
    unseen = {(one.fault, one.trace) for one in found if one.judged.passed}
    assert {(fault, trace) for fault in ("tsc-skew", "tsc-drift") for trace in BLIND} == unseen
