"""Disks of the lab's machine: ext4 images made from folders, initial RAM disks."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

ENVIRONMENT = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
MB = 1 << 20
DOM0_PYTHON = (3, 11)


class CommandFailed(Exception):  # noqa: N818 - what happened
    """A command of the image's making failed."""

    def __init__(self, command: str, code: int, output: str) -> None:
        super().__init__(f"{command} failed ({code}):\n{output}")


def run(*command: str, cwd: Path | None = None) -> str:
    """Run a command; what it wrote on stdout.

    Raises:
        CommandFailed: with all it wrote.
    """
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=ENVIRONMENT, cwd=cwd
    )
    if done.returncode:
        raise CommandFailed(command[0], done.returncode, done.stdout + done.stderr)
    return done.stdout


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """An empty folder, gone afterwards unless it was renamed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def empty(image: Path, size_mb: int) -> None:
    """Make an empty disk. No journal: nobody would replay it."""
    _ext4(image, size_mb)


def filled(image: Path, folder: Path) -> None:
    """Make a disk that holds `folder`, with some room left."""
    used = sum(path.lstat().st_size + 4096 for path in folder.rglob("*"))
    _ext4(image, used * 5 // 4 // MB + 32, "-d", str(folder))


def bring_back(image: Path, to: Path) -> None:
    """Copy all that is on a disk into the folder `to`."""
    run("debugfs", "-R", f"rdump / {to.resolve()}", str(image))
    shutil.rmtree(to / "lost+found", ignore_errors=True)


def initrd(
    image: Path, busybox: Path, init: Path, modules: Iterable[Path], *programs: Path
) -> None:
    """Make an initial RAM disk: busybox, `init`, kernel modules in the order to load them."""
    with scratch(image.with_suffix(".d")) as folder:
        for name in ("bin", "dev", "modules", "proc", "root", "sys"):
            (folder / name).mkdir()
        for program in (busybox, *programs):
            shutil.copy2(program, folder / "bin")
        (folder / "bin/sh").symlink_to("busybox")
        shutil.copy2(init, folder / "init")
        (folder / "init").chmod(0o755)
        with (folder / "modules/order").open("w") as order:
            for module in modules:
                shutil.copy2(module, folder / "modules")
                order.write(f"{module.name}\n")
        pack = f"find . | cpio --quiet -o -H newc -R 0:0 | gzip > '{image.resolve()}'"
        run("sh", "-c", pack, cwd=folder)


def copy_tree(tree: Path, to: Path) -> None:
    """Copy what git knows of `tree`, with changes and new files, without what it ignores."""
    listing = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, run("git", "-C", str(tree), *listing).split("\0")):
        source = tree / name
        if source.is_symlink() or source.exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, to / name, follow_symlinks=False)


def compile_python(folder: Path) -> None:
    """Compile for dom0, which has no time for it, where this Python is the same as dom0's."""
    if sys.version_info[:2] == DOM0_PYTHON:
        quiet = ("-q", "--invalidation-mode", "unchecked-hash")
        run(sys.executable, "-P", "-m", "compileall", *quiet, str(folder))


def _ext4(image: Path, size_mb: int, *source: str) -> None:
    options = ("-q", "-F", "-t", "ext4", "-O", "^has_journal")
    run("mke2fs", *options, *source, str(image), f"{size_mb}M")
