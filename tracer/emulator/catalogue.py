"""The scenarios there are: those that come with evtrace, and a user's own out of a file."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, Final, TypeAlias

from evtrace.errors import NoInputError, UsageError
from evtrace.tracer.emulator import scenarios

Scenario: TypeAlias = Callable[..., None]
"""A function that takes a `Lab` and keyword parameters."""

DEFAULT_SCENARIO: Final = "demo"
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A scenario of the catalogue."""

    name: str
    summary: str
    parameters: dict[str, Any]
    """Parameter -> default."""


def list_scenarios() -> list[Entry]:
    """List the scenarios that come with evtrace."""
    return [
        describe(name.replace("_", "-"), _built_in(name))
        for name in sorted(module.name for module in iter_modules(scenarios.__path__))
    ]


def describe(name: str, scenario: Scenario) -> Entry:
    """Describe a scenario by its docstring's first line and its parameters."""
    summary = (inspect.getdoc(scenario) or "").partition("\n")[0]
    return Entry(name, summary, {p.name: p.default for p in _parameters(scenario).values()})


def find_scenario(spec: str) -> Scenario:
    """Find a scenario by name, by `path/to/file.py:name`, or as a script, `path/to/file.toml`.

    Raises `UsageError`, `NoInputError`.
    """
    if spec.endswith(".toml"):
        from evtrace.tracer.emulator.scripted import load_script  # noqa: PLC0415  it needs faults

        return load_script(Path(spec))
    path, colon, name = spec.rpartition(":")
    if colon and path.endswith(".py"):
        return _function(_load(Path(path)), name, path)
    known = [module.name.replace("_", "-") for module in iter_modules(scenarios.__path__)]
    if spec.replace("_", "-") in known:
        return _built_in(spec.replace("-", "_"))
    near = get_close_matches(spec, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}."
    message = f"no scenario {spec!r}; {hint} Your own is given as file.py:function or file.toml"
    raise UsageError(message)


def _built_in(name: str) -> Scenario:
    return _function(import_module(f"{scenarios.__name__}.{name}"), name, name)


def _load(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        message = f"{path}: no such file of scenarios"
        raise NoInputError(message)
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # somebody else's code: whatever it raises is to be told plainly
        message = f"{path}: cannot be loaded: {type(error).__name__}: {error}"
        raise UsageError(message) from error
    return module


def _function(module: ModuleType, name: str, where: str) -> Scenario:
    function = getattr(module, name, None)
    if not inspect.isfunction(function):
        message = f"{where}: no function {name!r} in it"
        raise UsageError(message)
    return function


def _parameters(scenario: Scenario) -> dict[str, inspect.Parameter]:
    """Give the parameters of a scenario, the lab left out."""
    return dict(list(inspect.signature(scenario).parameters.items())[1:])


def read_parameters(scenario: Scenario, settings: Sequence[str]) -> dict[str, Any]:
    """Read `name=value` settings as the parameters' defaults are typed; else `UsageError`."""
    known = _parameters(scenario)
    values = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.replace("-", "_")
        if not equals or name not in known:
            choice = ", ".join(known) or "it has none"
            message = f"--set {setting}: give name=value with a parameter of the scenario: {choice}"
            raise UsageError(message)
        values[name] = _convert(setting, text, known[name].default)
    return values


def _convert(setting: str, text: str, default: object) -> object:
    try:
        match default:
            case bool():
                return _truth(text)
            case int():
                return int(text, 0)
            case float():
                return float(text)
            case _:
                return text
    except ValueError:
        message = f"--set {setting}: expected {_KINDS[type(default)]}, as in the default {default}"
        raise UsageError(message) from None


_KINDS: Final[dict[type, str]] = {bool: "yes or no", int: "a whole number", float: "a number"}


def _truth(text: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise ValueError
