"""HTML in the making: what is not markup already is escaped, whoever wrote it."""

import base64
import hashlib
import json
from collections.abc import Iterable
from html import escape

from evtrace.printable import printable

Attribute = str | int | bool


class Html(str):
    """Text that is markup: it goes into a page as it stands."""

    __slots__ = ()


def element(tag: str, /, *content: str, **attributes: Attribute) -> Html:
    """Give an element; `class_` and `for_` are its class and for, `_` in a name is `-`.

    Of the attributes, True is one without a value and False is none.
    """
    inside = "".join(map(_escaped, content))
    return Html(f"<{tag}{_attributes(attributes)}>{inside}</{tag}>")


def void(tag: str, /, **attributes: Attribute) -> Html:
    """Give an element that has no content."""
    return Html(f"<{tag}{_attributes(attributes)}>")


def joined(parts: Iterable[str], between: str = "") -> Html:
    """Join parts, each escaped unless it is markup."""
    return Html(_escaped(between).join(map(_escaped, parts)))


def script(source: str) -> Html:
    """Give a script that runs; `script_hash` of the same source allows it."""
    if "</script" in source.lower() or "<!--" in source:
        message = "a script that would end its own element"
        raise ValueError(message)
    return Html(f"<script>{source}</script>")


def script_hash(source: str) -> str:
    """Give the source's hash as a Content-Security-Policy names it."""
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def data_block(name: str, content: object) -> Html:
    """Give an element that holds JSON for the page's scripts and is no script itself."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="{escape(name)}">{text}</script>')


def _attributes(attributes: dict[str, Attribute]) -> str:
    parts = []
    for name, value in attributes.items():
        if value is False:
            continue
        key = name.rstrip("_").replace("_", "-")
        parts.append(f" {key}" if value is True else f' {key}="{_escaped(str(value))}"')
    return "".join(parts)


def _escaped(text: str) -> str:
    return text if isinstance(text, Html) else escape(printable(text, keep="\n"))
