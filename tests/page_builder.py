"""Reports for pages: of a trace, or of as many runs and sends as wanted."""

import io
import random

from evtrace.analysis.contents import Source
from evtrace.analysis.page.page import write_page
from evtrace.analysis.page.tracks import Tracks, make_tracks
from evtrace.analysis.report import Report, make_report
from evtrace.api import Trace
from evtrace.replay.results import Results
from evtrace.tracefile.coverage import CoverageMap
from evtrace.tracefile.facts import Facts
from evtrace.tracefile.survey import Survey
from evtrace.verdicts import Cause, Contribution, ContributionKind, Fate, Run, Send

HZ = 2_000_000_000
MARKS_PER_DELIVERY = 4
"""A send, an arrow, an upcall and a run."""


def report_of(path) -> Report:
    """Give the report of a whole trace."""
    with Trace(path) as trace:
        return trace.report()


def tracks_of(path) -> Tracks:
    """Give what the page of a trace draws."""
    with Trace(path) as trace:
        return make_tracks(trace.report(), trace.batches)


def busy_report(deliveries: int, vcpus: int = 8) -> Report:
    """Give a report of so many sends and the runs that answer them, at times as if by chance."""
    chance = random.Random(deliveries)  # noqa: S311  a test's data
    results = Results()
    for number, tsc in enumerate(sorted(chance.choices(range(deliveries * 3_000), k=deliveries))):
        send, run = _delivery(number * 8, tsc, chance.randrange(vcpus), vcpus, chance)
        results.sends.append(send)
        results.runs.append(run)
    facts = Facts(tsc_hz=HZ, domain_names={dom: f"guest{dom}" for dom in range(vcpus)})
    coverage = CoverageMap(facts, Survey(facts))
    end_tsc = deliveries * 4_000
    return make_report(Source("busy.bin", "HEAD", facts, coverage, results, list, end_tsc))


def _delivery(seq: int, tsc: int, dom: int, vcpus: int, chance: random.Random) -> tuple[Send, Run]:
    sender, port = (dom + 1) % vcpus, dom * 3 + 8
    start = tsc + int(chance.lognormvariate(8, 1))
    end = start + chance.randrange(300, 3_000)
    cause = Contribution(ContributionKind.SEND, seq, tsc, tsc, sender, 0, port)
    send = Send(seq, sender, 0, port, dom, port, tsc, tsc, 0, Fate.DELIVERED, run_seq=seq + 5)
    run = Run(seq + 5, dom, 0, port, port + 40, start, start, end, start - 300)
    run.cause, run.contributors = Cause.SEND, [cause]
    run.reason = f"sent by d{sender}:{port}"
    return send, run


def page_of(report: Report) -> bytes:
    """Give the page of a report that has no timeline of its own."""
    file = io.BytesIO()
    write_page(file, report, list)
    return file.getvalue()
