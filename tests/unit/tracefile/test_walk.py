"""The walk, and construct as its judge."""

from array import array

from evtrace.tracefile.layouts import RECORD, WINDOW
from evtrace.tracefile.walk import KNOWN, LENGTHS, mend, walk
from tests.tinytrace import hypercall, record_ends, sample, wake


def walked(data):
    starts, odd = array("I"), list[int]()
    return walk(array("I", data), starts, odd, 0), list(starts), odd


def test_lengths_are_those_of_the_header_s_top_bits():
    assert [1, 2, 3, 4, 5, 6, 7, 8, 3, 4, 5, 6, 7, 8, 9, 10] == list(LENGTHS)


def test_known_classes_have_one_class_bit_and_a_sub_class():
    assert KNOWN[0x20100D >> 12] == KNOWN[0x0800FE10 >> 12] == 1
    assert [KNOWN[event >> 12] for event in (0x123, 0x3F001, 0x20001, 0x100F001)] == [0] * 4
    assert sum(KNOWN) == 9 * 15


def test_the_walk_finds_what_construct_finds():
    data, at, found = sample(), 0, []
    while at < len(data):
        parsed = WINDOW.parse(data[at:])
        sizes = [len(RECORD.build(record)) for record in parsed.records]
        begin = at + 12
        for size in sizes:
            found.append(begin)
            begin += size
        at = begin
    assert found == sorted(record_ends(data))
    window_bytes = data[12 : 12 + WINDOW.parse(data).start.window_size]
    stop, starts, odd = walked(window_bytes)
    assert (stop, odd) == (len(window_bytes) // 4, [])
    assert [12 + 4 * start for start in starts] == [
        at for at in found if at < 12 + len(window_bytes)
    ]


def test_a_record_that_is_cut_is_not_walked():
    assert walked((hypercall(1, 2) + wake(0, 1, 5))[:-4]) == (4, [0], [])
    assert walked(b"") == (0, [], [])


def test_mending_an_undamaged_window_changes_nothing():
    data = hypercall(1, 2) + wake(0, 1, 5) + hypercall(3, None)
    starts, odd, gaps = mend(array("I", data), 0)
    assert (list(starts), odd, gaps) == (walked(data)[1], [], [])


def test_mending_starts_where_it_is_told():
    data = array("I", hypercall(1, 2) + wake(0, 1, 5))
    starts, _, _ = mend(data, 4)
    assert list(starts) == [4]
