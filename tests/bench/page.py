"""How fast a page of a million marks opens in Chromium, and how big it is (`make bench`).

Times are the medians of several rounds: of the `load` event and of the first drawing of the
timeline, from the start of the navigation, in a window of 1280 x 900.
"""

import statistics
import tempfile
import time
from pathlib import Path

from tests.browser.chromium import browser, find_chromium
from tests.page_builder import MARKS_PER_DELIVERY, busy_report, page_of

MARKS = 1_000_000
ROUNDS = 5

_LOADED = "performance.getEntriesByType('navigation')[0].loadEventStart"
_DRAWN = "performance.getEntriesByName('evtrace-timeline')[0].startTime"
_REDRAWN = """(async () => {
  const next = () => new Promise(requestAnimationFrame);
  document.querySelector("[data-do=whole]").click();
  const start = performance.now();
  for (let i = 0; i < 10; i++) {
    document.querySelector("[data-do=in]").click();
    await next();
    document.querySelector("[data-do=out]").click();
    await next();
  }
  return (performance.now() - start) / 20;
})()"""


def main() -> None:
    """Measure and print."""
    if find_chromium() is None:
        print("page          no Chromium here")
        return
    start = time.perf_counter()
    data = page_of(busy_report(MARKS // MARKS_PER_DELIVERY))
    written = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder, browser() as running:
        page = Path(folder, "million.html")
        page.write_bytes(data)
        rounds = []
        for _ in range(ROUNDS):
            running.open(page)
            rounds.append((running.run(_LOADED), running.run(_DRAWN), running.run(_REDRAWN)))
    loaded, drawn, redrawn = (statistics.median(values) for values in zip(*rounds, strict=True))
    print(f"page          {MARKS:,} marks: {len(data) / 1e6:.1f} MB, written in {written:.1f} s,")
    print(f"              load event after {loaded / 1e3:.2f} s, timeline drawn after", end="")
    print(f" {drawn / 1e3:.2f} s, drawn again in {redrawn:.0f} ms")


if __name__ == "__main__":
    main()
