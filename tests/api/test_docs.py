"""The examples of the API give what they say; the notebook runs from its first cell to its last."""

import doctest
import json
from pathlib import Path

import polars as pl
import pytest

import evtrace
from evtrace import api

DOCS = Path(__file__).parents[2] / "docs"
NOTEBOOK = json.loads((DOCS / "notebook.ipynb").read_text(encoding="utf-8"))


@pytest.fixture
def trace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return evtrace.record("demo", "trace.bin")


def test_examples_of_the_docstrings(trace):
    failed, tried = doctest.testmod(api, extraglobs={"trace": trace, "pl": pl})
    assert failed == 0
    assert tried > 5


@pytest.mark.usefixtures("trace")
def test_examples_of_the_page():
    failed, tried = doctest.testfile(
        str(DOCS / "api.md"), module_relative=False, optionflags=doctest.ELLIPSIS
    )
    assert failed == 0
    assert tried > 25


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Give what the notebook's cells leave behind."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names: dict[str, object] = {}
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)  # noqa: S102
    return names


def test_the_notebook_comes_to_its_answer(notebook):
    causes, summary, split = (notebook[name] for name in ("causes", "summary", "split"))
    longest = summary.filter(pl.col("stage") == "send→handler")
    steps = notebook["between"]["name"].to_list()

    assert causes.filter(pl.col("cause") == "BIND_CONSERVATIVE")["len"].to_list() == [1]
    assert (longest["p50_ns"] < 10_000).all()
    assert (longest["max_ns"] > 1_000_000).all()
    assert steps[:2] == ["SCHED_WAKE", "RUNSTATE_CHANGE blocked->runnable"]
    assert steps[-1] == "EVTRACE_HANDLER_ENTER"
    assert split.height == summary.filter(pl.col("stage") == "pending→upcall")["count"].sum()
    assert split["latency_ns"].max() > 1_000_000
    assert 0 <= split["rest_ns"].min() <= split["rest_ns"].max() < 10_000
    shown = notebook["report"]._repr_html_()
    assert shown.startswith(f"<p><strong>{causes['len'].sum():,} runs of ")
    assert shown.count("<table>") > 3


def test_the_notebook_is_stored_without_outputs():
    code = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]

    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
    assert all((cell["outputs"], cell["execution_count"]) == ([], None) for cell in code)
