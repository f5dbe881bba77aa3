"""Debian's Chromium, headless, driven by its DevTools protocol over a pipe."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
PATIENCE_S = 60
Answer = dict[str, Any]


def find_chromium() -> str | None:
    """Give the browser's path; None if none is installed."""
    return next((path for path in map(shutil.which, PROGRAMS) if path), None)


class Browser:
    """A browser with one tab; everything that the tab reports is kept in `events`."""

    def __init__(self, program: str, profile: str) -> None:
        """Start it; descriptors 3 and 4 are its ends of the pipe (dash knows none above 9)."""
        commands, self._to = os.pipe()
        self._from, answers = os.pipe()
        shell = f'exec "$0" "$@" 3<&{commands} 4>&{answers}'
        self._process = subprocess.Popen(
            [
                "/bin/bash",
                "-c",
                shell,
                program,
                *OPTIONS,
                f"--user-data-dir={profile}",
                "about:blank",
            ],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._number = 0
        self._read = b""
        self._session = ""
        self.events: list[Answer] = []

    def attach(self) -> None:
        """Take its tab."""
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "Performance"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self.call("Browser.close")
        for end in (self._to, self._from):
            os.close(end)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def call(self, method: str, **params: object) -> Answer:
        """Send a command and give its answer; events before it are kept."""
        self._number += 1
        message: Answer = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                return cast("Answer", answer["result"])
            self.events.append(answer)

    def _next(self) -> Answer:
        while b"\0" not in self._read:
            piece = os.read(self._from, 1 << 20)
            if not piece:
                message = "the browser has gone"
                raise RuntimeError(message)
            self._read += piece
        text, _, self._read = self._read.partition(b"\0")
        return cast("Answer", json.loads(text))

    def open(self, page: Path, width: int = 1280, *, height: int = 900, dark: bool = False) -> None:
        """Open a file in a window of some size, and wait for its timeline."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.events.clear()
        self.call("Page.navigate", url=page.absolute().as_uri())
        self.wait_for("document.readyState === 'complete' && timelineSettled()", _SETTLED)

    def wait_for(self, expression: str, before: str = "") -> None:
        """Wait until an expression is true in the page."""
        end = time.monotonic() + PATIENCE_S
        while self.run(f"{before}; {expression}") is not True:
            if time.monotonic() > end:
                message = f"the page never came to: {expression}"
                raise TimeoutError(message)
            time.sleep(0.02)

    def run(self, expression: str) -> Any:
        """Give the value of an expression in the page."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def problems(self) -> list[str]:
        """Give what the page complained about: errors on the console and uncaught exceptions."""
        found = []
        for event in self.events:
            params = event.get("params", {})
            match event.get("method"):
                case "Runtime.exceptionThrown":
                    found.append(str(params["exceptionDetails"]))
                case "Log.entryAdded" if params["entry"]["level"] in {"error", "warning"}:
                    found.append(params["entry"]["text"])
                case "Runtime.consoleAPICalled" if params["type"] in {"error", "warning"}:
                    found.append(str(params["args"]))
        return found

    def requests(self) -> list[str]:
        """Give the addresses that the page asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def screenshot(self, path: Path, *, whole: bool = False, clip: Answer | None = None) -> None:
        """Write a picture of the window, of the whole page, or of a part."""
        params: Answer = {"format": "png", "captureBeyondViewport": whole or clip is not None}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        if clip is not None:
            params["clip"] = clip
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **params)["data"]))

    def print_to(self, path: Path) -> None:
        """Print the page into a PDF."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF")["data"]))


_SETTLED = """
globalThis.timelineSettled = () =>
  document.documentElement.dataset.timeline !== undefined ||
  (document.getElementById("timeline-now") || {}).textContent !== ""
"""


@contextmanager
def browser() -> Iterator[Browser]:
    """Give a running browser with an empty profile."""
    program = find_chromium()
    assert program is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        running = Browser(program, profile)
        try:
            running.attach()
            yield running
        finally:
            running.close()
