"""`evtrace explain`: a verdict, a finding or a code in plain words."""

import json
import textwrap
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from evtrace.commands.options import Format
from evtrace.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from evtrace.replay.explanations import Page

WIDTH = 80
_INDENT = 12


def explain(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="A cause, route, fate or other verdict, a finding, or a code such as EVT202.",
        ),
    ] = None,
    list_all: Annotated[
        bool, typer.Option("--list", help="Name everything there is a page for, set by set.")
    ] = False,
    output: Annotated[Format, typer.Option("--format", help="Text or JSON.")] = Format.TEXT,
) -> None:
    """Say what a verdict, finding or code means, what is behind it and what to do next.

    Names that several sets share are explained in each. Upper or lower case does not matter.
    """
    from evtrace.replay.explanations import all_pages, find_pages  # noqa: PLC0415  when it runs

    if list_all == bool(names):
        message = "give names, or --list alone"
        raise UsageError(message)
    pages = all_pages() if list_all else _each_once(map(find_pages, names or ()))
    if output is Format.JSON:
        print(json.dumps(as_json(pages), indent=2))  # noqa: T201  a command prints
    else:
        print("\n".join(list_lines(pages) if list_all else page_lines(pages)))  # noqa: T201


def _each_once(found: "Iterable[list[Page]]") -> "list[Page]":
    return list(dict.fromkeys(page for pages in found for page in pages))


def list_lines(pages: "Sequence[Page]") -> "Iterator[str]":
    """Give the names of each set, one line a name."""
    for number, (which, members) in enumerate(groupby(pages, lambda page: page.belongs_to)):
        if number:
            yield ""
        yield f"{which.capitalize()}:"
        for page in members:
            name = f"{page.code} {page.name}".strip()
            line = textwrap.shorten(f"{name}: {page.meaning}", WIDTH - 2, placeholder=" ...")
            yield f"  {line}"


def page_lines(pages: "Sequence[Page]") -> "Iterator[str]":
    """Give pages as text that fits 80 columns."""
    for number, page in enumerate(pages):
        if number:
            yield ""
        yield f"{page.title}: {page.belongs_to}"
        yield ""
        yield from textwrap.wrap(page.meaning, WIDTH, initial_indent="  ", subsequent_indent="  ")
        yield ""
        parts = {
            "mechanism": page.mechanism,
            "rule": page.rule,
            "needs": ", ".join(page.needs),
            "next": page.next_step,
            "see also": ", ".join(page.see_also),
        }
        for label, text in parts.items():
            if text:
                yield from _labelled(label, text)


def _labelled(label: str, text: str) -> list[str]:
    head, rest = f"  {label:<{_INDENT - 2}}", " " * _INDENT
    return textwrap.wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=rest, break_on_hyphens=False
    )


def as_json(pages: "Sequence[Page]") -> dict[str, object]:
    """Give pages by `schemas/explain.schema.json`."""
    return {
        "schema": "evtrace-explain/1",
        "pages": [
            {
                "set": page.belongs_to.name.lower(),
                "name": page.name,
                "code": page.code or None,
                "severity": page.severity or None,
                "meaning": page.meaning,
                "mechanism": page.mechanism,
                "rule": page.rule,
                "needs": list(page.needs),
                "next": page.next_step,
                "see_also": list(page.see_also),
            }
            for page in pages
        ],
    }
