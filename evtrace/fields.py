"""A table of a TOML file, read key by key: what is of the wrong type or unknown is refused."""

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn, TypeVar

from evtrace.errors import NoInputError, UsageError

T = TypeVar("T")


class Fields:
    """The keys of one table; each is taken once, and what is left is unknown."""

    def __init__(self, where: str, table: Mapping[str, object]) -> None:
        """Read a table that messages call `where`."""
        self.where = where
        self._left = dict(table)
        self._known: set[str] = set()

    def take(self, key: str, kind: type[T]) -> T | None:
        """Take the value of a key; None if it is not there."""
        self._known.add(key)
        value = self._left.pop(key, None)
        if value is None:
            return None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.refuse(f"{key} = {value!r}: expected {_KINDS[kind]}")
        return value

    def need(self, key: str, kind: type[T]) -> T:
        """Take the value of a key that has to be there."""
        value = self.take(key, kind)
        if value is None:
            self.refuse(f"{key} is missing")
        return value

    def texts(self, key: str) -> tuple[str, ...] | None:
        """Take a list of strings; one string stands for a list of one."""
        given = self._left.get(key)
        if isinstance(given, str):
            self._left[key] = [given]
        values = self.take(key, list)
        if values is not None and not all(isinstance(value, str) for value in values):
            self.refuse(f"{key} = {values!r}: expected strings")
        return None if values is None else tuple(values)

    def table(self, key: str) -> "Fields | None":
        """Take a table inside this one."""
        found = self.take(key, dict)
        return None if found is None else Fields(f"{self.where} [{key}]", found)

    def tables(self, key: str) -> "Iterator[Fields]":
        """Take each table of an array of them."""
        for number, found in enumerate(self.take(key, list) or (), 1):
            place = f"{self.where} [[{key}]] {number}"
            if not isinstance(found, dict):
                message = f"{place}: expected a table, found {found!r}"
                raise UsageError(message)
            yield Fields(place, found)

    def holds(self, key: str) -> bool:
        """Whether there is a key that was not taken yet."""
        return key in self._left

    def left(self) -> dict[str, object]:
        """Take everything that is left."""
        found, self._left = self._left, {}
        return found

    def finish(self) -> None:
        """Refuse what is left, with the nearest key that is known."""
        for key in self._left:
            near = get_close_matches(key, sorted(self._known), n=1, cutoff=0)
            self.refuse(f"there is no key {key}; the nearest is {near[0]}")

    @contextmanager
    def named(self) -> Iterator[None]:
        """Let what is refused inside say where it stands."""
        try:
            yield
        except UsageError as error:
            text = str(error)
            if text.startswith(self.where):
                raise
            self.refuse(text)

    def refuse(self, what: str) -> NoReturn:
        """Raise the error that says where something is wrong."""
        message = f"{self.where}: {what}"
        raise UsageError(message) from None


_KINDS: Mapping[type, str] = {
    str: "a string",
    int: "a whole number",
    bool: "true or false",
    dict: "a table",
    list: "a list",
}


def read_toml(path: Path) -> Fields:
    """Read a TOML file; raises `NoInputError` and `UsageError`."""
    try:
        return Fields(str(path), tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}"
        raise NoInputError(message) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"{path}: not TOML: {error}"
        raise UsageError(message) from error
