"""A damaged capture is analysed all the same."""

import random

import pytest

from evtrace.analysis.stock.analyse import analyse_stock
from evtrace.errors import NotATraceError
from evtrace.tracefile.reader import open_trace
from evtrace.tracefile.rows import annotated
from tests.tinytrace import sample


@pytest.mark.parametrize("seed", range(40))
def test_bytes_that_lie_stop_nothing(tmp_path, seed):
    chance = random.Random(seed)  # noqa: S311  no secret
    data = bytearray(sample() * 3)
    for _ in range(chance.choice((1, 5, 40))):
        data[chance.randrange(12, len(data))] = chance.randrange(256)
    path = tmp_path / "damaged.bin"
    path.write_bytes(data)

    try:
        with open_trace(path) as reader:
            made = analyse_stock(annotated(reader), reader.survey, reader.facts.tsc_hz)
    except NotATraceError:
        return
    assert made.verdict
    for table in made.tables:
        assert table.frame.height == len(list(table.whole().cells()))
