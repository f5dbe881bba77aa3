"""Texts: the lines of an input file, as it is, decompressed, or printed by trace-cmd."""

import io
import shutil
import subprocess
from pathlib import Path
from typing import IO, BinaryIO

from evtrace.errors import CannotRecordError, NoInputError, NotATraceError

_TRACE_DAT = b"\x17\x08\x44tracing"
"""First bytes of trace-cmd's binary file."""


def open_text(path: Path) -> IO[str]:
    """Open a text, decompressed if its name ends in .zst; bytes that are no UTF-8 are replaced.

    A binary file of trace-cmd is given as the text that trace-cmd prints of it. Raises
    `NoInputError` if there is no such file, `NotATraceError` if it does not decompress,
    `CannotRecordError` if trace-cmd is needed and not installed.
    """
    try:
        with path.open("rb") as file:
            content = _decompressed(path, file) if path.suffix == ".zst" else file.read()
    except OSError as error:
        message = f"{path}: cannot read: {error.strerror or error}"
        raise NoInputError(message) from error
    if content.startswith(_TRACE_DAT):
        content = _reported(path)
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors="replace")


def _decompressed(path: Path, file: BinaryIO) -> bytes:
    import zstandard  # noqa: PLC0415  only for .zst

    try:
        with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as reader:
            return bytes(reader.read())
    except zstandard.ZstdError as error:
        hint = "check that the file was copied whole"
        raise NotATraceError(path, 0, "zstandard frames", str(error), hint) from error


def _reported(path: Path) -> bytes:
    """Let trace-cmd print its binary file: raw TSCs, and callers beside functions."""
    program = shutil.which("trace-cmd")
    if program is None:
        message = f"{path}: is a binary file of trace-cmd, which is not installed here"
        raise CannotRecordError(message)
    done = subprocess.run(  # noqa: S603  the path of a program that was looked up
        [program, "report", "-t", "--nodate", "-O", "parent", "-i", str(path)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().splitlines()
        message = f"{path}: trace-cmd cannot read it: {why[-1] if why else 'no reason given'}"
        raise NoInputError(message)
    return done.stdout
