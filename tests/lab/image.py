"""The lab's images, built once from Debian's packages and kept: each named by a hash of its inputs.

* base: the root of dom0 (Debian, Xen's tools, Linux's modules), Xen and Linux
* packages: the Python packages that evtrace needs, for Debian's Python 3.11
* boot: the initial RAM disks of dom0 and of a domU, the exerciser
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.lab import disk

HERE = Path(__file__).parent
INSIDE = HERE / "inside"
PROJECT = HERE.parents[1]
CACHE = Path(os.environ.get("EVTRACE_LAB", PROJECT / ".lab"))
LOCK_FOLDER = Path(os.environ.get("EVTRACE_LAB_LOCK", PROJECT))
MIRROR = os.environ.get("EVTRACE_LAB_MIRROR", "http://deb.debian.org")
RECIPE = HERE / "base.sh"

NEEDED = {
    "qemu-system-x86_64": "qemu-system-x86",
    "debootstrap": "debootstrap",
    "mke2fs": "e2fsprogs",
    "cpio": "cpio",
    "dpkg-deb": "dpkg",
    "git": "git",
    "gcc": "gcc libc6-dev",
}
NEEDED_MB = 4096
DOM0_MODULES = (
    *("virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci"),
    *("virtio_blk", "crc32c_generic", "crc16", "mbcache", "jbd2", "ext4"),
)
DOMU_MODULES = ("xen-privcmd", "xenfs", "xen-evtchn")
GLIBC = (17, 24, 27, 28, 31, 34, 35, 36)  # minor versions that wheels for Debian's may name


class LabUnavailable(Exception):  # noqa: N818 - a reason to skip, not an error
    """This machine cannot run the lab; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Images:
    """What every boot needs, all of it files."""

    xen: Path
    linux: Path
    dom0_initrd: Path
    domu_initrd: Path
    root: Path
    packages: Path
    exerciser: Path


def missing() -> list[str]:
    """Name the Debian packages whose tools are not installed."""
    path = disk.ENVIRONMENT["PATH"]
    return sorted({name for tool, name in NEEDED.items() if not shutil.which(tool, path=path)})


def preflight() -> None:
    """Look for the tools and the rights that the lab needs.

    Raises:
        LabUnavailable: names the Debian packages to install.
    """
    lacking = missing()
    if lacking:
        reason = f"the lab needs tools: apt-get install {' '.join(lacking)}"
        raise LabUnavailable(reason)
    available_mb = _available_mb()
    if available_mb < NEEDED_MB:
        reason = f"the lab needs {NEEDED_MB} MB of memory, {available_mb} MB are available"
        raise LabUnavailable(reason)
    if os.geteuid() != 0 and not _base_path().exists():
        reason = "the lab builds its image with debootstrap, which needs root"
        raise LabUnavailable(reason)


def _available_mb() -> int:
    """Memory that programs may still take (Linux: /proc/meminfo)."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) // 1024


def build() -> Images:
    """Build what is not in the cache yet."""
    base = _kept(_base_path(), _build_base)
    packages = _kept(_packages_path(), _build_packages)
    boot = _kept(_boot_path(base), lambda to: _build_boot(base, to))
    return Images(
        xen=base / "xen",
        linux=base / "vmlinuz",
        dom0_initrd=boot / "dom0.gz",
        domu_initrd=boot / "domu.gz",
        root=base / "root.img",
        packages=packages / "packages.img",
        exerciser=boot / "exercise",
    )


def pack_lab(image: Path, images: Images, tree: Path, script: Path, extra: Iterable[Path]) -> None:
    """Write the disk /lab: the project's tree, the experiment, what a domU boots from."""
    with disk.scratch(image.with_suffix(".d")) as folder:
        inside = (INSIDE / "dom0_init.sh", INSIDE / "lib.sh")
        for source in (*inside, images.linux, images.domu_initrd, images.exerciser):
            shutil.copy2(source, folder)
        shutil.copy2(script, folder / "run.sh")
        for path in extra:
            if path.is_dir():
                shutil.copytree(path, folder / path.name, symlinks=True)
            else:
                shutil.copy2(path, folder)
        disk.copy_tree(tree, folder / "tree")
        disk.compile_python(folder / "tree")
        disk.filled(image, folder)


def _base_path() -> Path:
    return CACHE / f"base-{_hash(RECIPE.read_text(), MIRROR, *DOM0_MODULES, *DOMU_MODULES)}"


def _packages_path() -> Path:
    return CACHE / f"packages-{_hash(_requirements(), str(sys.version_info[:2]))}"


def _boot_path(base: Path) -> Path:
    names = ("dom0_initrd.sh", "domu_init.sh", "exercise.c")
    return CACHE / f"boot-{_hash(base.name, *((INSIDE / name).read_text() for name in names))}"


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _requirements() -> str:
    """The locked packages that a user gets, with their hashes: no development tools."""
    quiet = ("--quiet", "--directory", str(LOCK_FOLDER))
    what = ("--frozen", "--no-dev", "--all-extras", "--no-emit-project", "--no-header")
    return disk.run(sys.executable, "-P", "-m", "uv", *quiet, "export", *what)


def _kept(path: Path, make: Callable[[Path], None]) -> Path:
    """`path`, made by `make` if it is not there yet; never half made."""
    if not path.exists():
        print(f"lab: building {path.name}", file=sys.stderr)
        with disk.scratch(path.with_name(path.name + ".partial")) as partial:
            make(partial)
            partial.rename(path)
    return path


def _build_base(to: Path) -> None:
    tree, log = to / "tree", CACHE / "base.log"
    command = ["/bin/sh", str(RECIPE), str(tree), str(CACHE / "downloads"), MIRROR]
    with log.open("w") as stream:
        done = subprocess.run(command, check=False, stdout=stream, stderr=stream)
    if done.returncode:
        raise disk.CommandFailed(str(RECIPE), done.returncode, log.read_text()[-3000:])
    xen = next((tree / "boot").glob("xen-*.gz"))
    disk.run("sh", "-c", f"zcat '{xen}' > '{to}/xen'")  # QEMU's multiboot loader wants it unpacked
    shutil.copy2(next((tree / "boot").glob("vmlinuz-*")), to / "vmlinuz")
    (to / "modules").mkdir()
    for name in (*DOM0_MODULES, *DOMU_MODULES):
        shutil.copy2(next((tree / "lib/modules").rglob(f"{name}.ko")), to / "modules")
    shutil.copy2(tree / "bin/busybox", to / "busybox")
    disk.filled(to / "root.img", tree)
    shutil.rmtree(tree)


def _build_packages(to: Path) -> None:
    """Wheels for Debian's Python, unpacked and compiled: dom0 only imports them."""
    wanted, folder = to / "requirements.txt", to / "packages"
    wanted.write_text(_requirements())
    target = ["--implementation", "cp", "--python-version", "3.11"]
    for abi in ("cp311", "abi3", "none"):
        target += ["--abi", abi]
    for platform in ("manylinux2014", *(f"manylinux_2_{minor}" for minor in GLIBC)):
        target += ["--platform", f"{platform}_x86_64"]
    what = ("--only-binary", ":all:", "--no-deps", "--require-hashes", "-r", str(wanted))
    pip = (sys.executable, "-P", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    disk.run(*pip, *target, "--target", str(folder), *what)
    disk.compile_python(folder)
    disk.filled(to / "packages.img", folder)
    shutil.rmtree(folder)


def _build_boot(base: Path, to: Path) -> None:
    program = to / "exercise"
    disk.run("gcc", "-static", "-O2", "-Wall", "-o", str(program), str(INSIDE / "exercise.c"))
    busybox, modules = base / "busybox", base / "modules"
    dom0 = [modules / f"{name}.ko" for name in DOM0_MODULES]
    disk.initrd(to / "dom0.gz", busybox, INSIDE / "dom0_initrd.sh", dom0)
    domu = [modules / f"{name}.ko" for name in DOMU_MODULES]
    disk.initrd(to / "domu.gz", busybox, INSIDE / "domu_init.sh", domu, program)
