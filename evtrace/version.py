"""The version of evtrace, which is also that of the package (pyproject.toml)."""

__version__ = "0.1.0"
