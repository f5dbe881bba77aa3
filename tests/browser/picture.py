"""Takes the README's picture: the page of a real capture, down to its timeline (`make picture`)."""

import tempfile
from pathlib import Path

from evtrace.commands.import_ import import_
from evtrace.commands.report import report
from tests.browser.chromium import browser
from tests.conftest import SOURCES

PICTURE = Path(__file__).parents[2] / "docs" / "img" / "report.png"
WIDTH = 1200
_END = "document.getElementById('timeline-now').getBoundingClientRect().bottom + scrollY + 8"


def main() -> None:
    """Import the capture of the demonstration on a Xen 4.17, write its page, take the picture."""
    source = SOURCES / "pv_fifo_blog"
    with tempfile.TemporaryDirectory() as folder, browser() as running:
        trace, page = Path(folder, "real.bin"), Path(folder, "real.html")
        import_(
            output=trace,
            xentrace=source / "xentrace.bin.zst",
            ftrace=[f"{dom}={source / f'dom{dom}.ftrace.txt.zst'}" for dom in (0, 1)],
            debug_keys=[str(source / "before.debugkeys.txt")],
            lsevtchn=[str(source / "before.lsevtchn.txt")],
            xen_version="4.17",
            timing="emulated-cpu",
        )
        report(str(trace), output=page)
        running.open(page, WIDTH)
        running.run("document.querySelector('#channels details').open = false")
        height = running.run(_END)
        PICTURE.parent.mkdir(exist_ok=True)
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": 1}
        running.screenshot(PICTURE, clip=clip)
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
