"""Runs and sends built in one line, and the tables made of them."""

import polars as pl

from evtrace.replay.results import Results
from evtrace.timeline import RecordClass
from evtrace.tracefile.coverage import CoverageMap
from evtrace.tracefile.facts import Coverage, Facts
from evtrace.tracefile.survey import Survey
from evtrace.verdicts import Cause, Contribution, ContributionKind, Fate, Run, Send


def part(kind: str, seq: int, tsc: int, dom: int = 1, port: int = 8, **more) -> Contribution:
    """Build a contribution at an exact time."""
    return Contribution(
        ContributionKind[kind], seq, tsc, tsc, dom, more.pop("vcpu", 0), port, **more
    )


def run(seq: int, *parts: Contribution, **more) -> Run:
    """Build a run of d0:33 at TSC 500; its cause is SEND unless it says otherwise."""
    tsc = more.pop("tsc", 500)
    where = more.pop("dom", 0), more.pop("vcpu", 0), more.pop("port", 33), 95
    more.setdefault("cause", Cause.SEND)
    return Run(seq, *where, tsc, tsc, contributors=list(parts), **more)


def send(seq: int, tsc: int, fate: str = "DELIVERED", dom: int = 1, port: int = 8, **more) -> Send:
    """Build a send to d0:33."""
    to_dom, to_port = more.pop("to", (0, 33))
    vcpu = more.pop("vcpu", 0)
    return Send(seq, dom, vcpu, port, to_dom, to_port, tsc, tsc, 0, Fate[fate], **more)


def frames(
    runs: list[Run], sends: list[Send] | None = None, device: str | None = "eth0"
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give the tables of runs, with their device, and of sends."""
    results = Results(runs=runs, sends=sends or [])
    named = results.runs_frame().with_columns(device=pl.lit(device, pl.String))
    return named, results.sends_frame()


def covering(classes: RecordClass, dom: int | None = None) -> CoverageMap:
    """Give a map in which these classes were captured for a domain, or for all, all the time."""
    facts = Facts(coverage=[Coverage(dom, None, classes, 0, 1 << 40)])
    return CoverageMap(facts, Survey(facts))
