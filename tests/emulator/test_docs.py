"""What docs/emulator.md says."""

import re
from pathlib import Path

from typer.testing import CliRunner

from evtrace.cli import app
from evtrace.tracer.emulator.timing import TIMINGS

PAGE = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text()


def test_the_scenario_of_the_page_runs_as_it_stands(tmp_path):
    code = re.search(r"<!-- scenario -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert code
    (tmp_path / "knock.py").write_text(code[1])
    arguments = ["-o", f"{tmp_path}/t.bin", "--scenario", f"{tmp_path}/knock.py:knock"]
    result = CliRunner().invoke(app, ["record", *arguments, "--set", "times=5"])

    assert result.exit_code == 0, result.output
    assert result.stdout.count("who is there?") == 5


def test_the_table_of_timings_is_complete():
    assert re.findall(r"^\| `([\w-]+)` \| (?:modelled|scripted)", PAGE, re.MULTILINE) == [*TIMINGS]
