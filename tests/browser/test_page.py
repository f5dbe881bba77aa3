"""The page in a real browser: it draws, it asks nobody, it obeys no trace, it fits a phone."""

import pytest

from evtrace.printable import printable
from tests import page_builder
from tests.hostile import EVERYTHING, FILE_NAME, TAGS

FIGURES = ("histogram", "percentiles", "causes")
TEXT = "document.getElementById('timeline-now').textContent"
FLAGGED = "BIND_CONSERVATIVE"
MIDDLE_OF_THE_FLAGGED_RUN = """(() => {
  const box = document.getElementById("timeline-view").getBoundingClientRect();
  return [box.left + 104 + (box.width - 104) * 0.3, box.top + 26 + 24];
})()"""


def mouse(running, kind, x, y, **more):
    running.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)


def run_of(page, cause):
    """Give the first run of a cause in the trace of a page."""
    runs = page_builder.report_of(page.with_suffix(".bin")).runs
    return runs.filter(cause=cause).row(0, named=True)


def press(running, key):
    text = {"text": key} if len(key) == 1 else {}
    running.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
    running.call("Input.dispatchKeyEvent", type="keyUp", key=key)


@pytest.mark.parametrize("name", ["demo", "storm", "hostile", "pv_fifo_blog", "pvh_blog"])
def test_a_page_draws_without_complaint_and_fetches_nothing(running, page_of, name):
    page = page_of(name)
    running.open(page)
    running.run("document.querySelector('.figure')?.scrollIntoView()")
    running.wait_for("performance.getEntriesByName('evtrace-figure-causes').length > 0")

    assert "In view: " in running.run(TEXT)
    assert 1 == running.run("performance.getEntriesByName('evtrace-timeline').length")
    assert [] == running.problems()
    assert [page.as_uri()] == running.requests()


def test_figures_are_drawn_once_they_come_near(running, page_of):
    running.open(page_of("pv_fifo_blog"), height=300)
    drawn = "performance.getEntriesByType('mark').map(mark => mark.name)"
    before = running.run(drawn)
    running.run("document.getElementById('over-time').scrollIntoView()")
    running.wait_for("performance.getEntriesByName('evtrace-figure-causes').length > 0")

    assert ["evtrace-timeline"] == before
    assert running.run("document.querySelectorAll('.figure svg.main-svg').length") >= len(FIGURES)


def test_another_stage_changes_the_figures(running, page_of):
    running.open(page_of("demo"))
    running.run("document.getElementById('distributions').scrollIntoView()")
    names = "document.querySelector('[data-figure=histogram] .legend')?.textContent ?? ''"
    running.wait_for(f"({names}).includes('d6:32')")
    running.run("""(() => {
        const stage = document.getElementById('stage');
        stage.value = 'bind→run';
        stage.dispatchEvent(new Event('change'));
    })()""")

    running.wait_for(f"({names}).includes('bind→d0:29')")


@pytest.mark.parametrize("width", [1280, 390])
def test_a_hostile_trace_is_inert(running, page_of, width):
    running.open(page_of("hostile"), width)
    running.run("document.querySelectorAll('input.filter').forEach(box => box.remove())")
    shown = running.run("document.body.innerText")

    assert "undefined" == running.run("typeof window.__hacked")
    assert running.run("document.title").startswith("evtrace: <img src=x onerror")
    assert 0 == running.run("document.querySelectorAll('img, svg[onload], iframe').length")
    assert 6 == running.run("document.scripts.length")
    assert FILE_NAME.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e") in shown
    assert TAGS in shown
    assert [] == running.problems()


def test_a_hostile_name_is_inert_where_the_mouse_finds_it(running, page_of):
    running.open(page_of("hostile"))
    running.run("document.getElementById('timeline-view').scrollIntoView({block: 'center'})")
    box = running.run(
        "(r => [r.left, r.top, r.width])(document.querySelector('#timeline-view')"
        ".getBoundingClientRect())"
    )
    tips = []
    for at_ns, y in [(700, 50), (700, 85), (850, 85), (1000, 85), (1150, 85), (1300, 85)]:
        x = box[0] + 104 + (box[2] - 104) * at_ns / 1800
        mouse(running, "mouseMoved", x, box[1] + y)
        tips.append(running.run("document.getElementById('timeline-tip').textContent"))

    assert tips[0].startswith(f"UNKNOWN: handler run of d0:33 {TAGS}")
    assert [printable(text) for text in EVERYTHING] == [tip.split("\n")[0] for tip in tips[1:]]
    assert "undefined" == running.run("typeof window.__hacked")


@pytest.mark.parametrize("name", ["demo", "hostile", "pv_fifo_blog"])
def test_a_phone_needs_no_sideways_scrolling(running, page_of, name):
    running.open(page_of(name), 390, height=844)

    assert 390 == running.run("document.documentElement.scrollWidth")


def test_dark_follows_the_system_and_the_button(running, page_of):
    ground = "getComputedStyle(document.body).backgroundColor"
    running.open(page_of("demo"), dark=True)
    dark = running.run(ground)
    running.run("document.getElementById('theme').click()")
    light = running.run(ground)
    running.open(page_of("demo"))

    assert ("rgb(18, 23, 28)", "rgb(255, 255, 255)") == (dark, light)
    assert light == running.run(ground)


def test_the_timeline_opens_at_the_run_that_nobody_provoked(running, page_of):
    running.open(page_of("demo"))
    x, y = running.run(MIDDLE_OF_THE_FLAGGED_RUN)
    mouse(running, "mouseMoved", x, y)
    tip = running.run("document.getElementById('timeline-tip').textContent")

    run = run_of(page_of("demo"), FLAGGED)

    assert "3 handler runs, 2 sends" in running.run(TEXT)
    assert tip.startswith("BIND_CONSERVATIVE: handler run of d0:29 alice_dev\nat ")
    assert "the peer sent nothing" in tip
    assert f"record {run['seq']}, TSC {run['tsc']}" in tip


def test_a_run_that_is_clicked_says_how_to_see_its_records(running, page_of):
    running.open(page_of("demo"))
    x, y = running.run(MIDDLE_OF_THE_FLAGGED_RUN)
    for kind in ("mousePressed", "mouseReleased"):
        mouse(running, kind, x, y, button="left", clickCount=1)

    seq = run_of(page_of("demo"), FLAGGED)["seq"]
    running.wait_for(f"{TEXT}.includes('evtrace dump TRACE --around {seq}')")


def test_keys_wheel_and_drag_move_the_timeline(running, page_of):
    running.open(page_of("pv_fifo_blog"))
    running.run("document.getElementById('timeline-view').focus()")
    press(running, "Home")
    running.wait_for(f"{TEXT}.includes('1,697 handler runs')")
    x, y = running.run(MIDDLE_OF_THE_FLAGGED_RUN)
    mouse(running, "mouseWheel", x, y, deltaX=0, deltaY=-600)
    running.wait_for(f"!{TEXT}.includes('1,697 handler runs')")
    closer = running.run(TEXT)
    mouse(running, "mousePressed", x, y, button="left", clickCount=1)
    mouse(running, "mouseMoved", x + 200, y, button="left", buttons=1)
    mouse(running, "mouseReleased", x + 200, y, button="left")
    running.wait_for(f"{TEXT} !== {closer!r}")
    press(running, "n")

    running.wait_for(f"{TEXT}.startsWith('BIND_CONSERVATIVE: handler run of d0:33')")


def test_a_time_in_a_table_is_shown_on_the_timeline(running, page_of):
    running.open(page_of("demo"))
    tsc = run_of(page_of("demo"), "SEND")["tsc"]
    running.run(f"document.querySelector('#notable_runs a[data-tsc=\"{tsc}\"]').click()")

    running.wait_for(f"{TEXT}.startsWith('SEND: handler run of d6:32')")


def test_a_table_can_be_filtered(running, page_of):
    running.open(page_of("pv_fifo_blog"))
    visible = "document.querySelectorAll('#latencies tbody tr:not([hidden])').length"
    before = running.run(visible)
    running.run("""(() => {
        const box = document.querySelector('#latencies input');
        box.value = 'bind';
        box.dispatchEvent(new Event('input'));
    })()""")

    assert before > 12
    assert 1 == running.run(visible)


def test_printing_takes_light_colours_and_every_figure(running, page_of, tmp_path):
    running.open(page_of("demo"), dark=True)
    running.print_to(tmp_path / "page.pdf")

    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    assert len(FIGURES) == running.run("document.querySelectorAll('.figure[data-drawn]').length")
    assert running.run("document.documentElement.dataset.theme ?? null") is None
    assert [] == running.problems()


def test_without_scripts_verdict_and_tables_can_be_read(running, page_of):
    running.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        running.call("Page.navigate", url=page_of("demo").as_uri())
        running.wait_for("document.readyState === 'complete'")
        shown = running.run("document.body.innerText")
    finally:
        running.call("Emulation.setScriptExecutionDisabled", value=False)

    assert "1 was provoked by nobody: d0:29, Xen's conservative event at bind." in shown
    assert "The timeline needs JavaScript" in shown
    assert "BIND_CONSERVATIVE" in shown


@pytest.mark.slow
def test_a_page_of_a_million_marks_is_small_and_has_few_elements(running, tmp_path):
    deliveries = 1_000_000 // page_builder.MARKS_PER_DELIVERY
    page = tmp_path / "million.html"
    page.write_bytes(page_builder.page_of(page_builder.busy_report(deliveries)))
    running.open(page)
    running.run("document.querySelector('[data-do=whole]').click()")
    running.wait_for(f"{TEXT}.includes('250,000 handler runs')")

    assert page.stat().st_size < 15_000_000
    assert running.run("document.querySelectorAll('*').length") < 10_000
    assert [] == running.problems()
