"""A report of a trace with damaged bytes ends with a report, or says what is wrong; never else."""

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evtrace.analysis.forms import machine, text
from evtrace.api import Trace
from evtrace.errors import EvtraceError
from tests.conftest import SOURCES

TRACES = SOURCES.parent
DAMAGE = st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 255)), min_size=1, max_size=12)


@pytest.mark.parametrize("name", ["emu-fifo-demo", "emu-2l-demo", "emu-fifo-peer-close"])
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(damage=DAMAGE)
def test_damaged_bytes_end_in_a_report_or_an_error_of_our_own(tmp_path, name, damage):
    with zstandard.open(TRACES / f"{name}.bin.zst") as packed:
        data = bytearray(packed.read())
    for at, value in damage:
        data[at % len(data)] = value
    path = tmp_path / "damaged.bin"
    path.write_bytes(data)

    try:
        with Trace(path) as trace:
            report = trace.report()
    except EvtraceError:
        return
    assert text.render(report)
    assert machine.as_json(report)
