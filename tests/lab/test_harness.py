"""The lab's own parts, without a machine."""

import subprocess
import time
from pathlib import Path

import pytest

from tests.lab import disk, image, machine
from tests.lab.told import Call, Step, unseen

SCRIPTS = [*image.HERE.rglob("*.sh")]
FAKE_QEMU = """#!/bin/sh
for word; do case $word in file:*console.log) console=${word#file:};; esac; done
echo "(XEN) the last words" > "$console"
"""
SEND = Step("send", 33, 0, 100, 200)


def test_what_is_missing_is_named_as_packages_to_install(monkeypatch, tmp_path: Path):
    monkeypatch.setitem(disk.ENVIRONMENT, "PATH", str(tmp_path))
    with pytest.raises(
        image.LabUnavailable, match=r"apt-get install .*debootstrap .*qemu-system-x86"
    ):
        image.preflight()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script: Path):
    assert 0 == subprocess.run(["/bin/bash", "-n", str(script)], check=False).returncode


def test_the_tree_is_packed_with_new_files_and_without_ignored_ones(tmp_path: Path):
    tree, to = tmp_path / "tree", tmp_path / "to"
    tree.mkdir()
    for name, text in ((".gitignore", "*.log\n"), ("new.py", ""), ("noise.log", "")):
        (tree / name).write_text(text)
    (tree / "link").symlink_to("new.py")
    disk.run("git", "init", "-q", str(tree))
    disk.copy_tree(tree, to)
    assert [".gitignore", "link", "new.py"] == sorted(path.name for path in to.iterdir())
    assert (to / "link").is_symlink()


def fake_machine(monkeypatch, tmp_path: Path, ending: str, seconds: int) -> float:
    """Run a machine whose QEMU says its last words and then does as `ending` says."""
    program = tmp_path / "bin/qemu-system-x86_64"
    program.parent.mkdir()
    program.write_text(FAKE_QEMU + ending)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    files = [tmp_path / name for name in ("xen", "linux", "dom0", "domu", "root", "packages", "c")]
    size = machine.Size(seconds=seconds)
    return machine.run(image.Images(*files), tmp_path, tmp_path, tmp_path, size)


def test_a_machine_that_does_not_end_is_killed_and_its_console_shown(monkeypatch, tmp_path: Path):
    started = time.monotonic()
    with pytest.raises(machine.BootFailed, match=r"no end after 1 s\n\(XEN\) the last words"):
        fake_machine(monkeypatch, tmp_path, "exec sleep 60", seconds=1)
    assert time.monotonic() - started < 30


def test_a_machine_that_dies_early_is_a_failure(monkeypatch, tmp_path: Path):
    with pytest.raises(machine.BootFailed, match=r"QEMU ended early\. no such disk"):
        fake_machine(monkeypatch, tmp_path, "echo no such disk >&2; exit 1", seconds=60)


def test_a_machine_that_powers_off_has_run(monkeypatch, tmp_path: Path):
    assert fake_machine(monkeypatch, tmp_path, 'echo "LAB: done" >> "$console"', seconds=60) > 0


@pytest.mark.parametrize(
    ("call", "seen"),
    [
        (Call(110, 190, 4, 33, 0), True),
        (Call(110, 210, 4, 33, 0), False),  # ended later
        (Call(90, 190, 4, 33, 0), False),  # started earlier
        (Call(110, 190, 4, 32, 0), False),  # another port
        (Call(110, 190, 4, 33, -22), False),  # another result
        (Call(110, 190, 3, 33, 0), False),  # another operation
    ],
)
def test_a_step_is_seen_by_its_own_call_alone(call: Call, *, seen: bool):
    assert ([] if seen else [SEND]) == unseen([SEND], [call], (0, 0))


def test_another_clock_widens_the_time():
    assert [] == unseen([SEND], [Call(1095, 1195, 4, 33, 0)], (1000, 1010))
    assert [SEND] == unseen([SEND], [Call(110, 190, 4, 33, 0)], (1000, 1010))
