"""evtrace tells why a Xen event-channel handler ran, or did not, and what it cost."""

from typing import TYPE_CHECKING

from evtrace.version import __version__

if TYPE_CHECKING:
    from evtrace.api import Trace, record

__all__ = ["Trace", "__version__", "record"]


def __getattr__(name: str) -> object:
    """Load the Python API when it is first used: `import evtrace` costs nothing."""
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from evtrace import api  # noqa: PLC0415  loads polars

    return getattr(api, name)


def __dir__() -> list[str]:
    """List what is offered."""
    return __all__
