"""Reports for pages: of a trace, or of as many runs and sends as wanted."""

import io
import random
from dataclasses import replace

import polars as pl

from evtrace.analysis.page.page import write_page
from evtrace.analysis.page.tracks import Tracks, make_tracks
from evtrace.analysis.report import Report, Scope, make_report
from evtrace.api import Trace
from evtrace.replay.results import Results
from evtrace.tracefile.coverage import CoverageMap
from evtrace.tracefile.facts import Facts
from evtrace.tracefile.survey import Survey
from evtrace.verdicts import runs_schema, sends_schema

HZ = 2_000_000_000
MARKS_PER_DELIVERY = 4
"""A send, an arrow, an upcall and a run."""


def report_of(path) -> Report:
    """Give the report of a whole trace."""
    with Trace(path) as trace:
        return make_report(
            trace.reader.name, "HEAD", trace.facts, trace.coverage, trace.replay(), Scope()
        )


def tracks_of(path) -> Tracks:
    """Give what the page of a trace draws."""
    with Trace(path) as trace:
        results = trace.replay()
        made = make_report("x", "HEAD", trace.facts, trace.coverage, results, Scope())
        return make_tracks(made, trace.timeline)


def busy_report(deliveries: int, vcpus: int = 8) -> Report:
    """Give a report of so many sends and the runs that answer them, at times as if by chance."""
    chance = random.Random(deliveries)  # noqa: S311  a test's data
    facts = Facts(tsc_hz=HZ, domain_names={dom: f"guest{dom}" for dom in range(vcpus)})
    empty = make_report(
        "busy.bin", "HEAD", facts, CoverageMap(facts, Survey(facts)), Results(), Scope()
    )
    sent = sorted(chance.randrange(deliveries * 3_000) for _ in range(deliveries))
    to = [chance.randrange(vcpus) for _ in range(deliveries)]
    late = [int(chance.lognormvariate(8, 1)) for _ in range(deliveries)]
    row = pl.int_range(deliveries, dtype=pl.UInt64)
    base = pl.DataFrame({"tsc": sent, "dom": to, "late": late}).with_columns(
        seq=row * 8 + 5,
        sender=(pl.col("dom") + 1) % vcpus,
        vcpu=pl.lit(0),
        port=pl.col("dom") * 3 + 8,
    )
    return replace(empty, runs=_runs(base), sends=_sends(base), causes={"SEND": deliveries})


def _runs(base: pl.DataFrame) -> pl.DataFrame:
    sent = pl.struct(
        kind=pl.lit("SEND"),
        seq=pl.col("seq") - 5,
        tsc="tsc",
        tsc_hi="tsc",
        dom="sender",
        vcpu="vcpu",
        port="port",
        masked=pl.lit(value=False),
        inferred=pl.lit(""),
    )
    start = pl.col("tsc") + pl.col("late")
    frame = base.select(
        "seq",
        "dom",
        "vcpu",
        "port",
        tsc=start,
        tsc_hi=start,
        upcall_tsc=start - 300,
        exit_tsc=start + 500 + pl.col("late") % 997,
        irq=pl.col("port") + 40,
        cause=pl.lit("SEND"),
        reason=pl.format("sent by d{}:{}", "sender", "port"),
        evidence=pl.lit("observed"),
        contributors=pl.concat_list(sent),
    )
    return _completed(frame, runs_schema()).sort("tsc")


def _sends(base: pl.DataFrame) -> pl.DataFrame:
    frame = base.select(
        "vcpu",
        "port",
        "tsc",
        seq=pl.col("seq") - 5,
        dom="sender",
        to_dom="dom",
        to_port="port",
        tsc_hi="tsc",
        rc=pl.lit(0),
        fate=pl.lit("DELIVERED"),
        reason=pl.lit(""),
        run_seq="seq",
        entered_tsc="tsc",
    )
    return _completed(frame, sends_schema())


def _completed(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    missing = [pl.lit(None).alias(name) for name in schema if name not in frame.columns]
    return frame.with_columns(missing).select(schema.names()).cast(schema)


def page_of(report: Report) -> bytes:
    """Give the page of a report that has no timeline of its own."""
    file = io.BytesIO()
    write_page(file, report, list)
    return file.getvalue()
