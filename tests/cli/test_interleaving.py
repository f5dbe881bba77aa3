"""`evtrace report --as interleaving`: what it prints of recordings and captures."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evtrace.cli import app
from tests.conftest import SOURCES

PAGE = (Path(__file__).parents[2] / "docs" / "interleaving.md").read_text()
STOCK = SOURCES / "pv_fifo_blog_stock" / "xentrace.bin.zst"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def picture_of(trace, *arguments):
    result = run("report", trace, "--as", "interleaving", *arguments)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Record a scenario."""

    def make(scenario, *arguments):
        path = tmp_path_factory.mktemp(scenario) / "trace.bin"
        assert run("record", "-o", path, "--scenario", scenario, *arguments).exit_code == 0
        return path

    return make


def test_the_page_shows_what_is_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = re.search(
        r"<!-- example -->\n```\n\$ ([^\n]*)\n\$ ([^\n]*)\n(.*?)```", PAGE, re.DOTALL
    )
    assert example
    assert run(*example[1].split()[1:]).exit_code == 0
    assert example[3] == run(*example[2].split()[1:]).output


@pytest.mark.parametrize("name", ["migrate", "port-reuse", "ipi", "storm", "poll", "blkfront"])
def test_wherever_one_looks_it_fits_and_is_ascii(name, recorded):
    trace = recorded(name, "-T", "1")
    for seq in range(0, 2_000, 399):
        picture = picture_of(trace, "--around", f"{seq}:6")
        columns = len(set(re.findall(r"\bd\d+v\d+ \(", "".join(picture))))
        assert max(map(len, picture)) <= {1: 80, 2: 80, 3: 100, 4: 120}[columns]
        assert all(line.isascii() for line in picture)
        assert sum(line.startswith(">") for line in picture) == 1


def test_the_story_of_the_demonstration_on_a_real_host(imported):
    picture = picture_of(imported("pv_fifo_blog"), "--port", "d0:33")
    told = [
        "bind_interdomain(1:8)",
        "unmask(33)",
        "BIND_CONSERVATIVE",
        "send 33 {",
        "8 pending",
        "handler d1:8 <-(2)",
        "send 8 {",
        "handler d0:33 <-(3)",
        "close(33)",
    ]
    places = [next(at for at, line in enumerate(picture) if text in line) for text in told]

    assert places == sorted(places)
    assert max(map(len, picture)) <= 100


def test_a_guest_with_its_own_clock_has_uncertain_steps(imported):
    picture = picture_of(imported("pvh_blog"), "--around", "15612:10", "--dom", "0", "--dom", "1")

    assert any(re.match(r"[> ] *~[-+0]", line) for line in picture)
    assert any("d1's clock" in line for line in picture)


def test_a_stock_capture_shows_hypercalls_wakes_and_runstates():
    text = "\n".join(picture_of(STOCK, "--around", "3000:20", "--dom", "0"))

    for word in ("mmu_update", "woken", "runs on p1"):
        assert word in text


def test_it_is_text_only(imported):
    trace = imported("pv_fifo_blog")
    json = run("report", trace, "--around", "9", "--as", "interleaving", "--format", "json")

    assert json.exit_code == 2
    assert "--as interleaving is text" in json.output
