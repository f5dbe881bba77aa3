"""evtrace tells why a Xen event-channel handler ran, or did not, and what it cost."""

__version__ = "0.1.0"
