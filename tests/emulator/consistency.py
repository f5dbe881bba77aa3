"""Verdicts held against the truth: every scenario, form and kind of guest, many seeds with chaos.

    python -m tests.emulator.consistency [SCENARIO…] [--seeds N]

Records each on the emulator, replays the trace, and compares it with what the emulator itself
knows: runs with causes and work, sends with fates, empty upcalls. Prints one line for each
combination; exit 1 if any verdict is wrong. Emulator and replay share the model of Xen, so this
shows that they are consistent; that the model is right is shown by the recorded vectors.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from evtrace.api import Trace
from evtrace.replay.results import Results
from evtrace.timeline import Kind
from evtrace.tracer.emulator.catalogue import find_scenario, list_scenarios
from evtrace.tracer.emulator.lab import Lab, Settings
from evtrace.tracer.emulator.session import record
from evtrace.verdicts import Route
from evtrace.xen.abi import FormName

Json = dict[str, object]


@dataclass(slots=True)
class Truth:
    """A truth file, read back."""

    runs: dict[tuple[str, int], Json] = field(default_factory=dict)
    """By (port, TSC)."""
    sends: dict[tuple[str, int], Json] = field(default_factory=dict)
    upcalls: dict[tuple[str, int], Json] = field(default_factory=dict)
    """The empty ones, by (vCPU, TSC)."""
    summary: Json = field(default_factory=dict)


def read_truth(path: Path) -> Truth:
    """Read a truth file."""
    truth = Truth()
    for line in map(json.loads, path.read_text().splitlines()):
        if "provoked_by" in line:
            truth.runs[line["run"], line["tsc"]] = line
        elif "send" in line:
            truth.sends[line["send"], line["tsc"]] = line
        elif "empty_upcall" in line:
            truth.upcalls[line["empty_upcall"], line["tsc"]] = line
        elif "summary" in line:
            truth.summary = line
    return truth


def read_entries(trace: Trace) -> dict[int, int]:
    """Give the TSC of the entry of each call, by its rank."""
    return {row.seq: row.tsc_lo for row in trace.rows() if row.kind == Kind.CALL_ENTER}


def compare(results: Results, entries: dict[int, int], truth: Truth) -> list[str]:
    """List where the verdicts of a replay differ from the truth."""
    return [
        *_compare_runs(results, truth),
        *_compare_sends(results, entries, truth),
        *_compare_upcalls(results, truth),
        *(f"divergence at seq {found.seq}: {found.what}" for found in results.divergences),
    ]


def _compare_runs(results: Results, truth: Truth) -> Iterator[str]:
    runs = {(f"d{run.dom}:{run.port}", run.tsc): run for run in results.runs}
    for key in sorted(runs.keys() ^ truth.runs.keys(), key=lambda key: key[1]):
        yield f"run of {key[0]} at {key[1]}: only in {'report' if key in runs else 'truth'}"
    for key in sorted(runs.keys() & truth.runs.keys(), key=lambda key: key[1]):
        run, true = runs[key], truth.runs[key]
        found = (str(run.cause), run.work is not None, run.eoi_delay)
        delay = true["delay"] if run.unmask_tsc is not None else None  # else it is still to come
        expected = (true["cause"], true["no_work"], delay)
        if found != expected:
            yield f"run of {key[0]} at {key[1]}: {found}, in truth {expected} ({run.reason})"


def _compare_sends(results: Results, entries: dict[int, int], truth: Truth) -> Iterator[str]:
    # A send's own TSC may be that of Xen's record, which comes after the entry.
    sends = {(f"d{send.dom}:{send.port}", entries[send.seq]): send for send in results.sends}
    for key in sorted(sends.keys() ^ truth.sends.keys(), key=lambda key: key[1]):
        yield f"send on {key[0]} at {key[1]}: only in {'report' if key in sends else 'truth'}"
    for key in sorted(sends.keys() & truth.sends.keys(), key=lambda key: key[1]):
        true, woke = truth.sends[key], Route.POLL_WAKE in sends[key].routes
        found, expected = str(sends[key].fate), true["fate"]
        if (found, woke) != (expected, true["poll_wake"]):
            reason = f"{sends[key].reason}; {sends[key].routes}"
            yield f"send on {key[0]} at {key[1]}: {found}, in truth {expected} ({reason})"


def _compare_upcalls(results: Results, truth: Truth) -> Iterator[str]:
    found = {f"d{dom}": results.empty_upcalls[dom] for dom in sorted(results.upcalls)}
    expected = truth.summary.get("empty_upcalls")
    if found != expected:
        yield f"empty upcalls: {found}, in truth {expected}"
    upcalls = {(f"d{up.dom}v{up.vcpu}", up.tsc): up for up in results.empty}
    for key in sorted(upcalls.keys() & truth.upcalls.keys(), key=lambda key: key[1]):
        verdict, true = str(upcalls[key].verdict), truth.upcalls[key]["verdict"]
        if verdict != true:
            reason = upcalls[key].reason
            yield f"upcall of {key[0]} at {key[1]}: {verdict}, in truth {true} ({reason})"


@dataclass(slots=True)
class Outcome:
    """What the seeds of one combination came to."""

    runs: int = 0
    sends: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)


def judge(scenario: str, settings: Settings, folder: Path) -> tuple[Results, list[str]]:
    """Record a scenario, replay it, and compare."""
    path, truth = folder / "trace.bin", folder / "truth.jsonl"
    record(Lab(settings), find_scenario(scenario), path, source=scenario, truth=truth, force=True)
    with Trace(path) as trace:
        results = trace.replay()
        return results, compare(results, read_entries(trace), read_truth(truth))


def judge_seeds(scenario: str, form: FormName, *, pvh: bool, seeds: int, folder: Path) -> Outcome:
    """Judge a scenario under many seeds."""
    outcome = Outcome()
    for seed in range(seeds):
        settings = Settings(seed=seed, chaos=True, form=form, pvh=pvh)
        results, differences = judge(scenario, settings, folder)
        outcome.runs += len(results.runs)
        outcome.sends += len(results.sends)
        outcome.causes.update(str(run.cause) for run in results.runs)
        outcome.differences += [f"seed {seed}: {text}" for text in differences]
    return outcome


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    names = options.scenarios or [entry.name for entry in list_scenarios()]
    wrong = 0
    print(f"{'scenario':14} {'form':5} {'kind':4} {'seeds':>5} {'runs':>8} {'sends':>8}  wrong")
    with tempfile.TemporaryDirectory() as folder:
        for name, form, pvh in product(names, FormName, (False, True)):
            found = judge_seeds(name, form, pvh=pvh, seeds=options.seeds, folder=Path(folder))
            kind = "pvh" if pvh else "pv"
            print(
                f"{name:14} {form:5} {kind:4} {options.seeds:5} {found.runs:8,} {found.sends:8,}"
                f"  {len(found.differences)}",
                flush=True,
            )
            print("".join(f"    {text}\n" for text in found.differences[:5]), end="")
            wrong += len(found.differences)
    print(f"{wrong} verdicts differ from the truth" if wrong else "every verdict equals the truth")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
