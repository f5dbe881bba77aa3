"""xentrace: Xen's own trace, written by Xen's own program beside the probes."""

import ctypes
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from evtrace.errors import CannotRecordError

MASK = 0x00AAF000
"""TRC_SCHED | TRC_HVM | TRC_PV | TRC_HW, xen/include/public/trace.h: what event channels need."""
BUFFER_PAGES = 256
"""Of each pCPU."""

_PR_SET_PDEATHSIG = 1
_PATIENCE_S = 20


class Xentrace:
    """A running xentrace."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        """Watch `process`, whose messages go to `log`."""
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """Give its process."""
        return self._process.pid

    def complaint(self) -> str | None:
        """Give what it said if it has ended by itself; None while it runs."""
        if self._process.poll() is None:
            return None
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"ended with {self._process.returncode}"

    def stop(self) -> None:
        """Let it write what it has, and end it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@contextmanager
def run_xentrace(program: Path, output: Path, pages: int) -> Iterator[Xentrace]:
    """Run it until the block ends; it ends by itself, cleanly, if this process is killed.

    Raises `CannotRecordError` if it does not start.
    """
    log = output.with_suffix(".log")
    command = [str(program), "-D", "-e", f"{MASK:#x}", "-S", str(pages), str(output)]
    try:
        with log.open("wb") as messages:
            process = subprocess.Popen(  # noqa: S603  Xen's program, found by name
                command,
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=messages,
                start_new_session=True,  # Ctrl-C is for the recorder alone
                preexec_fn=_end_with_parent(),  # noqa: PLW1509  one thread
            )
    except OSError as error:
        message = f"{program}: cannot run: {error.strerror or error}"
        raise CannotRecordError(message) from error
    running = Xentrace(process, log)
    try:
        yield running
    finally:
        running.stop()


def _end_with_parent() -> Callable[[], None]:
    """Give what asks the kernel to end a process when its parent does."""
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return ask
