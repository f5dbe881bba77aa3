"""The stored traces, made anew by the command that each NAME.toml names: `make traces`."""

import os
import shlex
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import zstandard

TRACES = Path(__file__).parent.parent / "traces"
LEVEL = 19


def recorded(name: str) -> str:
    """Give the command that made a stored trace."""
    return str(tomllib.loads((TRACES / f"{name}.toml").read_text())["recorded"])


def names() -> list[str]:
    """Name the stored traces; what is cut out of another one comes after it."""
    return sorted((p.stem for p in TRACES.glob("*.toml")), key=lambda n: (n.startswith("cut"), n))


def stored(name: str) -> bytes:
    """Give the bytes of a stored trace; none if there is none."""
    path = TRACES / f"{name}.bin.zst"
    return zstandard.decompress(path.read_bytes()) if path.exists() else b""


def make(name: str, output: Path, *more: str) -> bytes:
    """Run the command of a stored trace, with `more` options, into a file; give its bytes."""
    program, *arguments = shlex.split(recorded(name))
    assert program == "evtrace"
    command = [sys.executable, "-m", "evtrace", *arguments, *more, "-o", str(output)]
    path = {"PYTHONPATH": str(TRACES.parent)}
    subprocess.run(command, check=True, cwd=TRACES, env=os.environ | path, capture_output=True)
    return output.read_bytes()


def main() -> None:
    """Make all of them; those whose bytes are the same stay as they are."""
    with tempfile.TemporaryDirectory() as folder:
        for name in names():
            found = make(name, Path(folder) / f"{name}.bin")
            if found != stored(name):
                packed = zstandard.ZstdCompressor(LEVEL, write_content_size=True).compress(found)
                (TRACES / f"{name}.bin.zst").write_bytes(packed)
                print(f"{name}: {len(found):,} bytes, {len(packed):,} packed")


if __name__ == "__main__":
    main()
