"""`evtrace cut`: a slice is a trace, replays without divergences and keeps its verdicts."""

import random

import polars as pl
import pytest
from typer.testing import CliRunner

from evtrace.api import Trace
from evtrace.cli import app
from evtrace.errors import ExitCode
from evtrace.timeline import Kind
from evtrace.tracefile.family import FACTS_STREAM, ChannelBits, FactKey
from evtrace.verdicts import Cause
from tests.conftest import FTRACE_CAPTURES
from tests.tinytrace import CONTINUE, hypercall, opened, runstate, sample, wake, window

RECORDINGS = {
    "netfront": ["--chaos", "--seed", "3"],
    "port-reuse": ["--kind", "pvh", "--chaos", "--seed", "3"],
    "port-reuse-2l": ["--form", "2l", "--chaos", "--seed", "7"],
    "boot": ["--kind", "pvh", "--chaos", "--seed", "3"],
    "migrate": ["--chaos", "--seed", "7"],
    "peer-close": ["--form", "2l", "--chaos", "--seed", "7"],
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Give what the emulator records of a scenario."""
    folder = tmp_path_factory.mktemp("recorded")

    def make(name):
        path = folder / f"{name}.bin"
        if not path.exists():
            scenario = name.removesuffix("-2l")
            options = ["--scenario", scenario, "-o", str(path), *RECORDINGS.get(name, [])]
            done = CliRunner().invoke(app, ["record", *options])
            assert done.exit_code == 0, done.output
        return path

    return make


def run(*arguments):
    return CliRunner().invoke(app, ["cut", *map(str, arguments)])


def cut(trace, output, *options):
    done = run(trace, "-o", output, "--force", *options)
    assert done.exit_code == 0, done.stderr
    return output


def extent(path):
    with Trace(path) as trace:
        found = trace.reader.survey.extent
    assert found is not None
    return found


def replayed(path):
    with Trace(path) as trace:
        return trace.replay()


def where(run_):
    return run_.tsc, run_.dom, run_.vcpu, run_.port


def spans(path, count):
    """Give spans of time at random places of a trace, the same ones each time."""
    chance = random.Random(path.name)  # noqa: S311  no secret
    first, last = extent(path)
    for _ in range(count):
        start = chance.randrange(first, last)
        yield start, min(last, start + chance.randrange(1, 2 + (last - first) // 3))


# --- it replays ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*RECORDINGS, *FTRACE_CAPTURES])
def test_a_slice_replays_and_keeps_its_verdicts(name, recorded, imported, tmp_path):
    trace = (imported if name in FTRACE_CAPTURES else recorded)(name)
    whole = replayed(trace)
    causes = {where(run): run.cause for run in whole.runs}
    kept = total = compared = 0

    for start, end in spans(trace, 5):
        done = run(trace, "-o", tmp_path / "s.bin", "--force", "--from", start, "--to", end)
        if done.exit_code:
            assert "no record lies in that part" in done.stderr
            continue
        part = replayed(tmp_path / "s.bin")
        assert part.divergences == []
        assert [check.differences for check in part.snapshot_checks if check.differences] == []
        for run_ in part.runs:
            assert run_.cause in {causes[where(run_)], Cause.UNKNOWN}, (start, end, run_)
            assert run_.cause is not Cause.UNKNOWN or run_.reason
            kept += run_.cause == causes[where(run_)]
        total, compared = total + len(part.runs), compared + part.compared

    assert whole.divergences == []
    assert total > 20
    assert compared > 10
    assert kept > 0.7 * total


@pytest.mark.parametrize("name", ["netfront", "boot", "port-reuse-2l"])
def test_a_slice_of_the_emulator_replays_without_adoptions(name, recorded, tmp_path):
    trace = recorded(name)
    first, last = extent(trace)
    part = replayed(cut(trace, tmp_path / "s.bin", "--from", (first + last) // 2))

    assert part.adopted == 0
    assert part.compared > 20


def test_a_slice_of_a_slice_is_the_same_as_a_slice(recorded, tmp_path):
    trace = recorded("netfront")
    first, last = extent(trace)
    third = (last - first) // 3
    wide = cut(trace, tmp_path / "w.bin", "--from", first + third, "--to", last)
    narrow = cut(wide, tmp_path / "n.bin", "--from", first + 2 * third, "--to", last)
    at_once = cut(trace, tmp_path / "o.bin", "--from", first + 2 * third, "--to", last)

    def found(path):
        return [(where(run), run.cause) for run in replayed(path).runs]

    assert found(at_once) == found(narrow)
    assert len(found(at_once)) > 10


# --- what a slice holds --------------------------------------------------------------------------


def raw_records(path):
    columns = ("tsc", "event", *(f"w{k}" for k in range(7)))
    with Trace(path) as trace:
        records = pl.concat(trace.reader.records(trace.reader.windows))
    own = (pl.col("pcpu") == FACTS_STREAM) | (pl.col("event") == CONTINUE)
    return records.filter(~own).select("pcpu", *columns)


def test_records_keep_their_words_and_their_streams(recorded, tmp_path):
    trace = recorded("netfront")
    first, last = extent(trace)
    start, end = first + (last - first) // 4, first + (last - first) // 2
    part = raw_records(cut(trace, tmp_path / "s.bin", "--from", start, "--to", end))

    inside = raw_records(trace).filter(pl.col("tsc").is_between(start, end))
    kept = part.filter(pl.col("tsc").is_between(start, end))
    order = ["pcpu", "tsc"]
    assert inside.height > 100
    assert inside.sort(order, maintain_order=True).equals(kept.sort(order, maintain_order=True))


def test_facts_names_and_coverage_stay(recorded, tmp_path):
    trace = recorded("netfront")
    first, last = extent(trace)
    start, end = first + (last - first) // 4, first + (last - first) // 2
    cut(trace, tmp_path / "s.bin", "--from", start, "--to", end)

    with Trace(trace) as whole, Trace(tmp_path / "s.bin") as part:
        assert whole.facts.domain_names == part.facts.domain_names
        assert whole.facts.irq_names == part.facts.irq_names
        assert (whole.facts.tsc_hz, whole.facts.vcpus) == (part.facts.tsc_hz, part.facts.vcpus)
        assert whole.coverage.level(0) == part.coverage.level(0) == "C5"
        assert len(whole.facts.coverage) <= len(part.facts.coverage)
        lowest, highest = part.reader.survey.extent or (0, 0)
        for interval in part.facts.coverage:
            assert lowest <= interval.tsc_lo <= interval.tsc_hi <= highest


def test_a_snapshot_opens_the_slice(recorded, tmp_path):
    trace = recorded("netfront")
    first, last = extent(trace)
    cut(trace, tmp_path / "s.bin", "--from", (first + last) // 2)

    with Trace(tmp_path / "s.bin") as part:
        rows = list(part.rows())
    shown = [row for row in rows if row.kind == Kind.CHANNEL]
    opens = [row for row in rows if row.kind == Kind.FACT and row.a0 == FactKey.SNAPSHOT]
    seen = [row.seq for row in rows if row.kind < Kind.CHANNEL]
    assert {row.dom for row in opens} == {0, 1}
    assert {row.dom for row in shown} == {0, 1}
    assert max(row.seq for row in shown) < min(seen)
    assert all((row.a1 or 0) & ChannelBits.BITS_KNOWN for row in shown)


def test_who_runs_is_known_from_the_start(tmp_path):
    records = (runstate(0, 0, 1, 0, tsc=100), hypercall(32, 110), hypercall(32, 120))
    (tmp_path / "t.bin").write_bytes(window(0, *records) + window(1, wake(1, 0, 115)))
    cut(tmp_path / "t.bin", tmp_path / "s.bin", "--from", "112")

    with Trace(tmp_path / "s.bin") as part:
        calls = [row for row in part.rows() if row.kind == Kind.HYPERCALL]
        events = [hex(event) for batch in part.reader.batches() for event in batch["event"]]
    assert [(row.tsc_lo, row.dom, row.vcpu) for row in calls] == [(120, 0, 0)]
    assert events == ["0x21002", "0x28004", "0x20100d"]


def test_a_frequency_that_was_calibrated_stays_known(imported, tmp_path):
    trace = imported("dom0_self20")
    first, last = extent(trace)
    cut(trace, tmp_path / "s.bin", "--from", (first + last) // 2)

    with Trace(trace) as whole, Trace(tmp_path / "s.bin") as part:
        assert whole.facts.tsc_hz == part.facts.tsc_hz is not None


def test_a_damaged_trace_gives_a_slice_that_claims_nothing(recorded, tmp_path):
    (tmp_path / "d.bin").write_bytes(recorded("netfront").read_bytes()[:-4])

    done = run(tmp_path / "d.bin", "-o", tmp_path / "s.bin", "--from", "+0")

    assert done.exit_code == 0
    assert "skipped" in done.stderr
    with Trace(tmp_path / "s.bin") as part:
        assert part.facts.coverage == []


# --- what is left out ----------------------------------------------------------------------------


def test_other_records_go_and_those_that_a_replay_needs_stay(recorded, tmp_path):
    trace = recorded("netfront")
    first, last = extent(trace)
    span = ("--from", first, "--to", (first + last) // 2)
    whole = cut(trace, tmp_path / "w.bin", *span)
    less = cut(trace, tmp_path / "l.bin", *span, "--kind", "wake", "--dom", "1")

    def counted(path):
        with Trace(path) as part:
            kinds = pl.concat(part.batches())
            total = part.reader.survey.records
        return total, dict(kinds["kind"].value_counts().iter_rows())

    (all_records, all_kinds), (records, kinds) = counted(whole), counted(less)
    assert records < 0.8 * all_records
    for kind in (Kind.CALL_ENTER, Kind.CALL_EXIT, Kind.HANDLER_ENTER, Kind.MASK, Kind.RUNSTATE):
        assert all_kinds[kind] == kinds[kind]
    assert 0 < kinds[Kind.WAKE] < all_kinds[Kind.WAKE]
    assert Kind.BLOCK not in kinds
    part = replayed(less)
    assert part.divergences == []
    assert [run.cause for run in replayed(whole).runs] == [run.cause for run in part.runs]


def test_around_keeps_records_on_either_side(tmp_path):
    (tmp_path / "t.bin").write_bytes(sample())
    done = run(tmp_path / "t.bin", "-o", tmp_path / "s.bin", "--around", "5:1")

    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path / 's.bin'}: 3 records, TSC 124 to 127\n"
    with opened(tmp_path / "s2.bin", (tmp_path / "s.bin").read_bytes()) as reader:
        times = [tsc for batch in reader.batches() for tsc in batch["tsc_lo"]]
    assert times == [124, 124, 125, 126, 127]


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ((), ExitCode.USAGE, "say what to keep"),
        (("--from", "999999"), ExitCode.USAGE, "no record lies in that part of the trace"),
        (("--kind", "wakes"), ExitCode.USAGE, "the nearest is wake"),
        (("--from", "100"), ExitCode.OUTPUT_EXISTS, "--force"),
    ],
)
def test_refusals_say_what_and_write_nothing(tmp_path, options, code, message):
    (tmp_path / "t.bin").write_bytes(sample())
    (tmp_path / "there.bin").write_bytes(b"kept")

    done = run(tmp_path / "t.bin", "-o", tmp_path / "there.bin", *options)

    assert done.exit_code == code
    assert message in done.stderr
    assert (tmp_path / "there.bin").read_bytes() == b"kept"
    assert {path.name for path in tmp_path.iterdir()} == {"t.bin", "there.bin"}


def test_a_missing_folder_ends_with_74(tmp_path):
    (tmp_path / "t.bin").write_bytes(sample())

    done = run(tmp_path / "t.bin", "-o", tmp_path / "no" / "s.bin", "--from", "100")

    assert done.exit_code == ExitCode.CANNOT_WRITE
