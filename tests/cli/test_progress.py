"""Progress: a bar on a terminal, nothing elsewhere."""

import io

import pytest

from evtrace.commands.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Terminal, True), (io.StringIO, False)])
def test_a_bar_is_shown_on_a_terminal_only(monkeypatch, stream, shown):
    errors = stream()
    monkeypatch.setattr("sys.stderr", errors)
    with progress_bar("replaying", lambda: "7 records") as progress:
        for share in (0.5, 0.25, 1.5):
            progress(share)

    assert shown == ("replaying" in errors.getvalue())
    assert shown == ("100%" in errors.getvalue())
