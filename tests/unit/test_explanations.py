"""The pages of `evtrace explain`: one for each name, and what they refer to is there."""

import tomllib
from importlib.resources import files

import pytest

from evtrace.errors import UsageError
from evtrace.replay.explanations import MEMBERS, VerdictSet, all_pages, find_pages
from evtrace.timeline import RecordClass
from evtrace.verdicts import FindingCode

PAGES = all_pages()
SOURCES = {"debug key e", "debug key q", "lsevtchn", "xen-event-list"}
NEEDS_NOTHING = {"UNKNOWN", "RECORDS_LOST"}
"""What is said because something is missing."""


def test_every_member_has_a_page_and_there_is_no_other():
    written = {
        entry.name: list(tomllib.loads(entry.read_text()))
        for entry in (files("evtrace.replay") / "pages").iterdir()
        if entry.name.endswith(".toml")
    }
    members = sorted(list(MEMBERS[which].__members__) for which in VerdictSet)

    assert members == sorted(written.values())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.belongs_to.name}-{page.name}")
def test_a_page_says_everything(page):
    known = {name for cls in MEMBERS.values() for name in cls.__members__}
    allowed = SOURCES if page.belongs_to is VerdictSet.DOCTOR else set(RecordClass.__members__)

    assert all((page.meaning, page.mechanism, page.rule, page.next_step))
    assert page.meaning.isascii()
    assert set(page.see_also) - {page.name} == set(page.see_also)
    assert set(page.see_also) - known == set()
    assert {need if need in SOURCES else need.upper() for need in page.needs} - allowed == set()
    assert bool(page.needs) == (page.name not in NEEDS_NOTHING)


@pytest.mark.parametrize("name", ["DOUBLE_HANDLE", "double_handle", "double-handle"])
def test_a_name_is_found_in_every_set_and_any_case(name):
    found = find_pages(name)

    assert [VerdictSet.CAUSE, VerdictSet.FINDING] == [page.belongs_to for page in found]


def test_a_finding_is_found_by_its_number():
    assert [("LOST_SEND", "error")] == [(one.name, one.severity) for one in find_pages("evt202")]
    assert {code.value for code in FindingCode} < {page.code for page in PAGES}


@pytest.mark.parametrize(
    ("name", "says"), [("LOST_SENT", "did you mean LOST_SEND"), ("xyz", "explain --list")]
)
def test_an_unknown_name_is_refused_with_what_is_near(name, says):
    with pytest.raises(UsageError, match=says):
        find_pages(name)
