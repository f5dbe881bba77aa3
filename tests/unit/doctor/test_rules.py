"""The doctor's rules, one channel at a time."""

import re
from pathlib import Path

import pytest

from evtrace.replay.doctor.examination import Diagnosis, examine
from evtrace.replay.doctor.findings import Code
from evtrace.snapshot import Snapshot
from evtrace.tracer.importers.recognition import read_snapshots
from evtrace.verdicts import Severity

PAGE = Path(__file__).parents[3] / "docs" / "doctor.md"
WHOLE = "No domains have emulated TSC"
FIFO_IDLE, FIFO_LINKED, NO_WORD = "  -   ", "  7   ", "?     "


def dump(*domains: tuple[int, list[str]], polling: str = "", after: str = WHOLE) -> Snapshot:
    lines = ["'e' pressed -> dumping event-channel info"]
    for dom, ports in domains:
        lines += [f"Event channel information for domain {dom}:", f"Polling vCPUs: {{{polling}}}"]
        lines += ["    port [p/m/s]", *ports]
    return read_snapshots("dump", "\n".join([*lines, after, ""]), None)[-1]


def ipi(port: int, bits: str, vcpu: int = 0) -> str:
    return f" {port:4} [{bits}]: s=6 n={vcpu} x=0"


def codes(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    return [(one.where, one.code.name) for one in diagnosis.findings]


def loop(bits: str, xen: int = 0) -> list[str]:
    """Give a domain's channel with itself, port 1 with the bits asked for."""
    return [
        f"    1 [{bits}]: s=3 n=0 x={xen} d=0 p=2",
        f"    2 [0/0/{bits[4:]}]: s=3 n=0 x=0 d=0 p=1",
    ]


@pytest.mark.parametrize(
    ("bits", "code", "once", "twice"),
    [
        ("1/0/  -   ", "UNLINKED", "warning", "error"),
        ("1/0/B -   ", "UNLINKED", "warning", "error"),
        ("1/0/0", "UNSELECTED", "warning", "error"),
        ("1/1/  -   ", "HELD_MASKED", "warning", "error"),
        ("1/1/1", "HELD_MASKED", "warning", "error"),
        ("1/0/  22  ", "NOT_TAKEN", "notice", "warning"),
        ("1/0/1", "NOT_TAKEN", "notice", "warning"),
        ("0/1/?     ", "NO_EVENT_WORD", "warning", "warning"),
        ("0/0/  22  ", "STALE_LINK", "normal", "normal"),
        ("0/1/0", None, None, None),
        ("0/0/1", None, None, None),
    ],
)
def test_the_bits_of_a_connected_port(bits, code, once, twice):
    for snapshots, severity in ((1, once), (2, twice)):
        found = examine([dump((0, loop(bits)))] * snapshots).findings
        about = [
            (one.code.name, one.severity.value, one.peer) for one in found if one.where == "d0:1"
        ]

        if code is None:
            assert found == ()
        else:
            peer = None if code == "STALE_LINK" else "d0:2"
            assert [(code, severity, peer)] == about


def test_ports_of_xen_are_named_and_not_judged():
    found = examine([dump((0, loop("1/0/  -   ", xen=1)))])

    assert [("d0:1", "XEN_CONSUMER")] == codes(found)
    assert not found.has_trouble


def test_the_spinlock_kick_is_normal_and_a_second_one_is_not():
    kicks = [ipi(2, "1/1/0"), ipi(3, "0/0/0"), ipi(4, "1/1/0", vcpu=1)]
    assert [("d0:2", "KICK_IPI"), ("d0:4", "KICK_IPI")] == codes(examine([dump((0, kicks))]))

    kicks[1] = ipi(3, "1/1/0")
    found = codes(examine([dump((0, kicks))]))
    assert [("d0:2", "MASKED_IPIS"), ("d0:3", "MASKED_IPIS"), ("d0:4", "KICK_IPI")] == found


def test_an_ipi_without_an_event_word_is_no_second_kick():
    ipis = [ipi(2, "1/1/  -   "), ipi(3, "0/1/?     ")]

    assert [("d0:3", "NO_EVENT_WORD"), ("d0:2", "KICK_IPI")] == codes(examine([dump((0, ipis))]))


def test_pollers():
    awake = dump((0, [ipi(2, "0/1/0", vcpu=3)]), polling="1,3-4")
    expected = [("d0v1", "POLLING"), ("d0v3", "POLLING"), ("d0v4", "POLLING")]
    assert expected == codes(examine([awake]))

    kicked = dump((0, [ipi(2, "1/1/0", vcpu=3)]), polling="3")
    assert [("d0v3", "KICKED_POLLER")] == codes(examine([kicked]))
    assert examine([kicked, kicked]).findings[0].severity is Severity.ERROR


def test_diagnostic_virqs_may_be_masked_and_a_console_may_not():
    virqs = ["    5 [1/1/0]: s=5 n=0 x=0 v=1", "    6 [1/1/0]: s=5 n=0 x=0 v=2"]

    found = codes(examine([dump((0, virqs))]))

    assert [("d0:6", "HELD_MASKED"), ("d0:5", "DIAGNOSTIC_VIRQ")] == found


def interdomain(port: int, peer: str) -> str:
    dom, _, far = peer.partition(":")
    return f" {port:4} [0/0/0]: s=3 n=0 x=0 d={dom} p={far}"


def unbound(port: int, dom: int, pending: int = 0) -> str:
    return f" {port:4} [{pending}/1/0]: s=2 n=0 x=0 d={dom}"


@pytest.mark.parametrize(
    ("near", "far", "expected"),
    [
        (unbound(4, 1), ipi(9, "0/0/0"), [("d0:4", "WAITING")]),
        (unbound(4, 7), ipi(9, "0/0/0"), [("d0:4", "WAITS_FOR_NOBODY")]),
        (unbound(4, 1, 1), ipi(9, "0/0/0"), [("d0:4", "PEER_CLOSED")]),
        (interdomain(4, "7:1"), ipi(9, "0/0/0"), [("d0:4", "PEER_DOMAIN_GONE")]),
        (interdomain(4, "1:8"), ipi(9, "0/0/0"), [("d0:4", "PEER_PORT_CLOSED")]),
        (interdomain(4, "1:9"), ipi(9, "0/0/0"), [("d0:4", "PEER_UNCONNECTED")]),
        (interdomain(4, "1:9"), unbound(9, 0), [("d0:4", "PEER_UNCONNECTED"), ("d1:9", "WAITING")]),
        (interdomain(4, "1:9"), interdomain(9, "0:4"), []),
    ],
)
def test_the_two_ends(near, far, expected):
    assert expected == codes(examine([dump((0, [near]), (1, [far]))]))


def test_an_end_connected_elsewhere():
    near = [interdomain(4, "1:9"), interdomain(5, "1:9")]

    assert [("d0:5", "PEER_ELSEWHERE")] == codes(
        examine([dump((0, near), (1, [interdomain(9, "0:4")]))]),
    )


def test_what_a_text_does_not_show_is_not_taken_for_absent():
    near = (0, [interdomain(4, "1:8"), interdomain(5, "3:1"), unbound(6, 4)])
    whole = dump(near, (1, [ipi(7, "0/0/0")]), (2, []))
    assert not any(code == "UNSETTLED" for _, code in codes(examine([whole])))

    open_end = dump(near, (1, [ipi(7, "0/0/0")]), after="")
    assert [("d1", "UNSETTLED"), ("d3", "UNSETTLED"), ("d4", "UNSETTLED")] == codes(
        examine([open_end]),
    )
    garbled = dump(near, (1, ["    7 [0/0/0]: s=6 n=[ 3.1] xenbus"]), (2, []))
    assert ("d1", "UNSETTLED") in codes(examine([garbled]))


def test_a_lost_header_gives_no_port_to_the_wrong_domain():
    text = "Event channel information for domain 0:\n" + "\n".join(
        [ipi(1, "0/0/0"), ipi(8, "0/0/0")]
    )
    text += "\nEvent channel info[  3.1] xenbus\n" + "\n".join([ipi(1, "1/0/0"), ipi(2, "0/0/0")])

    (snapshot,) = read_snapshots("dump", text + "\n", None)

    assert [1, 8] == list(snapshot.domains[0])
    assert examine([snapshot]).findings == ()
    assert snapshot.extent.headless


def test_a_number_that_a_line_break_cuts_is_not_believed():
    near = interdomain(4, "1:9")
    whole = dump((0, [near]), (1, [interdomain(9, "0:41"), ipi(10, "0/0/0")]))
    wrapped = dump((0, [near]), (1, [interdomain(9, "0:4") + "\n1", ipi(10, "0/0/0")]))

    assert ("d0:4", "PEER_ELSEWHERE") in codes(examine([whole]))
    assert [("d1", "UNSETTLED")] == codes(examine([wrapped]))
    assert [10] == list(wrapped.domains[1])


def test_duplicate_virqs():
    virqs = [
        f"   {port} [0/0/0]: s=5 n={vcpu} x=0 v={virq}"
        for port, vcpu, virq in (
            (1, 0, 0),
            (2, 1, 0),
            (3, 0, 0),
            (4, 0, 3),
            (5, 1, 3),
        )
    ]

    found = codes(examine([dump((0, virqs))]))

    assert [("d0:3", "DUPLICATE_VIRQ"), ("d0:5", "DUPLICATE_VIRQ")] == found


def test_vcpus_that_key_q_does_not_list():
    after = """\
(XEN) 'q' pressed -> dumping domain info (now = 727929105981)
(XEN) VCPU information and callbacks for domain 0:
(XEN)     VCPU0: CPU3 [has=F] poll=0 upcall_pend=01 upcall_mask=01
(XEN)     pause_count=0 pause_flags=1"""
    snapshot = dump(
        (0, [ipi(2, "0/0/0"), ipi(3, "0/0/0", vcpu=2)]), (1, [ipi(1, "0/0/0", 9)]), after=after
    )

    assert [("d0:3", "NO_SUCH_VCPU")] == codes(examine([snapshot]))


def test_between_two_dumps_a_port_that_moved_is_alive():
    busy = dump((0, loop("1/0/  -   ")))
    idle = dump((0, loop("0/0/  -   ")))

    assert [("d0:1", "ALIVE")] == codes(examine([busy, idle]))
    (again,) = examine([idle, busy]).findings
    assert (Code.UNLINKED, Severity.WARNING) == (again.code, again.severity)


def test_between_two_dumps_a_peer_closed():
    before = dump((0, [interdomain(4, "1:9")]), (1, [interdomain(9, "0:4")]))
    now = dump((0, [unbound(4, 1)]), (1, []))

    assert [("d0:4", "PEER_CLOSED")] == codes(examine([before, now]))


def test_the_page_explains_every_code_and_no_other():
    rows = re.findall(r"^\| `(EVT\d+)` \| `(\w+)` \| (.+?) \|", PAGE.read_text(), re.MULTILINE)

    assert [(code.value, code.name) for code in Code] == [row[:2] for row in rows]
    assert {word for row in rows for word in row[2].split(" → ")} == set(map(str, Severity))
