"""The model against recorded answers of Xen's own code.

What stands here is a part of the recordings; all of it is run where the folder `../shared/vectors`
lies beside the checkout.
"""

from collections import Counter
from pathlib import Path

import pytest

from evtrace.replay.conform.judge import Verdict, judge_files
from evtrace.xen.profiles import find_profile

HERE = Path(__file__).parent / "vectors"
SHARED = Path(__file__).parents[2].parent / "shared" / "vectors"

PROGRAMS = {
    "curated-HEAD": 60,
    "curated-4.17": 60,
    "curated-4.9": 60,
    "curated-4.5": 60,
    "core2l-00": 125,
    "core2l-01": 125,
    "corefifo-00": 125,
    "corefifo-01": 125,
    "2l-00": 125,
    "fifo-00": 125,
}


def failures(verdicts: list[Verdict]) -> list[str]:
    return [
        f"{verdict.name}: {verdict.bad or (verdict.difference and verdict.difference.divergence)}"
        for verdict in verdicts
        if not verdict.passed
    ]


def version_of(name: str) -> str:
    return name.removeprefix("curated-") if name.startswith("curated-") else "HEAD"


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_recorded_answer_is_the_models(name):
    profile = find_profile(version_of(name))
    verdicts = list(judge_files([HERE / f"{name}.jsonl.gz"], profile))
    assert failures(verdicts) == []
    assert len(verdicts) == PROGRAMS[name]
    assert all(verdict.operations for verdict in verdicts)


@pytest.mark.parametrize(
    ("recorded", "other", "differing"),
    [
        ("HEAD", "4.17", 4),
        ("HEAD", "4.9", 13),
        ("4.9", "HEAD", 13),
        ("4.5", "HEAD", 17),
        ("HEAD", "4.20", 3),
        ("HEAD", "4.19", 3),
        ("HEAD", "4.18", 4),
        ("HEAD", "4.16", 5),
        ("HEAD", "4.15", 5),
        ("HEAD", "4.21", 0),
        ("HEAD", "4.22", 0),
    ],
)
def test_versions_differ_in_as_many_scenarios_as_recorded(recorded, other, differing):
    verdicts = judge_files([HERE / f"curated-{recorded}.jsonl.gz"], find_profile(other))
    assert Counter(verdict.passed for verdict in verdicts)[False] == differing


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the full recordings are not beside the checkout")
@pytest.mark.parametrize(
    "folder", ["random", "curated", "curated-4.17", "curated-4.9", "curated-4.5"]
)
def test_the_full_recordings(folder):
    profile = find_profile(version_of(folder) if folder != "curated" else "HEAD")
    verdicts = list(judge_files([SHARED / folder], profile))
    assert failures(verdicts) == []
    assert len(verdicts) == (2500 if folder == "random" else 60)
