"""Boot Xen with dom0, run a script in dom0, bring back what it left in /out.

    python -m tests.lab.boot --run SCRIPT.sh --out DIR [--tree TREE] [--with PATH ...]

The exit code is the script's; 69 where this machine cannot run the lab, 70 where the boot failed.
"""

import argparse
import fcntl
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab import disk, image, machine

OUT_MB = 1024
_CRASH = re.compile(r".*(?:BUG: |Oops: |Kernel panic|soft lockup).*")
LOCK = Path(tempfile.gettempdir()) / "lab.lock"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a boot ended: the script's exit code, seconds in all, where its files are."""

    code: int
    seconds: float
    folder: Path

    @property
    def xen(self) -> str:
        """The version that Xen gave on the serial line."""
        console = (self.folder / "console.log").read_text(errors="replace")
        found = re.search(r"Xen version [\d.]+ \([^)]*\)", console)
        return found.group() if found else "Xen version unknown"

    @property
    def crash(self) -> str | None:
        """The first line in which a kernel, dom0's or a domU's, says that it failed."""
        logs = [self.folder / "console.log", *self.folder.glob("log.xen/console/*.log")]
        found = (_CRASH.search(log.read_text(errors="replace")) for log in logs)
        return next((line.group().strip() for line in found if line), None)


def boot(
    script: Path,
    out: Path,
    tree: Path = image.PROJECT,
    extra: Iterable[Path] = (),
    size: machine.Size | None = None,
    xen: str = "",
    linux: str = "",
) -> Outcome:
    """Run `script` in dom0 of a new machine; what it leaves in /out is in `out` afterwards.

    Args:
        script: for dom0's bash; `. /lab/lib.sh` gives it the lab's functions.
        out: emptied first; console.log and run.log are there too.
        tree: the evtrace that `evtrace` means in dom0.
        extra: files and folders, in dom0 as /lab/NAME.
        size: CPUs, memory and patience.
        xen: more arguments for Xen.
        linux: more arguments for dom0's Linux.

    Raises:
        LabUnavailable: this machine lacks something.
        BootFailed: no orderly end; `out` holds what there is.
    """
    image.preflight()
    with _alone():
        images = image.build()
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        with tempfile.TemporaryDirectory(prefix="lab-", dir=image.CACHE) as scratch:
            lab, results = Path(scratch) / "lab.img", Path(scratch) / "out.img"
            image.pack_lab(lab, images, tree, script, extra)
            disk.empty(results, OUT_MB)
            try:
                seconds = machine.run(images, lab, results, out, size or machine.Size(), xen, linux)
            finally:
                disk.bring_back(results, out)
    return Outcome(int((out / "run.rc").read_text()), seconds, out)


@contextmanager
def _alone() -> Iterator[None]:
    """One machine at a time: they share the CPUs, and time is what is measured."""
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("lab: another machine runs; waiting for it", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _arguments() -> argparse.Namespace:
    usual = machine.Size()
    parser = argparse.ArgumentParser(prog="python -m tests.lab.boot", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--run", type=Path, required=True, help="the script for dom0 (bash)")
    parser.add_argument("--out", type=Path, required=True, help="a folder, emptied first")
    parser.add_argument(
        "--tree", type=Path, default=image.PROJECT, help="the evtrace to use in dom0"
    )
    parser.add_argument(
        "--with", type=Path, action="append", default=[], dest="extra", metavar="PATH"
    )
    parser.add_argument(
        "--seconds", type=int, default=usual.seconds, help="patience with the machine"
    )
    parser.add_argument("--cpus", type=int, default=usual.cpus)
    parser.add_argument("--dom0-cpus", type=int, default=usual.dom0_cpus)
    parser.add_argument(
        "--memory", type=int, default=usual.memory_mb, help="MB, all of the machine"
    )
    parser.add_argument("--dom0-memory", type=int, default=usual.dom0_memory_mb, help="MB")
    parser.add_argument(
        "--threads", choices=("single", "multi"), default=usual.threads, help="multi for PVH domUs"
    )
    parser.add_argument("--xen", default="", help="more arguments for Xen")
    parser.add_argument("--linux", default="", help="more arguments for dom0's Linux")
    return parser.parse_args()


def main() -> int:
    """Boot as told on the command line."""
    told = _arguments()
    size = machine.Size(
        told.cpus, told.memory, told.dom0_cpus, told.dom0_memory, told.seconds, told.threads
    )
    try:
        done = boot(told.run, told.out, told.tree, told.extra, size, told.xen, told.linux)
    except image.LabUnavailable as reason:
        print(f"lab: {reason}", file=sys.stderr)
        return 69
    except machine.BootFailed as reason:
        print(f"lab: {reason}", file=sys.stderr)
        return 70
    print(
        f"lab: exit code {done.code}, {done.seconds:.0f} s, files in {done.folder}", file=sys.stderr
    )
    return done.code


if __name__ == "__main__":
    sys.exit(main())
