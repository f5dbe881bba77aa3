"""The verdicts of every scenario equal the truth; `make consistency` tries many more seeds."""

from dataclasses import replace

import pytest

from evtrace.api import Trace
from evtrace.replay.results import Results
from evtrace.tracer.emulator.catalogue import list_scenarios
from evtrace.tracer.emulator.lab import Settings
from evtrace.tracer.emulator.recorder import Capture
from evtrace.tracer.emulator.timing import TIMINGS
from evtrace.verdicts import Cause, Fate
from evtrace.xen.abi import FormName
from tests.emulator.consistency import compare, judge, read_entries, read_truth

SCENARIOS = [entry.name for entry in list_scenarios()]


@pytest.mark.parametrize("pvh", [False, True], ids=["pv", "pvh"])
@pytest.mark.parametrize("form", FormName)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_verdicts_equal_the_truth(tmp_path, scenario, form, pvh):
    settings = Settings(seed=101, chaos=True, form=form, pvh=pvh)
    for variant in (
        settings,
        replace(settings, seed=102, pcpus=1),
        replace(settings, chaos=False, timing=TIMINGS["zero"]),
        replace(settings, chaos=False, timing=TIMINGS["shared"]),
    ):
        results, differences = judge(scenario, variant, tmp_path)
        assert not differences, variant
        assert results.runs


@pytest.mark.parametrize("form", FormName)
@pytest.mark.parametrize(
    "scenario", ["blkfront", "demo", "peer-close", "pingpong", "poll", "reset"]
)
def test_what_probes_alone_cannot_tell_is_not_claimed(tmp_path, scenario, form):
    """Without records of the shared memory a verdict is right, or UNKNOWN."""
    settings = Settings(seed=7, chaos=True, form=form, capture=Capture.PROBES)
    _, differences = judge(scenario, settings, tmp_path)
    wrong = [text for text in differences if Cause.UNKNOWN not in text.partition(", in truth")[0]]

    assert not wrong


def test_a_wrong_verdict_is_noticed(tmp_path):
    """The comparison can fail: each kind of mistake is found."""
    settings = Settings(seed=1, chaos=True)

    def spoilt(spoil) -> list[str]:
        results, _ = judge("pingpong", settings, tmp_path)
        spoil(results)
        with Trace(tmp_path / "trace.bin") as trace:
            entries = read_entries(trace)
        return compare(results, entries, read_truth(tmp_path / "truth.jsonl"))

    def wrong_cause(results: Results) -> None:
        results.runs[-1].cause = Cause.UNPROVOKED

    def wrong_fate(results: Results) -> None:
        results.sends[3].fate = Fate.LOST

    def missing_run(results: Results) -> None:
        results.runs.pop()

    def missing_send(results: Results) -> None:
        results.sends.pop()

    def empty_upcall(results: Results) -> None:
        results.empty_upcalls[0] += 1

    assert not spoilt(lambda _: None)
    for mistake in (wrong_cause, wrong_fate, missing_run, missing_send, empty_upcall):
        assert len(spoilt(mistake)) == 1, mistake
