"""The folders, the links and the package table say the same."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
LINKED = ("tracer", "replay", "analysis")


def packages_below(folder, name):
    """Name the packages that the folders hold; a link is another name for a folder of its own."""
    yield name
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.is_symlink() and any(child.glob("*.py")):
            yield from packages_below(child, f"{name}.{child.name}")


def test_every_folder_with_code_is_a_package_of_the_wheel():
    found = set(packages_below(ROOT / "evtrace", "evtrace"))
    for part in LINKED:
        found |= set(packages_below(ROOT / part, f"evtrace.{part}"))

    assert set(SETTINGS["packages"]) == found


def test_the_package_table_names_the_top_level_folders():
    expected = {"evtrace": "evtrace"} | {f"evtrace.{part}": part for part in LINKED}

    assert expected == SETTINGS["package-dir"]


@pytest.mark.parametrize("part", LINKED)
def test_the_links_say_what_the_table_says(part):
    link = ROOT / "evtrace" / part
    if not link.is_symlink():
        pytest.skip("this checkout lost its links: installs work, static analysis does not")

    assert Path("..") / part == link.readlink()


def test_what_is_no_code_is_in_the_wheel_too():
    carried = SETTINGS["package-data"]
    for name in SETTINGS["packages"]:
        part, _, rest = name.removeprefix("evtrace.").partition(".")
        folder = ROOT / part / rest.replace(".", "/") if part in LINKED else None
        folder = folder or ROOT / name.replace(".", "/")
        named = {path for pattern in carried.get(name, ()) for path in folder.glob(pattern)}
        other = {path for path in folder.glob("*.*") if path.suffix not in {".py", ".pyc"}}

        assert other <= named, name
