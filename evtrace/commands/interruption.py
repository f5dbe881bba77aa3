"""Interruption: signals end what a command does, and what there is by then is kept."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible(stop: Callable[[], None]) -> Iterator[None]:
    """Let Ctrl-C call `stop`; a second one ends evtrace."""

    def hear(*_: object) -> None:
        stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def held_signals() -> Iterator[threading.Event]:
    """Let Ctrl-C, SIGTERM and SIGHUP set the event, and end nothing by themselves."""
    heard = threading.Event()
    before = {kind: signal.signal(kind, lambda *_: heard.set()) for kind in _ENDING_SIGNALS}
    try:
        yield heard
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
