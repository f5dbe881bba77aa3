"""The stored stock captures: against the programs' own logs, and against xenalyze."""

import re
from collections import Counter
from functools import partial

import pytest

from evtrace.analysis.stock.analyse import analyse_stock
from evtrace.analysis.stock.fold import StockFold
from evtrace.analysis.stock.gaps import Gaps
from evtrace.analysis.stock.hypercalls import Timing
from evtrace.api import Trace
from evtrace.tracefile.family import HzSource
from evtrace.tracefile.reader import open_trace
from evtrace.tracefile.rows import annotated
from tests.conftest import FTRACE_CAPTURES, SOURCES
from tests.stock.found import find, vcpu
from tests.xenalyze import with_xenalyze, xenalyze

D0V0, D0V1, D1V0 = vcpu(0, 0), vcpu(0, 1), vcpu(1, 0)
SEND = 32
NEAR = 1_000_000
"""Cycles that an emulated CPU may be held up around a call."""
NOTIFY = re.compile(r"(\d+) (\w) notify([<>])")


def capture(name):
    return SOURCES / name / "xentrace.bin.zst"


def brackets(name, log):
    """Give when each notification began and ended by the TSCs of the program's own log."""
    began = dict[str, int]()
    found = list[tuple[int, int]]()
    for line in (SOURCES / name / log).read_text().splitlines():
        if match := NOTIFY.match(line):
            tsc, who, step = match.groups()
            if step == ">":
                began[who] = int(tsc)
            else:
                found.append((began.pop(who), int(tsc)))
    return sorted(found)


def report(path):
    with open_trace(path) as reader:
        return analyse_stock(annotated(reader), reader.survey, reader.facts.tsc_hz)


def table(made, name):
    return {found.name: found.frame for found in made.tables}[name]


@pytest.fixture(scope="module")
def ping_pong():
    return find(capture("pv_fifo_evpp30_stock"))


def test_each_round_of_the_ping_pong_is_found_once(ping_pong):
    asked = brackets("pv_fifo_evpp30_stock", "dom0.evpp.txt")
    answered = brackets("pv_fifo_evpp30_stock", "dom1.evpp.txt")
    rounds = [r for r in ping_pong.rounds if (r.caller, r.answerer) == (D0V1, D1V0)]

    assert 30 == len(asked) == len(answered)
    for (ask, asked_by), (answer, answered_by) in zip(asked, answered, strict=True):
        (found,) = [r for r in rounds if ask <= r.start <= asked_by]
        assert answer <= found.reply <= answered_by
    in_brackets = [r for r in rounds if asked[0][0] <= r.start <= asked[-1][1]]
    assert (27, 3) == (
        sum(not r.inferred for r in in_brackets),
        sum(r.inferred for r in in_brackets),
    )


def test_what_the_notifications_woke_lies_in_their_brackets(ping_pong):
    asked = brackets("pv_fifo_evpp30_stock", "dom0.evpp.txt")
    woken = [
        chain
        for chain in ping_pong.chains
        if (chain.by, chain.runner, chain.target) == (SEND, D0V1, D1V0)
        and asked[0][0] <= chain.tsc <= asked[-1][1]
    ]

    places = [[lo <= c.led_tsc < c.tsc <= hi for lo, hi in asked].count(True) for c in woken]
    assert [1] * 29 == places  # in one round the target's own timer had just woken it


def test_each_notification_of_a_domain_to_itself_is_part_of_a_round():
    rounds = find(capture("dom0_self50_stock")).rounds
    asked = brackets("dom0_self50_stock", "dom0.evpp.txt")
    missed = [
        (lo, hi)
        for lo, hi in asked
        if not any(lo <= found.start <= hi or lo <= found.reply <= hi for found in rounds)
    ]

    assert (100, []) == (len(asked), missed)


def test_the_verdict_names_who_woke_whom_and_how_fast():
    verdict = report(capture("pv_fifo_evpp30_stock")).verdict

    assert verdict.startswith(
        "392 event-channel hypercalls by 3 vCPUs; d0v1 woke d1v0 30 times; "
        "27 round trips d0v1→d1v0→d0v1 seen and 4 inferred; wake→running p50 "
    )


def test_the_frequency_is_calibrated_from_the_file():
    with open_trace(capture("pv_fifo_evpp30_stock")) as reader:
        facts = reader.facts

    assert HzSource.CALIBRATED is facts.tsc_hz_source
    assert 2_300_000_000 == pytest.approx(facts.tsc_hz, rel=1e-3)


def test_ports_are_joined_from_the_snapshot(imported):
    made = report(imported("pv_fifo_evpp30_stock"))
    ports = {(row["wake"], row["by"]): row["ports"] for row in table(made, "wakes").to_dicts()}

    assert "d0:26" == ports["irq 29→d0v0", "interrupt"]
    assert "d1:3" == ports["xen→d1v0", "nothing visible"]
    assert "4 ports" == ports["d0v1→d1v0", "event_channel_op"]


def test_an_offered_port_may_have_been_bound_since(imported):
    made = report(imported("pv_fifo_blog"))
    ports = {(row["wake"], row["by"]): row["ports"] for row in table(made, "wakes").to_dicts()}

    # xenstore's, the console's, and d1:8, which the demonstration binds
    assert "3 ports" == ports["d0v0→d1v0", "event_channel_op"]


def test_without_a_snapshot_no_port_is_named():
    assert table(report(capture("pv_fifo_evpp30_stock")), "wakes")["ports"].is_null().all()


def test_hypercalls_of_a_pvh_guest_are_timed_exactly():
    calls = table(report(capture("pvh_blog")), "hypercalls").to_dicts()
    timings = {(row["vcpu"], row["time_is"]) for row in calls}

    assert ("d1v0", "exact") in timings
    assert ("d1v0", "at most") not in timings
    assert ("d0v0", "exact") not in timings


def test_a_woken_pvh_guest_is_entered_with_the_callback_vector():
    chains = [c for c in find(capture("pvh_blog")).chains if c.target == D1V0 and c.entry_tsc]

    assert chains
    assert {0xF3} == {chain.vector for chain in chains}


def test_without_scheduler_records_hypercalls_are_nobodys():
    made = report(capture("pv_fifo_evpp100_pv_only"))
    (calls,) = made.tables

    assert "hypercalls" == calls.name
    assert {"not known"} == set(calls.frame["vcpu"])
    assert "p50_cycles" in calls.frame.columns  # nothing tells the frequency
    assert made.verdict == "1,120 event-channel hypercalls."


def test_without_hypercalls_it_is_not_known_who_woke_whom():
    sources = {
        (row["wake"].partition("→")[0], row["by"])
        for row in table(report(capture("pv_2l_sched_only")), "wakes").to_dicts()
    }

    # where nobody ran, it was Xen
    assert {
        ("not known", "no hypercalls of d0"),
        ("not known", "no hypercalls of d1"),
        ("xen", "nothing visible"),
    } == sources


@pytest.mark.parametrize("name", FTRACE_CAPTURES)
def test_the_wakers_sent_by_what_was_seen_inside_the_domains(name, imported):
    with Trace(imported(name)) as trace:
        sends = trace.replay().sends
    said = [chain for chain in find(capture(name)).chains if chain.by == SEND]
    unsent = [chain for chain in said if not any(map(partial(led_to, chain), sends))]

    assert len(said) > 50
    assert len(unsent) <= 1  # xentrace's own, as it starts
    unsaid = [
        chain
        for chain in find(capture(name)).chains
        if chain.by is None and any(map(partial(contains, chain), sends))
    ]
    assert [] == unsaid


def led_to(chain, send):
    """Tell whether a send of the waker to the domain that is woken was under way by its record."""
    return send.tsc - NEAR <= chain.led_tsc <= send.tsc_hi + NEAR and between(chain, send)


def contains(chain, send):
    """Tell whether a wake-up happened within a send of who ran to the domain that is woken."""
    return send.tsc <= chain.tsc <= send.tsc_hi and between(chain, send)


def between(chain, send):
    """Tell whether a send is by who ran, to the domain that is woken."""
    if chain.runner is None:
        return False
    return (send.dom, send.vcpu, send.to_dom) == (
        *divmod(chain.runner, 1 << 16),
        chain.target >> 16,
    )


def test_gaps_are_told_and_nothing_reaches_across_them():
    made = report(capture("dom0_lost"))
    found = find(capture("dom0_lost"))
    lost = table(made, "gaps")

    assert [(0, 1, 45_082), (1, 1, 45_951)] == lost.select("pcpu", "windows", "records").rows()
    last = max(lost["to_tsc"])
    for wait in found.waits:
        assert wait.end < min(lost["from_tsc"]) or wait.start > last
    assert [(0, 0)] == [
        (sum(lo <= c.tsc <= hi for c in found.chains), found.machine.order.odd)
        for lo, hi in [lost.select("from_tsc", "to_tsc").row(1)]
    ]


CALLS = re.compile(r" +[a-z_]+ +\[ ?(\d+)\]: +(\d+)$")
STATE = re.compile(r" +(running|runnable|blocked): +(\d+) +[\d.]+s +(\d+) ")


def told_by_xenalyze(path):
    """Give what xenalyze counts: hypercalls by (dom, vcpu, op), cycles by (dom, vcpu, state)."""
    calls, cycles = Counter[tuple[int, int, int]](), Counter[tuple[int, int, str]]()
    dom = number = 0
    for line in xenalyze(path, "-s"):
        if found := re.match(r"\|-- Domain (\d+) --\|", line):
            dom, number = int(found[1]), -1
        elif found := re.match(r"-- v(\d+) --", line):
            number = int(found[1])
        elif number >= 0 and (found := CALLS.match(line)):
            calls[dom, number, int(found[1])] += int(found[2])
        elif number >= 0 and (found := STATE.match(line)):
            cycles[dom, number, found[1]] = int(found[2]) * int(found[3])
    return calls, cycles


@with_xenalyze
@pytest.mark.parametrize("name", ["pv_fifo_evpp30_stock", "dom0_self50_stock"])
def test_xenalyze_counts_the_same(name, tmp_path):
    with open_trace(capture(name)) as reader:
        plain = tmp_path / "plain.bin"
        plain.write_bytes(reader.bytes_between(0, reader.size_bytes))
        fold = StockFold(Gaps(reader.survey.lost, reader.survey.last_tscs))
        for batch in annotated(reader):
            fold.take(batch)
    calls, cycles = told_by_xenalyze(plain)
    ours = Counter[tuple[int, int, int]]()
    for key, count in fold.hypercalls.counts.items():
        assert key.timing is not Timing.EXACT
        assert key.vcpu is not None
        ours[key.vcpu >> 16, key.vcpu & 0xFFFF, key.op] += count

    assert calls.keys() == ours.keys()
    # what comes before a pCPU's first switch is nobody's to xenalyze
    assert all(0 <= ours[key] - calls[key] <= 3 for key in ours)
    for number, state in fold.machine.vcpus.items():
        for place, name_of_state in enumerate(("running", "runnable", "blocked")):
            told = cycles[number >> 16, number & 0xFFFF, name_of_state]
            # xenalyze adds what a vCPU ran before its first switch and after its last
            assert told == pytest.approx(state.cycles[place], rel=0.03)
