"""A machine for Xen: QEMU with four disks and two serial lines, watched until it powers off."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.image import Images

CONSOLE_LINES_SHOWN = 40
POLL_S = 0.2


class BootFailed(Exception):  # noqa: N818 - what happened
    """The machine came to no orderly end; with the last lines of its console."""

    def __init__(self, why: str, console: Path) -> None:
        lines = _text(console).splitlines()[-CONSOLE_LINES_SHOWN:]
        super().__init__("\n".join([why, *lines]))


@dataclass(frozen=True, slots=True)
class Size:
    """What the machine has. Memory in MB, time in seconds."""

    cpus: int = 3
    memory_mb: int = 3584
    dom0_cpus: int = 2
    dom0_memory_mb: int = 2048
    seconds: int = 600
    threads: str = "single"
    """Of the emulation: one for all CPUs, or `multi`, which PVH domUs need (README.md)."""


def run(
    images: Images, lab: Path, out: Path, folder: Path, size: Size, xen: str = "", linux: str = ""
) -> float:
    """Boot; the seconds to power-off. Logs go to `folder`, what the experiment prints to stderr.

    Raises:
        BootFailed: with the last lines of the console.
    """
    console, window = folder / "console.log", folder / "window.log"
    started = time.monotonic()
    command = _command(images, lab, out, (console, window), size, xen, linux)
    with _started(command, folder / "qemu.log") as machine:
        shown = 0
        while machine.poll() is None:
            time.sleep(POLL_S)
            shown = _show(window, shown)
            if time.monotonic() - started > size.seconds:
                why = f"no end after {size.seconds} s"
                raise BootFailed(why, console)
    _show(window, shown)
    if "LAB: done" not in _text(console):
        why = f"QEMU ended early. {_text(folder / 'qemu.log')}"
        raise BootFailed(why, console)
    return time.monotonic() - started


def accelerator() -> str:
    """`kvm` where this machine has real virtualisation hardware, else `tcg`."""
    forced = os.environ.get("EVTRACE_LAB_ACCEL")
    if forced:
        return forced
    flags = set(_text(Path("/proc/cpuinfo")).split())
    real = os.access("/dev/kvm", os.W_OK) and bool(flags & {"vmx", "svm"})
    return "kvm" if real else "tcg"


def _command(
    images: Images,
    lab: Path,
    out: Path,
    logs: tuple[Path, Path],
    size: Size,
    xen: str,
    linux: str,
) -> list[str]:
    # With SMAP, QEMU 7 reads the stack of an IRETQ in ring 3 as a supervisor, and a PV kernel dies.
    engine = {"tcg": ["-accel", f"tcg,thread={size.threads}", "-cpu", "max,-smap"]}
    disks = ((images.root, "snapshot=on"), (images.packages, "readonly=on"), (lab, "readonly=on"))
    command = ["qemu-system-x86_64", *engine.get(accelerator(), ["-accel", "kvm", "-cpu", "host"])]
    command += ["-smp", str(size.cpus), "-m", f"{size.memory_mb}M"]
    command += ["-nodefaults", "-display", "none", "-no-reboot", "-nic", "none"]
    for log in logs:
        command += ["-serial", f"file:{log}"]
    for disk, mode in (*disks, (out, "cache=unsafe")):
        command += ["-drive", f"file={disk},format=raw,if=virtio,{mode}"]
    # With a lazy FPU programs were seen to compute with others' AVX registers: QEMU 7 has them new.
    memory = f"spec-ctrl=eager-fpu dom0_mem={size.dom0_memory_mb}M,max:{size.dom0_memory_mb}M"
    xen_line = (
        f"console=com1 com1=115200,8n1 loglvl=all guest_loglvl=all conring_size=512k {memory}"
    )
    linux_line = f"console=hvc0 quiet apparmor=0 mitigations=off {linux}"
    command += ["-kernel", str(images.xen)]
    command += ["-append", f"{xen_line} dom0_max_vcpus={size.dom0_cpus} {xen}"]
    # QEMU takes the modules' command lines from here; a comma in one must be doubled.
    return [
        *command,
        "-initrd",
        f"{images.linux} {linux_line.replace(',', ',,')},{images.dom0_initrd}",
    ]


@contextmanager
def _started(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """QEMU in a process group of its own, killed on the way out: also after Ctrl-C or SIGTERM."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with log.open("wb") as stream:
        machine = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
        try:
            yield machine
        finally:
            machine.kill()
            machine.wait()
            signal.signal(signal.SIGTERM, before)


def _show(window: Path, shown: int) -> int:
    """Pass on what the experiment has printed since; how much of it is shown now."""
    text = _text(window)
    end = text.rfind("\n") + 1
    if end > shown:
        sys.stderr.write(text[shown:end].replace("\r", ""))
        sys.stderr.flush()
    return max(end, shown)


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
