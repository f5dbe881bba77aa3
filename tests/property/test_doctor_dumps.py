"""The doctor on real dumps with a fault put in anywhere, as a console garbles and cuts them."""

import re
from dataclasses import dataclass, replace
from functools import cache

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from evtrace.errors import NotATraceError, UsageError
from evtrace.replay.doctor.examination import examine
from evtrace.tracer.importers.recognition import read_snapshots
from evtrace.verdicts import Severity
from tests.conftest import SOURCES

DUMPS = sorted(path.parent.name for path in SOURCES.glob("*/before.debugkeys.txt"))
HEADER = re.compile(r"\(XEN\) Event channel information for domain (\d+):")
PORT = re.compile(
    r"\(XEN\) +(?P<port>\d+) \[(?P<bits>./.)/(?P<link>.+?)\]: s=(?P<state>\d) n=(?P<vcpu>\d+) x=0"
    r"(?P<rest>.*)"
)
PREFIXES = (
    "(XEN) ",
    "(XEN) [2022-03-03 10:11:12.345] ",
    "Mar  3 10:11:12 host xen: (XEN) [  12.34] ",
    "[2022-03-03 10:11:12] (XEN) ",
    "> ",
    "",
)
FOREIGN = (
    "[    3.141592] xenbus: probing device/vif/0 1 2 [0/1]",
    "(XEN) d1v0 Unhandled: vec 14, #PF[0002]",
    "systemd[1]: Started Session 3 of user root.",
    "(d1) Mini-OS: port 3 = 1, irq 33 [ok]",
    "",
)
VIRQS_NOBODY_NEED_HEAR = {" v=1", " v=7", " v=12", " v=13"}
NOBODY = 77
"""A domain that no dump has."""


@dataclass(frozen=True, repr=False)
class Line:
    """A line of a dump; `port` is None for those that are no port's."""

    dom: int
    text: str = ""
    port: int | None = None
    bits: str = ""
    link: str = ""
    state: int = 0
    vcpu: int = 0
    rest: str = ""

    @property
    def where(self):
        return f"d{self.dom}:{self.port}"

    @property
    def is_fifo(self):
        return len(self.link) > 1

    @property
    def far(self):
        match = re.fullmatch(r" d=(\d+) p=(\d+)", self.rest)
        return match and (int(match[1]), int(match[2]))

    def __repr__(self):
        return str(self)

    def __str__(self):
        if self.port is None:
            return self.text
        bits = f"{self.port:8} [{self.bits}/{self.link}]"
        return f"(XEN) {bits}: s={self.state} n={self.vcpu} x=0{self.rest}"


@cache
def dump(name):
    """Give the lines of a real dump."""
    lines, dom = [], -1
    for text in (SOURCES / name / "before.debugkeys.txt").read_text().splitlines():
        if header := HEADER.fullmatch(text):
            dom = int(header[1])
        port = PORT.fullmatch(text)
        if port is None:
            lines.append(Line(dom, text))
            continue
        number, state, vcpu = (int(port[key]) for key in ("port", "state", "vcpu"))
        rest = port["rest"].rstrip()
        lines.append(Line(dom, "", number, port["bits"], port["link"], state, vcpu, rest))
    return tuple(lines)


# --- faults: each gives a line and what to put in its place, or None where it is of no use --------


def bits_of(line, bits, fifo_link, other_link):
    return replace(line, bits=bits, link=fifo_link if line.is_fifo else other_link)


def unlinked(line, _):
    return (line, bits_of(line, "1/0", "  -   ", "0")) if line.bits == "0/0" else None


def held_masked(line, _):
    heard = line.state in {3, 4, 5} and line.rest not in VIRQS_NOBODY_NEED_HEAR
    return (line, replace(line, bits="1/1")) if heard else None


def second_kick(line, lines):
    kicks = [o for o in lines if o.state == 6 and o.bits[2] == "1"]
    has_kick = any((o.dom, o.vcpu) == (line.dom, line.vcpu) for o in kicks)
    if line.state == 6 and line.bits == "0/0" and has_kick:
        return line, replace(line, bits="1/1")
    return None


def no_word(line, _):
    return (line, replace(line, bits="0/1", link="?     ")) if line.is_fifo else None


def kicked_poller(line, lines):
    heads = [o for o in lines if o.dom == line.dom and "Polling" in o.text]
    if line.state == 6 and line.bits == "1/1":
        return heads[0], replace(heads[0], text=f"(XEN) Polling vCPUs: {{{line.vcpu}}}")
    return None


def not_taken(line, _):
    return (line, bits_of(line, "1/0", "  7   ", "1")) if line.bits == "0/0" else None


def waits_for_nobody(line, _):
    return (line, replace(line, state=2, rest=f" d={NOBODY}")) if line.state == 3 else None


def domain_gone(line, _):
    return (line, replace(line, rest=f" d={NOBODY} p=1")) if line.state == 3 else None


def far_end(line, lines):
    return next((o for o in lines if (o.dom, o.port) == line.far), None)


def port_closed(line, lines):
    far = far_end(line, lines)
    return (far, None) if far else None


def unconnected(line, lines):
    far = far_end(line, lines)
    return (far, replace(far, state=6, rest="")) if far else None


def elsewhere(line, lines):
    far = far_end(line, lines)
    return (far, replace(far, rest=f" d={line.dom} p=4000")) if far else None


def peer_closed(line, _):
    if line.state != 3:
        return None
    return line, replace(line, state=2, bits="1/1", rest=f" d={line.far[0]}")


OF_BITS = {
    unlinked: ("UNLINKED", "UNSELECTED"),
    held_masked: ("HELD_MASKED",),
    second_kick: ("MASKED_IPIS",),
    no_word: ("NO_EVENT_WORD",),
    kicked_poller: ("KICKED_POLLER",),
}
HALF_OPEN = {
    waits_for_nobody: ("WAITS_FOR_NOBODY",),
    domain_gone: ("PEER_DOMAIN_GONE",),
    port_closed: ("PEER_PORT_CLOSED",),
    unconnected: ("PEER_UNCONNECTED",),
    elsewhere: ("PEER_ELSEWHERE",),
    peer_closed: ("PEER_CLOSED",),
}
ALWAYS_WARNINGS = {"NO_EVENT_WORD", "PEER_CLOSED"}


@dataclass(frozen=True)
class Spoilt:
    """A dump with one fault in it."""

    lines: tuple[Line, ...]
    where: str
    codes: tuple[str, ...]
    touched: frozenset[str]
    """Ports that may be found with it: both ends, and the other kick."""
    changed: Line | None


@st.composite
def spoilt(draw, faults):
    lines = dump(draw(st.sampled_from(DUMPS)))
    fault = draw(st.sampled_from(sorted(faults, key=lambda one: one.__name__)))
    able = [line for line in lines if line.port is not None and fault(line, lines)]
    assume(able)
    line = draw(st.sampled_from(able))
    old, new = fault(line, lines)
    changed = tuple(new if one is old else one for one in lines if one is not old or new)
    far = far_end(line, lines)
    touched = {line.where, *([far.where] if far else [])}
    if fault is second_kick:
        touched |= {o.where for o in lines if (o.dom, o.vcpu, o.state) == (line.dom, line.vcpu, 6)}
    where = f"d{line.dom}v{line.vcpu}" if fault is kicked_poller else line.where
    return Spoilt(changed, where, faults[fault], frozenset({*touched, where}), new)


@st.composite
def consoles(draw):
    """Give a function that shows lines as a console does: prefixed, others' lines in between."""
    prefix, ending = draw(st.sampled_from(PREFIXES)), draw(st.sampled_from(["\n", "\r\n"]))
    between = draw(st.lists(st.tuples(st.integers(0, 200), st.sampled_from(FOREIGN)), max_size=8))

    def show(lines):
        shown = [str(line).replace("(XEN) ", prefix) for line in lines]
        for at, text in between:
            shown.insert(at % (len(shown) + 1), text)
        return "".join(line + ending for line in shown)

    return show


def troubles(text):
    """Give (where, code) -> severity of what is worth a look; a text of nothing has none."""
    try:
        found = examine(read_snapshots("dump", text, None)).findings
    except (NotATraceError, UsageError):
        return {}
    return {(one.where, one.code.name): one.severity for one in found if one.is_trouble}


def expected_in(found, one):
    return any((one.where, code) in found for code in one.codes)


@given(spoilt(OF_BITS | HALF_OPEN), consoles())
def test_a_fault_anywhere_is_found_and_nothing_else(one, console):
    found = troubles(console(one.lines))

    assert expected_in(found, one)
    assert {where for where, _ in found} <= one.touched


@given(spoilt(OF_BITS | HALF_OPEN | {not_taken: ("NOT_TAKEN",)}), consoles(), consoles())
def test_what_two_dumps_show_alike_is_worse(one, console, again):
    found = troubles(console(one.lines) + again(one.lines))

    (code,) = (code for code in one.codes if (one.where, code) in found)
    is_error = code not in ALWAYS_WARNINGS | {"NOT_TAKEN"}
    assert (Severity.ERROR if is_error else Severity.WARNING) is found[one.where, code]
    assert {where for where, _ in found} <= one.touched


@given(st.sampled_from(DUMPS), consoles(), st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_healthy_dump_cut_anywhere_has_no_trouble(name, console, start, end):
    text = console(dump(name))
    start, end = sorted((start % len(text), end % len(text)))
    shown = text[start:end]
    assume(re.search(r"information for domain \d+:", shown))

    assert troubles(shown) == {}


@given(spoilt(OF_BITS), consoles(), st.data())
def test_a_stuck_port_is_found_if_its_line_and_its_header_are_left(one, console, data):
    own = next(i for i, line in enumerate(one.lines) if line is one.changed)
    head = max(i for i, line in enumerate(one.lines[:own]) if HEADER.fullmatch(line.text))
    needed = own
    if one.codes[0] in {"MASKED_IPIS", "KICKED_POLLER"}:  # two lines make it
        dom = one.lines[own].dom
        needed = max(i for i, line in enumerate(one.lines) if line.dom == dom and line.port)
    start = data.draw(st.integers(0, head))
    end = data.draw(st.integers(needed + 1, len(one.lines)))

    found = troubles(console(one.lines[start:end]))

    assert expected_in(found, one)
    assert {where for where, _ in found} <= one.touched


@given(spoilt(HALF_OPEN), consoles(), st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_half_open_port_in_a_cut_dump_is_told_or_left_open(one, console, start, end):
    text = console(one.lines)
    start, end = sorted((start % len(text), end % len(text)))
    shown = text[start:end]
    assume(re.search(r"information for domain \d+:", shown))

    assert {where for where, _ in troubles(shown)} <= one.touched


@given(st.sampled_from(DUMPS), st.data())
def test_a_line_that_another_breaks_into_makes_no_trouble(name, data):
    lines = [str(line) for line in dump(name)]
    broken = data.draw(st.integers(1, len(lines) - 1))
    at = data.draw(st.integers(0, len(lines[broken])))
    foreign = data.draw(st.sampled_from(FOREIGN))
    text = lines[broken]
    lines[broken] = f"{text[:at]}{foreign}\n{text[at:]}"

    assert troubles("\n".join(lines) + "\n") == {}


@pytest.mark.parametrize("name", DUMPS)
def test_a_dump_is_shown_as_it_was_read(name):
    stored = (SOURCES / name / "before.debugkeys.txt").read_text().splitlines()

    assert [str(line) for line in dump(name)] == [line.rstrip() for line in stored]
    assert sum(line.port is not None for line in dump(name)) > 20
