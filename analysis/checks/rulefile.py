"""A file of rules: `[[rule]]` tables, each with its `check` and where that has to hold."""

from collections.abc import Iterator
from pathlib import Path

from evtrace.analysis.checks.parts import WHOLE, Reach, read_part
from evtrace.analysis.checks.rules import Rule, read_rule
from evtrace.errors import UsageError
from evtrace.fields import Fields, read_toml


def read_rules(path: Path) -> list[Rule]:
    """Read a file of rules; raises `UsageError` that names the file and the rule's number."""
    fields = read_toml(path)
    rules = list(take_rules(fields))
    fields.finish()
    if not rules:
        message = f"{path}: no [[rule]] in it"
        raise UsageError(message)
    return rules


def take_rules(fields: Fields) -> Iterator[Rule]:
    """Read the rules of a file."""
    for entry in fields.tables("rule"):
        with entry.named():
            rule = _read(entry)
        yield rule


def _read(entry: Fields) -> Rule:
    text = entry.need("check", str)
    on = read_part(entry.take("on", str) or "")
    each = entry.take("each", str)
    traces = entry.texts("traces") or ("*",)
    entry.finish()
    if each is not None and on != WHOLE:
        message = "give on or each, not both"
        raise UsageError(message)
    return read_rule(text, on, None if each is None else _reach(each), traces)


def _reach(text: str) -> Reach:
    known = [reach.value for reach in Reach if reach is not Reach.TRACE]
    if text not in known:
        message = f"each = {text!r}: expected one of {', '.join(known)}"
        raise UsageError(message)
    return Reach(text)
