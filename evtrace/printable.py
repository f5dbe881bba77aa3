r"""Text from a trace made inert: a terminal, a mail and a page show it and obey none of it.

Names, log lines and file names come from whoever made the trace. What does not print (control
characters and so every terminal escape, line breaks, marks that turn the direction of writing) is
shown by its code: `\x1b`, `\u202e`.
"""


def printable(text: str, keep: str = "") -> str:
    r"""Give `text` with each character that does not print as its code; those in `keep` stay.

    >>> printable("\x1b[31mred")
    '\\x1b[31mred'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _code(ord(c)) for c in text)


def printable_lines(text: str) -> str:
    """Give a text of several lines with each of them printable."""
    return printable(text, keep="\n")


def _code(number: int) -> str:
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
