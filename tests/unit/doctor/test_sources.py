"""The doctor's sources: dumps, lsevtchn and QEMU's lists, apart and together."""

import pytest

from evtrace.replay.doctor.examination import Diagnosis, examine
from evtrace.replay.doctor.findings import Code
from evtrace.snapshot import Snapshot
from evtrace.tracer.importers.recognition import read_snapshots
from evtrace.verdicts import Severity


def dump(*domains: tuple[int, list[str]]) -> Snapshot:
    lines = ["'e' pressed -> dumping event-channel info"]
    for dom, ports in domains:
        lines += [f"Event channel information for domain {dom}:", *ports]
    return listed("\n".join([*lines, "No domains have emulated TSC", ""]))


def ipi(port: int, bits: str = "0/0/0") -> str:
    return f" {port:4} [{bits}]: s=6 n=0 x=0"


def codes(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    return [(one.where, one.code.name) for one in diagnosis.findings]


def listed(text: str, dom: int | None = None) -> Snapshot:
    return read_snapshots("list", text, dom)[0]


def test_the_dump_and_lsevtchn_are_compared():
    text = "   4: VCPU 1: IPI\n   5: VCPU 0: Virtual IRQ 3\n   7: VCPU 0: IPI\n"
    own = [ipi(4), "    5 [0/0/0]: s=5 n=0 x=0 v=3", ipi(6), ipi(9)]

    found = examine([dump((0, own)), listed(text, 0)]).findings

    reasons = {one.where: one.reason for one in found if one.code is Code.SOURCES_DISAGREE}
    assert {
        "d0:4": "the dump shows an IPI (vCPU 0), lsevtchn an IPI (vCPU 1)",
        "d0:6": "the dump shows an IPI (vCPU 0), lsevtchn it closed",
        "d0:7": "the dump shows it closed, lsevtchn an IPI (vCPU 0)",
    } == reasons  # port 9 may stand on a line of lsevtchn that was cut off


def test_lsevtchn_leaves_out_or_stops_at_the_ports_of_xen():
    own = [ipi(1), *("    2 [0/1/0]: s=3 n=0 x=1 d=0 p=3", "    3 [0/0/0]: s=3 n=0 x=0 d=0 p=2")]
    for text in ("   1: VCPU 0: IPI\n# lsevtchn 1\n", "   1: VCPU 0: IPI\n"):
        found = codes(examine([dump((0, own), (1, [])), listed("# lsevtchn 0\n" + text)]))

        assert [("d0:2", "XEN_CONSUMER")] == found


def test_lists_of_different_domains_are_of_one_time():
    zero = listed("   4: VCPU 0: Interdomain (Connected) - Remote Domain 1, Port 9\n", 0)
    one = listed("   9: VCPU 0: Interdomain (Connected) - Remote Domain 0, Port 5\n", 1)

    diagnosis = examine([zero, one])

    found = codes(diagnosis)
    assert [("d0:4", "PEER_ELSEWHERE"), ("d0", "UNSETTLED")] == found
    assert [0, 1] == list(diagnosis.cases[0].now.domains)
    assert "lsevtchn does not show" in examine([zero]).verdict


QMP = """\
{"QMP": {"version": {}, "capabilities": []}}
{"return": {}}
{"return": [
 {"pending": false, "port": 1, "vcpu": 1, "remote-domain": "qemu", "masked": false,
  "type": "interdomain", "target": 1},
 {"pending": true, "port": 2, "vcpu": 0, "remote-domain": "", "masked": false,
  "type": "virq", "target": 0},
 {"pending": true, "port": 3, "vcpu": 0, "remote-domain": "loopback", "masked": true,
  "type": "interdomain", "target": 9},
 {"pending": true, "port": 4, "vcpu": 0, "remote-domain": "", "masked": true,
  "type": "ipi", "target": 0}
]}
"""
HMP = """\
(qemu) xen-event-list
port    1: vcpu: 1 interdomain(qemu:1)
port    2: vcpu: 0 virq(0) PENDING
port    3: vcpu: 0 interdomain(loopback:9) PENDING MASKED
port    4: vcpu: 0 ipi PENDING MASKED
(qemu)
"""


@pytest.mark.parametrize("text", [QMP, HMP])
def test_both_forms_of_qemus_list(text):
    expected = [
        ("d1:3", "HELD_MASKED"),
        ("d1:3", "PEER_PORT_CLOSED"),
        ("d1:2", "PENDING_UNTOLD"),
        ("d1:4", "KICK_IPI"),
    ]
    assert expected == codes(examine([listed(text)]))
    again = examine([listed(text), listed(text)])
    assert ("d1:2", Severity.WARNING) in [(one.where, one.severity) for one in again.findings]
    assert [5] == list(listed(text, 5).domains)


@pytest.mark.parametrize("text", [QMP, HMP])
def test_a_list_of_qemu_cut_anywhere_claims_no_peer_closed(text):
    start = text.index("true" if text is QMP else "virq")
    for end in range(start, len(text) - 8):
        found = codes(examine([listed(text[:end])]))

        assert not any(code == "PEER_PORT_CLOSED" for _, code in found), text[:end]
