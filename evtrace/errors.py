"""What can go wrong, each with the exit code the command ends with (listed in the README).

Library code raises these where the fact is known; it neither prints nor exits.
"""

from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """Exit codes of the `evtrace` command; 65 and up follow BSD's sysexits.h."""

    OK = 0
    FINDING = 1
    USAGE = 2
    NOT_A_TRACE = 65
    NO_INPUT = 66
    CANNOT_RECORD = 69
    OUTPUT_EXISTS = 73
    CANNOT_WRITE = 74
    INTERRUPTED = 130


class EvtraceError(Exception):
    """Base of everything evtrace raises on purpose; `exit_code` is what the command returns."""

    exit_code = ExitCode.FINDING


class UsageError(EvtraceError):
    """An option or argument that cannot be meant as it stands."""

    exit_code = ExitCode.USAGE


class NotATraceError(EvtraceError):
    """Nothing in the file could be read as what it should be."""

    exit_code = ExitCode.NOT_A_TRACE

    def __init__(self, path: Path | str, offset: int, expected: str, found: str, hint: str) -> None:
        """Say which `path`, the byte `offset`, what was expected and found, and what to do."""
        super().__init__(
            f"{path}: byte {offset}: expected {expected}, found {found}; {hint}",
        )


class NoInputError(EvtraceError):
    """An input file that is not there or may not be read."""

    exit_code = ExitCode.NO_INPUT


class CannotRecordError(EvtraceError):
    """The host lacks a privilege, a device or a program that recording needs."""

    exit_code = ExitCode.CANNOT_RECORD


class OutputExistsError(EvtraceError):
    """The output is there already and `--force` was not given."""

    exit_code = ExitCode.OUTPUT_EXISTS

    def __init__(self, path: Path | str) -> None:
        """Name the `path` that would have been overwritten."""
        super().__init__(f"{path}: exists already, not overwritten; give --force to replace it")


class CannotWriteError(EvtraceError):
    """The output cannot be written (no space, no permission, a broken device)."""

    exit_code = ExitCode.CANNOT_WRITE
