"""`evtrace report -o x.html`: the file, its tables without a browser, exit codes."""

from html.parser import HTMLParser

import pytest
from typer.testing import CliRunner

from evtrace.cli import app
from tests import page_builder

NOTABLE = "Runs, the self-explaining timers and IPIs left out"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


class Page(HTMLParser):
    """Reads a page: its tables, its ids, what its links name, what it would fetch."""

    def __init__(self, source):
        super().__init__()
        self.tables, self.ids, self.links, self.fetched, self.policy = [], [], [], [], ""
        self._cell = None
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"]] if tag == "a" else []
        self.fetched += [attributes[name] for name in ("src", "srcset") if name in attributes]
        self.fetched += [attributes["href"]] if tag == "link" else []
        if attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"]
        if tag == "table":
            self.tables.append({"caption": "", "scopes": [], "rows": []})
        elif tag == "tr":
            self.tables[-1]["rows"].append([])
        elif tag in {"td", "th", "caption"}:
            self._cell = ""
            self.tables[-1]["scopes"] += [attributes["scope"]] if tag == "th" else []

    def handle_endtag(self, tag):
        if tag == "caption":
            self.tables[-1]["caption"] = self._cell
        elif tag in {"td", "th"}:
            self.tables[-1]["rows"][-1].append(self._cell)
        if tag in {"td", "th", "caption"}:
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data


@pytest.fixture(scope="module")
def real(imported, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "x.html"
    done = run("report", imported("pv_fifo_blog"), "--port", "d0:33", "-o", path)
    assert done.exit_code == 0
    return done.output, Page(path.read_text(encoding="utf-8"))


def test_the_command_says_the_verdict(real):
    said, _ = real

    assert said.endswith(
        "x.html: 2 runs of d0:33; 1 was provoked by nobody: Xen's conservative event at bind.\n"
    )


def test_tables_are_tables(real):
    _, page = real
    runs = next(table for table in page.tables if table["caption"] == NOTABLE)

    assert {"col", "row"} == set(runs["scopes"])
    assert ["279750097572", "282132835851"] == [row[0] for row in runs["rows"][1:]]
    assert all(table["caption"] for table in page.tables)


def test_every_link_leads_to_a_place_on_the_page(real):
    _, page = real

    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_the_page_fetches_nothing_and_its_policy_forbids_it(real):
    _, page = real

    assert [] == page.fetched
    assert "default-src 'none'" in page.policy
    assert "unsafe-inline" not in page.policy.partition("style-src")[0]
    assert "unsafe-eval" not in page.policy


def test_a_long_table_shows_its_first_rows_and_says_how_to_get_the_others():
    source = page_builder.page_of(page_builder.busy_report(1000)).decode()
    page = Page(source)
    runs = next(table for table in page.tables if table["caption"] == NOTABLE)

    assert 201 == len(runs["rows"])
    assert "These are the first 200 of 1,000 rows." in source
    assert "evtrace report TRACE --table notable_runs --format csv" in source


def test_a_trace_without_frequency_or_runs_has_a_page(tmp_path, imported):
    stock = imported("pv_fifo_blog").with_name("stock.bin")
    run("convert", imported("pv_fifo_blog"), "--stock", "-o", stock, "--force")
    done = run("report", stock, "-o", tmp_path / "x.html")
    page = Page((tmp_path / "x.html").read_text(encoding="utf-8"))

    assert done.exit_code == 0
    assert "timeline-data" in page.ids
    assert page.tables


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("x.pdf", 2, "end its name with .html"),
        ("x", 2, "end its name with .html"),
        ("there.html", 73, "--force"),
        ("nowhere/x.html", 74, "cannot write"),
    ],
)
def test_errors_say_what_is_wrong_and_end_with_their_code(imported, tmp_path, name, code, says):
    (tmp_path / "there.html").write_text("mine")
    found = run("report", imported("pv_fifo_blog"), "-o", tmp_path / name)

    assert code == found.exit_code
    assert says in found.output
    assert "mine" == (tmp_path / "there.html").read_text()


@pytest.mark.parametrize(
    "options", [("--format", "json"), ("--as", "interleaving"), ("--table", "ports")]
)
def test_a_page_is_no_other_form_at_the_same_time(imported, tmp_path, options):
    found = run("report", imported("pv_fifo_blog"), "-o", tmp_path / "x.html", *options)

    assert found.exit_code == 2
    assert "a page holds the whole report" in found.output
    assert not list(tmp_path.iterdir())


def test_force_replaces(imported, tmp_path):
    path = tmp_path / "x.html"
    path.write_text("mine")
    done = run("report", imported("pv_fifo_blog"), "-o", path, "--force")

    assert done.exit_code == 0
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert not path.with_name("x.html.partial").exists()
