"""`record --host` in dom0, a script or `--guest` in domUs: all that was done is there."""

import statistics
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from evtrace.api import Trace
from evtrace.commands.import_ import import_
from evtrace.verdicts import Cause, Fate
from tests.lab.told import Step, calls_of, read_steps, unseen

pytestmark = pytest.mark.lab

EXPERIMENTS = {
    "fifo": ("record", "", "multi", (1, 2)),
    "2l": ("record", "xen.fifo_events=0", "multi", (1, 2)),
    "guest": ("guest", "", "single", (1,)),
}
"""Name -> experiment, arguments for Linux, threads of an emulated CPU, domUs."""
SECONDS = 400
WORKED = ["dom0.self", "dom0.churn", "dom0.wrong", "dom0.storm"]
STORM = 1000


class Recorded(NamedTuple):
    """What came out of one machine."""

    folder: Path
    own: Trace
    """What `record --host` wrote in dom0."""
    all: Trace
    """The same with the domUs' texts."""
    domus: tuple[int, ...]

    def steps(self, name: str) -> list[Step]:
        """What the exerciser said."""
        return read_steps(self.folder / f"{name}.txt")


@pytest.fixture(scope="module", params=EXPERIMENTS)
def recorded(ran, request, tmp_path_factory) -> Recorded:
    name, linux, threads, domus = EXPERIMENTS[request.param]
    folder = ran(name, linux, seconds=SECONDS, threads=threads).folder
    capture, output = folder / "trace.bin.capture", tmp_path_factory.mktemp("lab") / "all.bin"
    texts = {0: capture / "ftrace.txt"} | {dom: folder / f"u{dom}.ftrace.txt" for dom in domus}
    import_(
        output=output,
        xentrace=capture / "xentrace.raw",
        ftrace=[f"{dom}={text}" for dom, text in texts.items()],
        lsevtchn=[f"{capture / f'{when}.lsevtchn.txt'}@{when}" for when in ("before", "after")],
        debug_keys=[f"{capture / f'{when}.debugkeys.txt'}@{when}" for when in ("before", "after")],
        xen_version="4.17",
        timing="emulated-cpu",
    )
    return Recorded(folder, Trace(folder / "trace.bin"), Trace(output), domus)


@pytest.mark.parametrize("which", ["own", "all"])
def test_xen_answered_as_the_model_does(recorded: Recorded, which: str, log):
    trace = getattr(recorded, which)
    found = trace.replay()
    log(
        f"{recorded.folder.name}, {which}: level {trace.level}, {found.hypercalls} operations, "
        f"{found.compared} compared, {found.adopted} adopted, {found.unknown} unknown, "
        f"{found.uncovered} uncovered, {len(found.divergences)} diverged"
    )
    assert ("C4", [], 0) == (trace.level, found.divergences, found.unknown)
    assert found.compared >= found.hypercalls * 9 // 10


def test_every_operation_is_seen_with_its_result(recorded: Recorded):
    worked = {dom: [f"u{dom}.serve", f"u{dom}.self"] for dom in recorded.domus}
    worked[0] = [*WORKED, *(f"u{dom}.call" for dom in recorded.domus)]
    for dom, names in worked.items():
        offset = recorded.all.facts.clock_offsets.get(dom, (0, 0))
        steps = [step for name in names for step in recorded.steps(name)]
        assert len(steps) > 40
        assert [] == unseen(steps, calls_of(recorded.all, dom), offset)


def test_the_first_run_after_a_bind_was_provoked_by_nobody(recorded: Recorded):
    bound = [(0, "dom0.self"), *((0, f"u{dom}.call") for dom in recorded.domus)]
    bound += [(dom, f"u{dom}.self") for dom in recorded.domus]
    for dom, name in bound:
        bind = next(step for step in recorded.steps(name) if step.name == "bind")
        assert Cause.BIND_CONSERVATIVE == first_run(recorded.all, dom, bind)["cause"]


def test_each_ping_and_pong_ran_the_other_end(recorded: Recorded):
    for dom in recorded.domus:
        call, serve = (recorded.steps(f"u{dom}.{name}") for name in ("call", "serve"))
        for sender, steps in ((0, call), (dom, serve)):
            offset = recorded.all.facts.clock_offsets.get(sender, (0, 0))
            sent = sends_in(recorded.all, sender, steps, offset)
            assert [Fate.DELIVERED] * 20 == sent["fate"].to_list()
            runs = recorded.all.runs().filter(pl.col("seq").is_in(sent["run_seq"].implode()))
            assert [Cause.SEND] * 20 == runs.collect()["cause"].to_list()


def test_a_storm_is_one_run_and_coalesced_sends(recorded: Recorded):
    fates = sends_in(recorded.all, 0, recorded.steps("dom0.storm"))["fate"].to_list()
    assert STORM == len(fates)
    assert {Fate.COALESCED, Fate.DELIVERED} >= set(fates)
    assert fates.count(Fate.COALESCED) > STORM // 2


def test_a_send_with_nobody_bound_is_a_drop(recorded: Recorded):
    sent = sends_in(recorded.all, 0, recorded.steps("dom0.wrong"))
    assert [Fate.DROP_UNBOUND] == sent["fate"].to_list()


def test_wakes_are_joined_with_the_sends_that_made_them(recorded: Recorded):
    blocked = recorded.all.latencies().filter(pl.col("stage") == "send→pending").collect()
    assert blocked.height > 20


def test_nothing_is_left_in_the_kernel(recorded: Recorded):
    left = [path.read_text() for path in recorded.folder.glob("*left.txt")]
    assert [""] * len(left) == left
    assert left


def test_the_cost_of_a_probed_operation(recorded: Recorded, log):
    plain, probed = (
        statistics.median(step.after - step.before for step in steps if step.name == "send")
        for steps in (recorded.steps("dom0.quiet"), recorded.steps("dom0.self"))
    )
    log(f"{recorded.folder.name}: a recorded send costs {probed / plain:.1f} times a plain one")
    assert probed > plain


def first_run(trace: Trace, dom: int, bind: Step) -> dict[str, object]:
    """Give the first run of a port after it was bound."""
    start = bind.before + trace.facts.clock_offsets.get(dom, (0, 0))[0]
    mine = (pl.col("dom") == dom) & (pl.col("port") == bind.port) & (pl.col("tsc") >= start)
    return trace.runs().filter(mine).sort("tsc").head(1).collect().row(0, named=True)


def sends_in(
    trace: Trace, dom: int, steps: list[Step], offset: tuple[int, int] = (0, 0)
) -> pl.DataFrame:
    """Give the sends of a domain on the ports and in the time of these steps."""
    sent = [step for step in steps if step.name == "send"]
    first, last = sent[0].before + offset[0], sent[-1].after + offset[1]
    mine = (pl.col("dom") == dom) & pl.col("port").is_in({step.port for step in sent})
    within = pl.col("entered_tsc").is_between(first, last)
    return trace.sends().filter(mine & within).sort("entered_tsc").collect()
