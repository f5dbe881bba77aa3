"""HTML that is made: nothing in it is markup that was not meant to be."""

import json
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evtrace.analysis.page.markup import Html, data_block, element, script, script_hash, void
from tests.hostile import EVERYTHING


class Read(HTMLParser):
    """Reads markup back: tags with their attributes, and the text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_an_element_with_attributes():
    made = element("a", "x", Html("<b>y</b>"), href="#t", class_="c", aria_label="l", hidden=True)

    assert '<a href="#t" class="c" aria-label="l" hidden>x<b>y</b></a>' == made
    assert "<input>" == void("input", hidden=False)


@given(st.text(), st.text())
def test_any_text_stays_text(text, value):
    read = Read(element("p", text, title=value))

    assert [tag for tag, _ in read.tags] == ["p"]
    assert all(line.isprintable() for line in read.text.split("\n"))


@pytest.mark.parametrize("text", EVERYTHING)
def test_hostile_text_makes_no_element_and_no_attribute(text):
    read = Read(element("p", text, title=text))

    assert [("p", ["title"])] == [(tag, list(attributes)) for tag, attributes in read.tags]


@given(st.recursive(st.text() | st.integers(), st.lists))
def test_data_comes_back_and_cannot_end_its_element(content):
    block = data_block("x", content)
    inside = block.removeprefix('<script type="application/json" id="x">')
    inside = inside.removesuffix("</script>")

    assert content == json.loads(inside)
    assert not set(inside) & set("<>&\u2028\u2029")


@pytest.mark.parametrize("source", ["a </script> b", "a </SCRIPT > b", "<!-- a"])
def test_a_script_that_would_end_itself_is_refused(source):
    with pytest.raises(ValueError, match="end its own element"):
        script(source)


def test_the_hash_of_a_script_is_as_policies_want_it():
    expected = "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"

    assert expected == script_hash("alert('Hello, world.');")
