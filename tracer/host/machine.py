"""The machine: what it is, which programs it has; its files under a root that tests can choose."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evtrace.errors import CannotRecordError

_FOLDERS = ("usr/sbin", "usr/bin", "sbin", "bin", "usr/lib/xen/bin", "usr/libexec/xen/bin")
_VERSIONED = ("usr/lib/xen-*/bin", "usr/lib64/xen-*/bin")
_PATIENCE_S = 60
"""A tool that answers later is taken for stuck."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One running system."""

    root: Path = Path("/")
    is_root: bool = os.geteuid() == 0
    architecture: str = platform.machine()

    def text(self, path: str) -> str:
        """Give what a file holds, stripped; empty if it cannot be read."""
        try:
            return (self.root / path).read_text("utf-8", "replace").strip()
        except OSError:
            return ""

    @property
    def release(self) -> str:
        """Give the release of the kernel, as `uname -r` does."""
        return self.text("proc/sys/kernel/osrelease")

    @property
    def xen_version(self) -> tuple[int, int] | None:
        """Give Xen's version as the hypervisor tells it; None if this is no Xen guest."""
        if self.text("sys/hypervisor/type") != "xen":
            return None
        parts = [self.text(f"sys/hypervisor/version/{part}") for part in ("major", "minor")]
        return (int(parts[0]), int(parts[1])) if all(map(str.isdecimal, parts)) else None

    @property
    def is_xen(self) -> bool:
        """Whether Linux runs on Xen."""
        return self.text("sys/hypervisor/type") == "xen"

    @property
    def is_dom0(self) -> bool:
        """Whether it is the domain that controls Xen."""
        return "control_d" in self.text("proc/xen/capabilities")

    def program(self, name: str) -> Path | None:
        """Find a program, in Xen's own folders too."""
        path = shutil.which(name) if self.root == Path("/") else None
        if path is not None:
            return Path(path)
        folders = [self.root / folder for folder in _FOLDERS]
        folders += [found for pattern in _VERSIONED for found in sorted(self.root.glob(pattern))]
        return next((at / name for at in folders if os.access(at / name, os.X_OK)), None)

    def output(self, name: str, *arguments: str) -> str:
        """Run a program of this machine and give what it prints.

        Raises `CannotRecordError` if it is missing, fails or does not end.
        """
        path = self.program(name)
        if path is None:
            message = f"{name} is not installed"
            raise CannotRecordError(message)
        try:
            done = subprocess.run(  # noqa: S603  a program of Xen's, found by name
                [str(path), *arguments],
                capture_output=True,
                check=False,
                timeout=_PATIENCE_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            message = f"{name}: {error}"
            raise CannotRecordError(message) from error
        if done.returncode:
            why = done.stderr.decode(errors="replace").strip().splitlines()
            message = f"{name} {' '.join(arguments)}: {why[-1] if why else 'failed'}"
            raise CannotRecordError(message)
        return done.stdout.decode(errors="replace")

    def start_time(self, pid: int) -> str | None:
        """Give when a process was started, in the kernel's ticks; None if there is none."""
        stat = self.text(f"proc/{pid}/stat").rpartition(")")[2].split()
        return stat[19] if len(stat) > 19 else None

    def domains(self) -> Iterator[int]:
        """Give the domains that run, as xl lists them. Raises `CannotRecordError`."""
        for line in self.output("xl", "list").splitlines()[1:]:
            parts = line.split()
            if len(parts) >= 6 and parts[-5].isdecimal():
                yield int(parts[-5])
