"""evtrace: why did this Xen event-channel handler run, or not run, and what did it cost?"""

__version__ = "0.1.0"
