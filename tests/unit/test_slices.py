"""Slices are laid out so that each ends before the one that it lies in."""

from hypothesis import given
from hypothesis import strategies as st

from evtrace.analysis.perfetto.slices import HELD_SLICES, Point, Slice, Track


class Book:
    """Notes what is drawn."""

    def __init__(self):
        self.lines: list[tuple[str, int, int, str]] = []

    def begin(self, lane, tsc, slice_):
        self.lines.append(("begin", lane, tsc, slice_.name))

    def end(self, lane, tsc):
        self.lines.append(("end", lane, tsc, ""))

    def point(self, tsc, point):
        self.lines.append(("point", 0, tsc, point.name))

    def lanes(self):
        """Check that every lane is balanced and its times rise; give (lane, name, from, to)."""
        spans = []
        for lane in {line[1] for line in self.lines}:
            held, last = [], 0
            for what, _, tsc, name in (line for line in self.lines if line[1] == lane):
                assert tsc >= last
                last = tsc
                if what == "begin":
                    held.append((lane, name, tsc))
                elif what == "end":
                    spans.append((*held.pop(), tsc))
            assert not held
        return sorted(spans)


def drawn(*steps):
    book = Book()
    track = Track(book)
    for key, begin, end in steps:
        if end is None:
            track.begin(key, Slice(begin, key, "test"))
        else:
            track.end(key, end)
    track.finish()
    return book


def test_nested_slices_share_a_lane():
    book = drawn(("a", 1, None), ("b", 2, None), ("b", 0, 3), ("a", 0, 4))
    assert book.lanes() == [(0, "a", 1, 4), (0, "b", 2, 3)]


def test_crossing_slices_do_not():
    book = drawn(("a", 1, None), ("b", 2, None), ("a", 0, 3), ("b", 0, 4))
    assert book.lanes() == [(0, "a", 1, 3), (1, "b", 2, 4)]


def test_slices_that_touch_do():
    book = drawn(("a", 1, None), ("a", 0, 3), ("b", 3, None), ("b", 0, 4))
    assert book.lanes() == [(0, "a", 1, 3), (0, "b", 3, 4)]


def test_a_key_that_begins_again_ends_the_one_before():
    book = drawn(("a", 1, None), ("a", 5, None), ("a", 0, 7))
    assert book.lanes() == [(0, "a", 1, 5), (0, "a", 5, 7)]


def test_a_point_lies_where_it_was():
    book = Book()
    track = Track(book)
    track.begin("a", Slice(1, "a", "test"))
    track.point(Point(2, "p", {}))
    track.end("a", 3)
    assert [line[0] for line in book.lines] == ["begin", "point", "end"]


def test_a_slice_that_never_ends_holds_no_more_than_so_many():
    book = Book()
    track = Track(book)
    track.begin("never", Slice(0, "never", "test"))
    for tsc in range(1, 3 * HELD_SLICES, 2):
        track.begin("a", Slice(tsc, "a", "test"))
        track.end("a", tsc + 1)
    assert len(book.lines) > 2 * HELD_SLICES
    track.finish()
    assert len(book.lanes()) == 1 + 3 * HELD_SLICES // 2


STEPS = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(-3, 9)), max_size=60)


@given(STEPS)
def test_whatever_comes_every_lane_is_balanced(steps):
    book, now, opened = Book(), 100, set[str]()
    track, begun = Track(book), 0
    for key, step in steps:
        now += step
        if key in opened:
            opened.remove(key)
            track.end(key, now)
        else:
            opened.add(key)
            begun += 1
            track.begin(key, Slice(now, key, "test"))
    track.finish()

    assert len(book.lanes()) == begun
